// The vectors of one field by row, in memory of its own or mapped from a file, and every distance to them. A block of rows
// (about 64 KiB) becomes ready when it is first touched: its checksum, where one is expected, is compared, and under
// cosine its inverse norms are computed, and so are its codes where a field has them. A row never moves.
// One thread appends, maps or sets checksums at a time; any thread reads rows that were published to it, meanwhile.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "codes.hpp"
#include "distance.hpp"
#include "reserved.hpp"
#include "types.hpp"

namespace vecdb {

constexpr std::uint32_t kMaxDim = std::uint32_t{1} << 20;

// Rows in one checksum block: the largest power of two whose rows are within 64 KiB, at least 1.
std::uint32_t rows_per_block(std::uint32_t dim);

// A prepared query: a copy of the vector, aligned, and of length 1 under cosine. Immutable.
class Query {
 public:
  Query(const float* values, std::uint32_t dim, Metric metric);

  struct alignas(64) Lane {
    float values[16];
  };

  const float* values() const { return lanes_.data()->values; }

 private:
  std::vector<Lane> lanes_;
};

// 1 to kTileQueries queries that are compared with each row at once, while it is in the cache. Immutable.
class QueryTile {
 public:
  // The queries are copied. REQUIRES that all are of this dim.
  QueryTile(const Query* const* queries, std::size_t count, std::uint32_t dim);

  std::size_t count() const { return count_; }
  const float* values() const { return lanes_.data()->values; }
  std::size_t stride() const { return stride_; }  // from one query to the next

 private:
  std::size_t count_;
  std::size_t stride_;
  std::vector<Query::Lane> lanes_;
};

// Whether rows are kept as codes too, for graphs and scans that rank by them and let the rows themselves decide among the best.
enum class Coding { none, eight_bits };

class Vectors {
 public:
  Vectors(std::uint32_t dim, Metric metric, Coding coding = Coding::none);

  std::uint32_t dim() const { return dim_; }
  Metric metric() const { return metric_; }
  // Rows stored so far.
  Row rows() const { return rows_.load(std::memory_order_acquire); }

  // Store count rows after the last. Rows of a file may come before them where these end with a page.
  void append(const float* rows, std::uint64_t count);
  // Show rows [0, rows) of the file; fd may be closed after. A later call shows more of the same file. Where rows were appended behind
  // those of the file, as many of them as fill pages are shown from the file instead, which must hold the same.
  // REQUIRES that append was not called before the first, and that the rows are written already.
  void map(int fd, std::uint64_t rows);
  // Expect these checksums of blocks [0, blocks), compared before a block's first use; other blocks are trusted.
  void expect_checksums(const std::uint32_t* crcs, std::uint64_t blocks);
  // Replace a row. REQUIRES append was used for it, and that no other thread uses this row meanwhile.
  void overwrite(Row row, const float* values);

  // Throws Error corruption where the row's block differs from its checksum. REQUIRES row < rows().
  const float* row(Row row) const {
    prepare(row);
    return start(row);
  }
  // l2: squared; dot: negated; cosine: negated cosine. NaN (an overflowing sum) counts as infinitely far.
  float distance(const Query& query, Row row) const {
    prepare(row);
    const float sum = kernel_(query.values(), start(row), dim_);
    return finish(metric_ == Metric::cosine ? sum * inverse_norms_[row] : sum);
  }
  float distance(Row a, Row b) const {
    prepare(a);
    prepare(b);
    const float sum = kernel_(start(a), start(b), dim_);
    if (metric_ != Metric::cosine) return finish(sum);
    const float size = std::fabs(sum);
    const bool is_in_range = size > kSmallestSum && size < kInfinitelyFar;
    return finish(is_in_range ? sum * inverse_norms_[a] * inverse_norms_[b] : cosine_in_double(start(a), start(b), dim_));
  }
  // out[i * kTileQueries + q]: distance(query q, row first + i, or rows[i]); the places of queries that the tile has not mean nothing.
  // Of a range, rows so many ahead are asked for.
  void range_distances(const QueryTile& tile, Row first, Row last, Row ahead, float* out) const {
    const auto row_at = [first](std::size_t i) { return first + static_cast<Row>(i); };
    distances(tile, last - first, row_at, [&](Row row) { prefetch_early(row + ahead); }, out);
  }
  void list_distances(const QueryTile& tile, const Row* rows, std::size_t count, float* out) const {
    distances(tile, count, [rows](std::size_t i) { return rows[i]; }, [](Row) {}, out);
  }
  // Let the codes of these rows be used: they are made when a row is first touched.
  void touch(Row first, Row last) const {
    if (last <= all_ready_.load(std::memory_order_acquire)) return;
    for (Row row = first; row < last; ++row) prepare(row);
  }
  void touch(const Row* rows, std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) prepare(rows[i]);
  }
  // The codes of the rows; nullptr without them.
  const Codes* codes() const { return codes_.get(); }
  // Between rows, as near as codes tell where there are codes: what a graph is built by.
  float link_distance(Row a, Row b) const {
    if (codes_ == nullptr) return distance(a, b);
    prepare(a);
    prepare(b);
    return codes_->distance(a, b);
  }
  // As codes tell. REQUIRES codes().
  float coded_distance(const CodeQuery& query, Row row) const {
    prepare(row);
    return codes_->distance(query, row);
  }
  void prefetch_coded(Row row) const { codes_ == nullptr ? prefetch(row) : codes_->prefetch(row); }
  // What a user sees of a kernel distance. l2: Euclidean distance; dot, cosine: the similarity.
  float score(float distance) const;

  // Ask for the row's first cache lines. Never faults.
  void prefetch(Row row) const { ask_for<kInto1st>(row, prefetch_bytes_); }
  // The same for nearly all of a row whose turn comes later: many more of these can be under way at once.
  void prefetch_early(Row row) const { ask_for<kInto2nd>(row, early_bytes_); }

  // What a scan of a mapped file calls where it begins, and before each step over rows [first, last): the file is read a stretch ahead of
  // it. Costs a question a stretch where that is in memory already.
  void begin_reading(Row first) const {
    if (has_file()) read_stretches(stretch_of(first), 2);
  }
  void read_ahead(Row first, Row last) const {
    if (has_file() && stretch_of(first) != stretch_of(last)) read_stretches(stretch_of(last) + 1, 1);
  }

  // Compare every block that has a checksum now; throws Error corruption for the first that differs.
  void verify_all() const;

  std::uint64_t vector_bytes() const { return static_cast<std::uint64_t>(rows()) * dim_ * sizeof(float); }
  std::uint64_t code_bytes() const { return codes_ == nullptr ? 0 : codes_->bytes(); }
  std::uint64_t norm_bytes() const { return metric_ == Metric::cosine ? static_cast<std::uint64_t>(rows()) * sizeof(float) : 0; }

 private:
  static constexpr std::size_t kCacheLine = 64;
  static constexpr int kInto1st = 3;  // levels of cache, as __builtin_prefetch names them
  static constexpr int kInto2nd = 2;

  template <int level>
  void ask_for(Row row, std::size_t bytes) const {
    const char* line = static_cast<const char*>(static_cast<const void*>(start(row)));
    for (std::size_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(line + i, 0, level);
    // Without an effect that g++ believes in, a call to this may be dropped before it is inlined.
    __asm__ volatile("");
  }

  // Rows of a block that may be used, counted from its first: 0 until the block is first touched.
  using ReadyRows = std::atomic<std::uint32_t>;

  enum class Source { none, memory, file, file_then_memory };

  bool has_file() const {
    const Source source = source_.load(std::memory_order_relaxed);
    return source == Source::file || source == Source::file_then_memory;
  }
  const float* start(Row row) const { return values_ + static_cast<std::size_t>(row) * dim_; }
  void prepare(Row row) const {
    if (row < all_ready_.load(std::memory_order_acquire)) return;
    if (ready_[row >> block_shift_].load(std::memory_order_acquire) > (row & block_mask_)) return;
    prepare_block(row);
  }
  float finish(float value) const {
    if (metric_ == Metric::l2) return value;
    return std::isnan(value) ? kInfinitelyFar : -value;
  }
  template <class RowAt, class Meet>
  void distances(const QueryTile& tile, std::size_t count, const RowAt& row_at, const Meet& meet, float* out) const {
    const auto sum_up = [&](Row a, Row b, float* sums) {
      prepare(a);
      prepare(b);
      const float* const rows[kTileRows] = {start(a), start(b)};
      tile_kernel_(tile.values(), tile.stride(), rows, dim_, sums);
    };
    std::size_t i = 0;
    for (; i + kTileRows <= count; i += kTileRows) {
      meet(row_at(i));
      meet(row_at(i + 1));
      sum_up(row_at(i), row_at(i + 1), out + i * kTileQueries);
    }
    if (i < count) {
      float last[kTileRows * kTileQueries];
      sum_up(row_at(i), row_at(i), last);
      std::copy_n(last, kTileQueries, out + i * kTileQueries);
    }
    if (metric_ == Metric::l2) return;
    // Not after each two, for whose sums that would wait.
    for (i = 0; i < count; ++i) finish_row(metric_ == Metric::cosine ? inverse_norms_[row_at(i)] : 1.0F, out + i * kTileQueries);
  }
  // As finish does, to the sums of a tile's queries; compilers do not find these instructions by themselves.
  static void finish_row(float factor, float* sums) {
#if defined(__SSE2__)
    const __m128 factors = _mm_set1_ps(factor);
    for (std::size_t q = 0; q < kTileQueries; q += 4) {
      const __m128 negated = _mm_xor_ps(_mm_mul_ps(_mm_loadu_ps(sums + q), factors), _mm_set1_ps(-0.0F));
      // The second is taken where the first is NaN.
      _mm_storeu_ps(sums + q, _mm_min_ps(negated, _mm_set1_ps(kInfinitelyFar)));
    }
#else
    for (std::size_t q = 0; q < kTileQueries; ++q) {
      const float value = sums[q] * factor;
      sums[q] = std::isnan(value) ? kInfinitelyFar : -value;
    }
#endif
  }
  static constexpr float kInfinitelyFar = std::numeric_limits<float>::infinity();
  // Below this, products of two rows may have vanished.
  static constexpr float kSmallestSum = 1e-25F;

  static constexpr std::size_t kStretch = std::size_t{512} << 10;  // as much as systems read in one go
  std::size_t stretch_of(Row row) const { return bytes_of(row) / kStretch; }
  void read_stretches(std::size_t first, std::size_t count) const;
  void prepare_block(Row row) const;
  void advance_all_ready() const;
  void check_block(std::uint64_t block) const;
  void derive(Row first, Row last) const;
  std::size_t bytes_of(std::uint64_t rows) const { return rows * dim_ * sizeof(float); }
  // The most rows of so many that end with a page.
  std::uint64_t rows_of_pages(std::uint64_t rows) const;
  void check_total(std::uint64_t total) const;

  const std::uint32_t dim_;
  const Metric metric_;
  const Kernel kernel_;
  const TileKernel tile_kernel_;
  const std::uint32_t block_shift_;
  const std::uint32_t block_mask_;
  const std::size_t prefetch_bytes_;
  const std::size_t early_bytes_;
  std::atomic<Source> source_{Source::none};  // changed by whoever adds rows
  std::uint64_t rows_of_file_ = 0;            // where memory follows
  Reservation pages_;
  const float* const values_;
  std::atomic<Row> rows_{0};

  mutable std::mutex blocks_mutex_;             // held while a block is made ready and while checksums change
  mutable std::atomic<Row> all_ready_{0};       // rows below this need no look at ready_
  mutable ReservedArray<ReadyRows> ready_;      // by block; mapped rows only
  mutable ReservedArray<float> inverse_norms_;  // cosine only
  const std::unique_ptr<Codes> codes_;
  std::vector<std::uint32_t> expected_;  // checksum by block, guarded by blocks_mutex_
};

}  // namespace vecdb
