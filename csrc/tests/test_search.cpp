// The exact scan and the ranking, against brute force in double.

#include <algorithm>
#include <cmath>
#include <string>

#include "check.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace vecdb::test {
namespace {

constexpr RowSet kAllRows{nullptr, 0xFFFFFFFFU};

std::vector<Row> rows_of(const std::vector<Candidate>& candidates) {
  std::vector<Row> rows;
  for (const Candidate& candidate : candidates) rows.push_back(candidate.row);
  return rows;
}

std::vector<std::uint64_t> random_bits(std::mt19937_64& random, Row count, double share) {
  std::bernoulli_distribution is_set(share);
  std::vector<std::uint64_t> bits((count + 63) / 64);
  for (Row row = 0; row < count; ++row) {
    if (is_set(random)) bits[row >> 6] |= std::uint64_t{1} << (row & 63);
  }
  return bits;
}

struct LaterFirst : TieBreak {
  bool before(Row a, Row b) const override { return a > b; }
};

TEST(a_scan_equals_brute_force_with_bits_lists_and_ranges) {
  std::mt19937_64 random = seeded("scan", 31);
  const std::uint32_t dim = 19;
  const Row count = 1000;
  const std::vector<float> rows = normal_values(random, count * dim);
  for (const Metric metric : {Metric::cosine, Metric::dot, Metric::l2}) {
    Vectors vectors(dim, metric);
    vectors.append(rows.data(), count);
    for (const double share : {1.0, 0.5, 0.02, 0.0}) {
      const std::vector<std::uint64_t> bits = random_bits(random, count, share);
      for (const auto& [first, last, limit] : {std::tuple<Row, Row, Row>{0, 1000, 1000},
                                               {0, 1000, 777},
                                               {65, 130, 1000},
                                               {63, 64, 1000},
                                               {64, 128, 100},
                                               {500, 400, 1000},
                                               {999, 1000, 1000}}) {
        const std::vector<float> values = normal_values(random, dim);
        const Query query(values.data(), dim, metric);
        for (const RowSet& allowed : {RowSet{bits.data(), limit}, RowSet{nullptr, limit}}) {
          const auto takes = [&, begin = first, end = last](Row row) { return row >= begin && row < end && allowed.contains(row); };
          const std::vector<Row> expected = plain_nearest(metric, values.data(), rows.data(), count, dim, 10, takes);
          Ranking ranged(10, vectors, nullptr);
          scan_range(vectors, query, first, last, allowed, ranged);
          CHECK(expected == rows_of(ranged.take()));
          std::vector<Row> list;
          for (Row row = 0; row < count; ++row) {
            if (takes(row)) list.push_back(row);
          }
          Ranking listed(10, vectors, nullptr);
          scan_list(vectors, query, list.data(), list.size(), listed);
          CHECK(expected == rows_of(listed.take()));
        }
      }
    }
  }
}

bool are_same(const std::vector<Candidate>& a, const std::vector<Candidate>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Candidate& x, const Candidate& y) { return x.row == y.row && x.distance == y.distance; });
}

// What a tile finds for each of its queries, against a ranking that is offered one distance after the other.
template <class AnyQuery, class Tile, class Distance>
void check_tile(const Vectors& vectors, const std::vector<AnyQuery>& queries, const Tile& tile, Row first, Row last, const RowSet& allowed,
                const Distance& distance) {
  std::vector<Row> list;
  for (Row row = first; row < last; ++row) {
    if (allowed.contains(row)) list.push_back(row);
  }
  std::vector<Ranking> ranged, listed;
  for (std::size_t q = 0; q < queries.size(); ++q) {
    ranged.emplace_back(10, vectors, nullptr);
    listed.emplace_back(10, vectors, nullptr);
  }
  scan_range(vectors, tile, first, last, allowed, ranged.data());
  scan_list(vectors, tile, list.data(), list.size(), listed.data());
  for (std::size_t q = 0; q < queries.size(); ++q) {
    Ranking plain(10, vectors, nullptr), one_ranged(10, vectors, nullptr), one_listed(10, vectors, nullptr);
    for (const Row row : list) plain.offer(distance(queries[q], row), row);
    scan_range(vectors, queries[q], first, last, allowed, one_ranged);
    scan_list(vectors, queries[q], list.data(), list.size(), one_listed);
    const std::vector<Candidate> expected = plain.take();
    CHECK(are_same(expected, ranged[q].take()));
    CHECK(are_same(expected, listed[q].take()));
    CHECK(are_same(expected, one_ranged.take()));
    CHECK(are_same(expected, one_listed.take()));
  }
}

TEST(several_queries_a_pass_find_the_bits_that_each_finds_alone) {
  std::mt19937_64 random = seeded("passes", 39);
  const Row count = 3000;
  for (const std::uint32_t dim : {19U, 100U, 130U}) {
    const std::vector<float> rows = normal_values(random, count * dim);
    for (const Metric metric : {Metric::cosine, Metric::dot, Metric::l2}) {
      Vectors vectors(dim, metric, Coding::eight_bits);
      vectors.append(rows.data(), count);
      for (const std::size_t together : {std::size_t{1}, std::size_t{5}, kTileQueries}) {
        std::vector<Query> queries;
        std::vector<CodeQuery> coded;
        std::vector<const Query*> of_tile;
        std::vector<const CodeQuery*> of_code_tile;
        const std::vector<float> values = normal_values(random, together * dim);
        for (std::size_t q = 0; q < together; ++q) {
          queries.emplace_back(values.data() + q * dim, dim, metric);
          coded.emplace_back(values.data() + q * dim, dim, metric);
        }
        for (std::size_t q = 0; q < together; ++q) {
          of_tile.push_back(&queries[q]);
          of_code_tile.push_back(&coded[q]);
        }
        const QueryTile tile(of_tile.data(), together, dim);
        const CodeTile code_tile(of_code_tile.data(), together);
        for (const double share : {0.9, 0.55, 0.3, 0.03, 0.001}) {
          const std::vector<std::uint64_t> bits = random_bits(random, count, share);
          for (const RowSet& allowed : {RowSet{bits.data(), count}, RowSet{bits.data(), 1777}, RowSet{nullptr, 2999}}) {
            const Row first = static_cast<Row>(random() % 200), last = count - static_cast<Row>(random() % 200);
            check_tile(vectors, queries, tile, first, last, allowed,
                       [&](const Query& query, Row row) { return vectors.distance(query, row); });
            check_tile(vectors, coded, code_tile, first, last, allowed,
                       [&](const CodeQuery& query, Row row) { return vectors.coded_distance(query, row); });
          }
        }
      }
    }
  }
}

TEST(a_ranking_keeps_the_best_in_score_order_whatever_the_order_of_offers) {
  Vectors vectors(2, Metric::l2);
  std::mt19937_64 random = seeded("ranking", 32);
  std::vector<float> distances = normal_values(random, 300);
  for (float& distance : distances) distance = std::abs(distance);
  for (const std::uint32_t k : {0U, 1U, 7U, 300U, 500U}) {
    Ranking ranking(k, vectors, nullptr);
    for (Row row = 0; row < 300; ++row) ranking.offer(distances[row], row);
    const std::vector<Candidate> best = ranking.take();
    std::vector<float> sorted = distances;
    std::sort(sorted.begin(), sorted.end());
    CHECK_EQUAL(std::min<std::size_t>(k, 300), best.size());
    for (std::size_t i = 0; i < best.size(); ++i) CHECK_EQUAL(sorted[i], best[i].distance);
    CHECK_EQUAL(std::size_t{0}, ranking.size());
  }
}

TEST(equal_scores_are_ordered_by_the_tie_break) {
  Vectors vectors(2, Metric::dot);
  const LaterFirst later;
  for (const TieBreak* ties : {static_cast<const TieBreak*>(nullptr), static_cast<const TieBreak*>(&later)}) {
    Ranking ranking(3, vectors, ties);
    for (const Row row : {5U, 1U, 9U, 3U, 7U}) ranking.offer(1.0F, row);
    ranking.offer(0.5F, 4);
    const std::vector<Row> expected = ties == nullptr ? std::vector<Row>{4, 1, 3} : std::vector<Row>{4, 9, 7};
    CHECK(expected == rows_of(ranking.take()));
  }
}

TEST(squared_distances_with_the_same_root_tie_under_l2) {
  // Two neighbouring floats whose square roots round to one float: the farther one must still win by the tie-break.
  const float near = 1.0F, far = std::nextafter(1.0F, 2.0F);
  CHECK_EQUAL(std::sqrt(near), std::sqrt(far));
  Vectors vectors(2, Metric::l2);
  Ranking ranking(1, vectors, nullptr);
  ranking.offer(near, 8);
  CHECK(!(far > ranking.worst()));
  ranking.offer(far, 2);
  const std::vector<Candidate> best = ranking.take();
  CHECK_EQUAL(2U, best[0].row);
  CHECK_EQUAL(far, best[0].distance);
}

TEST(the_bound_of_a_ranking_never_cuts_off_a_tie) {
  std::mt19937_64 random = seeded("bound", 33);
  Vectors vectors(2, Metric::l2);
  std::uniform_real_distribution<float> exponent(-60.0F, 60.0F);
  for (int i = 0; i < 20000; ++i) {
    const float distance = std::exp2(exponent(random));
    Ranking ranking(1, vectors, nullptr);
    ranking.offer(distance, 1);
    float tied = distance;
    while (std::sqrt(std::nextafter(tied, INFINITY)) == std::sqrt(distance)) tied = std::nextafter(tied, INFINITY);
    CHECK(!(tied > ranking.worst()));
  }
}

TEST(an_infinitely_far_row_is_still_found) {
  const float rows[] = {3e38F, -3e38F, 3e38F, -3e38F};
  const float values[] = {3e38F, 3e38F};
  Vectors vectors(2, Metric::dot);
  vectors.append(rows, 2);
  Ranking ranking(2, vectors, nullptr);
  scan_range(vectors, Query(values, 2, Metric::dot), 0, 2, kAllRows, ranking);
  CHECK((std::vector<Row>{0, 1}) == rows_of(ranking.take()));
}

}  // namespace
}  // namespace vecdb::test
