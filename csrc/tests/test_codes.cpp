// Codes: every kernel against a plain sum of integers, and distances against those of the rows that were encoded.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <thread>

#include "check.hpp"
#include "codes.hpp"
#include "samples.hpp"

namespace vecdb::test {
namespace {

constexpr Metric kMetrics[] = {Metric::cosine, Metric::dot, Metric::l2};

std::vector<std::size_t> dims_around_every_block() {
  std::vector<std::size_t> dims = {255, 256, 300, 384, 768, 1000, kMaxCodeRun};
  for (std::size_t dim = 1; dim <= 130; ++dim) dims.push_back(dim);
  return dims;
}

std::int64_t plain_dot(const std::int8_t* a, const std::int8_t* b, std::size_t dim) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < dim; ++i) sum += static_cast<std::int64_t>(a[i]) * static_cast<std::int64_t>(b[i]);
  return sum;
}

std::int32_t plain_sum(const std::int8_t* a, std::size_t dim) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < dim; ++i) sum += a[i];
  return sum;
}

// Codes of dim, readable up to a whole block, of which nothing beyond dim may count.
struct Sample {
  explicit Sample(std::size_t dim) : codes((dim + kCodeBlock - 1) / kCodeBlock * kCodeBlock, -128) {}
  std::vector<std::int8_t> codes;
};

Sample random_codes(std::mt19937_64& random, std::size_t dim) {
  Sample sample(dim);
  for (std::size_t i = 0; i < dim; ++i) sample.codes[i] = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
  return sample;
}

// Period 1: the same code throughout; 2: alternating signs.
Sample extreme_codes(std::size_t dim, int first, std::size_t period) {
  Sample sample(dim);
  for (std::size_t i = 0; i < dim; ++i) sample.codes[i] = static_cast<std::int8_t>(i % period == 0 ? first : -first);
  return sample;
}

void check_dots(const Sample& a, const Sample& b, std::size_t dim) {
  const std::int8_t* const x = a.codes.data();
  const std::int8_t* const y = b.codes.data();
  const std::int64_t expected = plain_dot(x, y, dim);
  for (const CodeKernels& kernels : available_code_kernels()) {
    CHECK_EQUAL(expected, static_cast<std::int64_t>(kernels.dot(x, y, dim)));
    CHECK_EQUAL(expected, static_cast<std::int64_t>(kernels.dot_summed(x, plain_sum(x, dim), y, dim)));
  }
}

TEST(every_code_kernel_gives_the_exact_sum_at_every_dimension) {
  std::mt19937_64 random = seeded("code kernels", 31);
  for (const std::size_t dim : dims_around_every_block()) {
    check_dots(random_codes(random, dim), random_codes(random, dim), dim);
  }
}

TEST(no_code_kernel_saturates_on_extreme_codes) {
  for (const std::size_t dim : dims_around_every_block()) {
    for (const std::size_t period : {std::size_t{1}, std::size_t{2}}) {
      for (const int first : {127, -127}) {
        check_dots(extreme_codes(dim, 127, 1), extreme_codes(dim, first, period), dim);
        check_dots(extreme_codes(dim, -127, period), extreme_codes(dim, first, period), dim);
        check_dots(extreme_codes(dim, -127, period), extreme_codes(dim, 127, 1), dim);
      }
    }
  }
}

// Eight queries as blocks want them: side by side, and by eight dimensions.
struct TileCodes {
  TileCodes(std::mt19937_64& random, std::size_t dim)
      : stride((dim + 63) / 64 * 64), codes(kTileQueries * stride, 0), octets(codes.size()) {
    for (std::size_t q = 0; q < kTileQueries; ++q) {
      const Sample query = q == 0 ? extreme_codes(dim, -127, 1) : random_codes(random, dim);
      std::copy_n(query.codes.begin(), dim, codes.begin() + static_cast<std::ptrdiff_t>(q * stride));
      sums[q] = plain_sum(query.codes.data(), dim);
    }
    for (std::size_t q = 0; q < kTileQueries; ++q) {
      for (std::size_t i = 0; i < stride; ++i) {
        octets[i / 8 * 8 * kTileQueries + q * 8 + i % 8] = codes[q * stride + i];
      }
    }
  }

  const std::int8_t* of(std::size_t query) const { return codes.data() + query * stride; }

  std::size_t stride;
  std::vector<std::int8_t> codes, octets;
  std::int32_t sums[kTileQueries];
};

constexpr float kFar = std::numeric_limits<float>::infinity();
constexpr float kNoLimits[kTileQueries] = {kFar, kFar, kFar, kFar, kFar, kFar, kFar, kFar};

// As tile kernels promise: no row is left out that is within a limit, and those that are reported have their distances.
void check_near(CodeBlocks::Tile tile, const CodeTileView& view, const CodeRows& rows, std::size_t dim, const std::vector<float>& exact,
                const float* limits) {
  std::vector<float> distances(exact.size(), -1.25F);
  const std::uint32_t near = tile(view, rows, dim, limits, distances.data());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const bool is_reported = (near >> i / kTileQueries & 1) != 0;
    CHECK(is_reported || exact[i] > limits[i % kTileQueries]);
    if (is_reported) CHECK_EQUAL(exact[i], distances[i]);
  }
}

TEST(every_block_kernel_gives_the_bits_of_single_distances) {
  std::mt19937_64 random = seeded("blocks", 32);
  for (const std::size_t dim : dims_around_every_block()) {
    const TileCodes tile(random, dim);
    const std::vector<float> scales = normal_values(random, kTileQueries);
    const std::vector<float> norms = {0.0F, 1e3F, 1e6F, 0.5F, 1e30F, std::numeric_limits<float>::infinity(), 7.0F, 1e-3F};
    const CodeTileView view{tile.codes.data(), tile.octets.data(), tile.stride, tile.sums, scales.data(), norms.data()};
    std::vector<Sample> samples;
    for (std::size_t r = 0; r < kBlockRows; ++r) samples.push_back(r == 3 ? extreme_codes(dim, 127, 2) : random_codes(random, dim));
    CodeRows rows;
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      rows.codes[r] = samples[r].codes.data();
      rows.scales[r] = 0.37F + static_cast<float>(r);
      rows.squared_norms[r] = r == 2 ? std::numeric_limits<float>::infinity() : 1234.5F * static_cast<float>(r);
    }
    for (const CodeBlocks& blocks : available_code_blocks()) {
      std::vector<float> squared(kBlockRows * kTileQueries), negated(squared.size()), one_squared(kBlockRows), one_negated(kBlockRows);
      CHECK_EQUAL(0xFFU, blocks.tile_l2(view, rows, dim, kNoLimits, squared.data()));
      CHECK_EQUAL(0xFFU, blocks.tile_dot(view, rows, dim, kNoLimits, negated.data()));
      for (std::size_t q = 0; q < kTileQueries; ++q) {
        const CodeQueryView query{tile.of(q), tile.sums[q], view.measure(q)};
        blocks.rows_l2(query, rows, dim, one_squared.data());
        blocks.rows_dot(query, rows, dim, one_negated.data());
        for (std::size_t r = 0; r < kBlockRows; ++r) {
          const float dot = static_cast<float>(plain_dot(tile.of(q), rows.codes[r], dim));
          const float expected_squared = CodeL2::of(view.measure(q), rows.measure(r), dot);
          const float expected_negated = CodeDot::of(view.measure(q), rows.measure(r), dot);
          CHECK_EQUAL(expected_squared, squared[r * kTileQueries + q]);
          CHECK_EQUAL(expected_negated, negated[r * kTileQueries + q]);
          CHECK_EQUAL(expected_squared, one_squared[r]);
          CHECK_EQUAL(expected_negated, one_negated[r]);
        }
      }
      for (std::size_t r = 0; r < kBlockRows; ++r) {
        check_near(blocks.tile_l2, view, rows, dim, squared, squared.data() + r * kTileQueries);
        check_near(blocks.tile_dot, view, rows, dim, negated, negated.data() + r * kTileQueries);
      }
    }
  }
}

TEST(the_best_code_kernels_of_this_cpu_are_in_use) {
  CHECK_EQUAL(std::string(available_code_blocks().back().name), std::string(code_blocks().name));
  CHECK_EQUAL(std::string(available_code_kernels().back().name), std::string(code_kernels().name));
  CHECK_EQUAL(std::string("plain"), std::string(available_code_kernels().front().name));
}

// The largest error of the kernel distance: a code is off by at most half a step of largest / 127 in each dimension, and the
// scale of least squares makes no row's error larger than that, only smaller.
double error_bound(Metric metric, const float* a, const float* b, std::size_t dim) {
  const auto error = [dim](const float* x) {
    double largest = 0;
    for (std::size_t i = 0; i < dim; ++i) largest = std::max(largest, std::abs(static_cast<double>(x[i])));
    return largest / 127 / 2 * std::sqrt(static_cast<double>(dim));
  };
  const double size_a = std::sqrt(-plain_distance(Metric::dot, a, a, dim)), size_b = std::sqrt(-plain_distance(Metric::dot, b, b, dim));
  const double error_a = error(a), error_b = error(b);
  const double of_dot = error_a * size_b + error_b * size_a + error_a * error_b;
  if (metric == Metric::dot) return of_dot + 1e-6 * size_a * size_b;
  // Turning a vector by at most error / size changes a cosine by no more.
  if (metric == Metric::cosine) return 2 * (error_a / size_a + error_b / size_b) + 1e-6;
  const double apart = std::sqrt(plain_distance(Metric::l2, a, b, dim)), errors = error_a + error_b;
  return 2 * apart * errors + errors * errors + 1e-6 * (size_a * size_a + size_b * size_b);
}

TEST(distances_of_codes_are_within_the_error_of_rounding) {
  std::mt19937_64 random = seeded("codes", 33);
  constexpr Row kRows = 40;
  for (const Metric metric : kMetrics) {
    for (const std::uint32_t dim : {1U, 2U, 3U, 28U, 31U, 60U, 64U, 96U, 100U, 128U, 129U, 384U}) {
      const std::vector<float> rows = normal_values(random, kRows * dim);
      Codes codes(dim, metric);
      codes.grow(kRows);
      codes.encode(0, rows.data(), kRows);
      for (Row a = 0; a < kRows; ++a) {
        for (Row b = 0; b < kRows; ++b) {
          const float* const x = rows.data() + a * dim;
          const float* const y = rows.data() + b * dim;
          const double error = static_cast<double>(codes.distance(a, b)) - plain_distance(metric, x, y, dim);
          CHECK(std::abs(error) <= error_bound(metric, x, y, dim));
        }
      }
    }
  }
}

TEST(a_pair_has_the_same_distance_whichever_way_it_is_asked_for) {
  std::mt19937_64 random = seeded("pairs of codes", 34);
  constexpr Row kRows = 50;
  for (const Metric metric : kMetrics) {
    for (const std::uint32_t dim : {7U, 28U, 64U, 100U, 128U, 131U, 70000U}) {
      const std::vector<float> rows = normal_values(random, kRows * dim);
      Codes codes(dim, metric);
      codes.grow(kRows);
      codes.encode(0, rows.data(), kRows);
      std::vector<CodeQuery> queries;
      for (std::size_t q = 0; q < 5; ++q) queries.emplace_back(rows.data() + q * dim, dim, metric);
      std::vector<const CodeQuery*> pointers;
      for (const CodeQuery& query : queries) pointers.push_back(&query);
      const CodeTile tile(pointers.data(), pointers.size());
      std::vector<float> of_range(kRows * kTileQueries), of_list(kRows * kTileQueries);
      std::vector<Row> list;
      for (Row row = 0; row < kRows; ++row) list.push_back(kRows - 1 - row);
      const float limits[kTileQueries] = {kFar, kFar, kFar, kFar, kFar, -kFar, -kFar, -kFar};
      CHECK_EQUAL((std::uint64_t{1} << (kRows - 3)) - 1, codes.near_in_range(tile, 3, kRows, limits, of_range.data()));
      CHECK_EQUAL((std::uint64_t{1} << kRows) - 1, codes.near_in_list(tile, list.data(), list.size(), limits, of_list.data()));
      std::vector<float> of_one(kRows), of_one_listed(kRows);
      codes.range_distances(queries[1], 3, kRows, of_one.data());
      codes.list_distances(queries[1], list.data(), list.size(), of_one_listed.data());
      for (Row row = 3; row < kRows; ++row) {
        CHECK_EQUAL(codes.distance(queries[1], row), of_one[row - 3]);
        CHECK_EQUAL(codes.distance(queries[1], row), of_one_listed[kRows - 1 - row]);
        for (Row q = 0; q < queries.size(); ++q) {
          const float expected = codes.distance(q, row);
          CHECK_EQUAL(expected, codes.distance(row, q));
          CHECK_EQUAL(expected, codes.distance(queries[q], row));
          CHECK_EQUAL(expected, of_range[(row - 3) * kTileQueries + q]);
          CHECK_EQUAL(expected, of_list[(kRows - 1 - row) * kTileQueries + q]);
        }
      }
    }
  }
}

TEST(a_tile_reports_the_rows_within_its_limits_and_next_to_no_others) {
  std::mt19937_64 random = seeded("limits", 38);
  constexpr Row kRows = 64;
  for (const Metric metric : kMetrics) {
    for (const std::uint32_t dim : {1U, 9U, 60U, 100U, 101U, 384U, 1100U}) {
      for (const float size : {1.0F, 1e-12F, 1e15F}) {
        std::vector<float> rows = normal_values(random, kRows * dim);
        for (float& value : rows) value *= size;
        Codes codes(dim, metric);
        codes.grow(kRows);
        codes.encode(0, rows.data(), kRows);
        std::vector<CodeQuery> queries;
        for (std::size_t q = 0; q < 7; ++q) queries.emplace_back(rows.data() + (q + 20) * dim, dim, metric);
        std::vector<const CodeQuery*> pointers;
        for (const CodeQuery& query : queries) pointers.push_back(&query);
        const CodeTile tile(pointers.data(), pointers.size());
        // The fourth nearest of each; the query that the tile has not wants none.
        float limits[kTileQueries], next[kTileQueries];
        std::fill(limits, limits + kTileQueries, -kFar);
        std::fill(next, next + kTileQueries, -kFar);
        for (std::size_t q = 0; q < queries.size(); ++q) {
          std::vector<float> all;
          for (Row row = 0; row < kRows; ++row) all.push_back(codes.distance(queries[q], row));
          std::sort(all.begin(), all.end());
          limits[q] = all[3];
          next[q] = limits[q] + 1e-3F * (std::abs(limits[q]) + std::abs(all.back()) + std::abs(all.front()));
        }
        std::vector<float> distances(kRows * kTileQueries);
        const std::uint64_t near = codes.near_in_range(tile, 0, kRows, limits, distances.data());
        for (Row row = 0; row < kRows; ++row) {
          bool is_within = false, is_close = false;
          for (std::size_t q = 0; q < queries.size(); ++q) {
            const float distance = codes.distance(queries[q], row);
            is_within |= distance <= limits[q];
            is_close |= distance <= next[q];
            if ((near >> row & 1) != 0) CHECK_EQUAL(distance, distances[row * kTileQueries + q]);
          }
          CHECK(is_within ? (near >> row & 1) == 1 : is_close || (near >> row & 1) == 0);
        }
      }
    }
  }
}

// The share of the true ten nearest among the depth nearest by code.
double recall_of_codes(Metric metric, const std::vector<float>& rows, const std::vector<float>& queries, std::uint32_t dim,
                       std::size_t depth) {
  const std::size_t count = rows.size() / dim, query_count = queries.size() / dim;
  Codes codes(dim, metric);
  codes.grow(count);
  codes.encode(0, rows.data(), count);
  std::size_t found = 0;
  for (std::size_t q = 0; q < query_count; ++q) {
    const CodeQuery query(queries.data() + q * dim, dim, metric);
    std::vector<std::pair<float, Row>> all;
    for (Row row = 0; row < count; ++row) all.emplace_back(codes.distance(query, row), row);
    std::sort(all.begin(), all.end());
    const std::vector<Row> truth = plain_nearest(metric, queries.data() + q * dim, rows.data(), count, dim, 10, [](Row) { return true; });
    for (std::size_t i = 0; i < depth; ++i) found += static_cast<std::size_t>(std::count(truth.begin(), truth.end(), all[i].second));
  }
  return static_cast<double>(found) / static_cast<double>(10 * query_count);
}

TEST(the_fifteen_nearest_by_code_hold_the_ten_nearest) {
  std::mt19937_64 random = seeded("recall of codes", 35);
  constexpr std::uint32_t kDim = 96;
  std::vector<float> rows = clustered_rows(random, 3000, kDim, 30);
  for (int has_outliers = 0; has_outliers < 2; ++has_outliers) {
    for (std::size_t i = 0; i < rows.size() && has_outliers == 1; i += kDim) rows[i + 5] *= 10.0F;
    const std::vector<float> queries(rows.begin(), rows.begin() + 30 * kDim);
    for (const Metric metric : kMetrics) CHECK(recall_of_codes(metric, rows, queries, kDim, 15) >= 0.995);
  }
}

TEST(codes_do_not_depend_on_the_size_of_a_vector) {
  std::mt19937_64 random = seeded("sizes", 36);
  constexpr std::uint32_t kDim = 50;
  const std::vector<float> rows = normal_values(random, 2 * kDim);
  std::vector<float> cosines;
  for (const float factor : {1.0F, 0x1p-100F, 0x1p-140F, 0x1p120F}) {
    std::vector<float> scaled = rows;
    for (std::uint32_t i = 0; i < kDim; ++i) scaled[i] *= factor;
    Codes codes(kDim, Metric::cosine);
    codes.grow(2);
    codes.encode(0, scaled.data(), 2);
    cosines.push_back(codes.distance(0, 1));
  }
  CHECK_EQUAL(cosines[0], cosines[1]);
  CHECK(std::abs(cosines[0] - cosines[2]) < 0.01F);  // at 2^-140 few bits of the values themselves are left
  CHECK_EQUAL(cosines[0], cosines[3]);
}

TEST(zero_and_huge_vectors_have_distances_that_order) {
  constexpr std::uint32_t kDim = 3;
  const float rows[] = {0, 0, 0, 1, 2, 3, 3e38F, -3e38F, 3e38F, 3e38F, 3e38F, 0};
  for (const Metric metric : kMetrics) {
    Codes codes(kDim, metric);
    codes.grow(4);
    codes.encode(0, rows, 4);
    for (Row a = 0; a < 4; ++a) {
      for (Row b = 0; b < 4; ++b) CHECK(!std::isnan(codes.distance(a, b)));
    }
    CHECK_EQUAL(0.0F, codes.distance(0, 0));
    if (metric != Metric::l2) CHECK_EQUAL(0.0F, codes.distance(0, 1));
    if (metric == Metric::l2) CHECK_EQUAL(std::numeric_limits<float>::infinity(), codes.distance(1, 2));
    if (metric == Metric::l2) CHECK(std::abs(codes.distance(0, 1) - 14.0F) < 0.2F);
    if (metric == Metric::cosine) CHECK(std::abs(codes.distance(2, 2) + 1.0F) < 1e-6F);
  }
}

THREADED_TEST(rows_may_be_encoded_in_any_order_again_and_by_several_threads) {
  std::mt19937_64 random = seeded("threads", 37);
  constexpr std::uint32_t kDim = 33;
  constexpr Row kRows = 400;
  const std::vector<float> rows = normal_values(random, kRows * kDim);
  for (const Metric metric : kMetrics) {
    Codes whole(kDim, metric), parts(kDim, metric);
    whole.grow(kRows);
    whole.encode(0, rows.data(), kRows);
    parts.grow(kRows / 2);
    parts.encode(0, rows.data() + kDim, 1);
    parts.grow(kRows);
    std::vector<std::thread> threads;
    for (Row first = 0; first < kRows; first += 100) {
      threads.emplace_back([&, first] { parts.encode(first, rows.data() + first * kDim, 100); });
    }
    for (std::thread& thread : threads) thread.join();
    for (Row row = 0; row < kRows; ++row) CHECK_EQUAL(whole.distance(0, row), parts.distance(0, row));
    CHECK_EQUAL(whole.bytes(), parts.bytes());
  }
}

TEST(a_measure_takes_no_further_cache_line_of_a_row) {
  CHECK_EQUAL(32U, Codes(28, Metric::cosine).bytes_per_row());
  CHECK_EQUAL(64U, Codes(60, Metric::dot).bytes_per_row());
  CHECK_EQUAL(128U, Codes(100, Metric::l2).bytes_per_row());
  CHECK_EQUAL(132U, Codes(128, Metric::cosine).bytes_per_row());
  CHECK_EQUAL(136U, Codes(128, Metric::l2).bytes_per_row());
  CHECK_EQUAL(388U, Codes(384, Metric::cosine).bytes_per_row());
}

TEST(rows_beyond_the_room_and_tiles_of_no_query_are_refused) {
  const float row[] = {1.0F, 2.0F};
  Codes codes(2, Metric::l2);
  codes.grow(3);
  CHECK_THROWS(Code::internal, codes.encode(3, row, 1));
  CHECK_THROWS(Code::internal, CodeTile(nullptr, 0));
}

}  // namespace
}  // namespace vecdb::test
