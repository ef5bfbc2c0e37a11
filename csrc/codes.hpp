// Rows as codes of 8 bits a dimension: a quarter of the memory of f32, and distances that are quick and approximate. A row x is
// scale * c with codes c of -127 to 127 and a scale of its own, so nothing is trained and no later row can be clipped.
// A pair gets the same distance whichever way it is asked for: both factors are codes, and their products are summed exactly.
// One thread grows; different threads may encode different rows; any thread reads rows that were published to it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "code_blocks.hpp"
#include "code_kernels.hpp"
#include "reserved.hpp"
#include "types.hpp"

namespace vecdb {

// 64 codes, aligned as a cache line is.
struct alignas(64) CodeLine {
  std::int8_t codes[64];
};

// A query as codes, made as a row's are. Immutable.
class CodeQuery {
 public:
  // Values must be finite.
  CodeQuery(const float* values, std::uint32_t dim, Metric metric);

  const std::int8_t* codes() const { return lines_.data()->codes; }
  std::size_t padded_size() const { return lines_.size() * sizeof(CodeLine); }  // zeros follow the codes
  std::int32_t sum() const { return sum_; }
  CodeMeasure measure() const { return measure_; }
  CodeQueryView view() const { return {codes(), sum_, measure_}; }

 private:
  std::vector<CodeLine> lines_;
  CodeMeasure measure_;
  std::int32_t sum_;  // of the codes
};

// 1 to kTileQueries queries that are compared with each row at once, while it is in the cache. Immutable.
class CodeTile {
 public:
  // The queries are copied. REQUIRES that all are of one dim and metric.
  CodeTile(const CodeQuery* const* queries, std::size_t count);

  std::size_t count() const { return count_; }
  CodeTileView view() const { return {lines_.data()->codes, octets_.data()->codes, stride_, sums_, scales_, squared_norms_}; }

 private:
  std::size_t count_;
  std::size_t stride_;
  std::vector<CodeLine> lines_;
  std::vector<CodeLine> octets_;
  std::int32_t sums_[kTileQueries] = {};
  float scales_[kTileQueries] = {};
  float squared_norms_[kTileQueries] = {};
};

class Codes {
 public:
  // dim is 1 to kMaxDim.
  Codes(std::uint32_t dim, Metric metric);

  // Make room for rows [0, rows), which come in their order, or as they are met. Rows never move.
  enum class Coming { in_order, as_met };
  void grow(std::uint64_t rows, Coming coming = Coming::in_order);
  // Write rows [first, first + count), for the first time or again. Values must be finite. REQUIRES room for them, and that no
  // other thread uses these rows meanwhile.
  void encode(Row first, const float* rows, std::uint64_t count);
  // Tell that rows [first, last), which come as they are met, are encoded next, and those behind them then; and that they were, for the
  // first time. One thread at a time.
  void expect(Row first, Row last) { row_pages_.expect(first * stride_, last * stride_); }
  void note(Row first, Row last) { row_pages_.note(first * stride_, last * stride_); }

  // As Vectors::distance, of the decoded rows. l2: squared; dot: negated; cosine: negated cosine.
  float distance(const CodeQuery& query, Row row) const {
    const float dot = is_short_ ? static_cast<float>(kernels_.dot_summed(query.codes(), query.sum(), start(row), dim_))
                                : long_dot(query.codes(), start(row));
    return finish(query.measure(), measure(row), dot);
  }
  float distance(Row a, Row b) const {
    const float dot = is_short_ ? static_cast<float>(kernels_.dot(start(a), start(b), dim_)) : long_dot(start(a), start(b));
    return finish(measure(a), measure(b), dot);
  }
  // out[i]: the query and row first + i, or rows[i], as distance gives it. For runs of rows whose out stays in the cache; of a list the
  // caller asks for the rows in advance.
  void range_distances(const CodeQuery& query, Row first, Row last, float* out) const;
  void list_distances(const CodeQuery& query, const Row* rows, std::size_t count, float* out) const;
  // Returns which of up to 64 rows may be within a query's limit, bit i of row first + i, or rows[i]: each that is, and next to none that
  // is not. Of these out[i * kTileQueries + q] is the distance from query q; the places of others, and of queries that the tile has not,
  // mean nothing. limits are of kTileQueries queries; below every distance for those that the tile has not.
  std::uint64_t near_in_range(const CodeTile& tile, Row first, Row last, const float* limits, float* out) const;
  std::uint64_t near_in_list(const CodeTile& tile, const Row* rows, std::size_t count, const float* limits, float* out) const;

  // Ask for the row's first cache lines. Never faults.
  void prefetch(Row row) const { ask_for<kInto1st>(row, prefetch_bytes_); }
  // The same for nearly all of a row whose turn comes later: many more of these can be under way at once.
  void prefetch_early(Row row) const { ask_for<kInto2nd>(row, early_bytes_); }

  std::uint64_t bytes_per_row() const { return stride_ + (is_measure_in_row_ ? 0 : measure_stride_); }
  std::uint64_t bytes() const { return rows_.load(std::memory_order_relaxed) * bytes_per_row(); }

 private:
  static constexpr std::size_t kCacheLine = 64;
  static constexpr Row kRowsAhead = 2 * kBlockRows;
  static constexpr int kInto1st = 3;  // levels of cache, as __builtin_prefetch names them
  static constexpr int kInto2nd = 2;

  template <int level>
  void ask_for(Row row, std::size_t bytes) const {
    const std::int8_t* line = start(row);
    for (std::size_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(line + i, 0, level);
    if (!is_measure_in_row_) __builtin_prefetch(measures_ + row * measure_stride_, 0, level);
    // Without an effect that g++ believes in, a call to this may be dropped before it is inlined.
    __asm__ volatile("");
  }
  const std::int8_t* start(Row row) const { return codes_ + row * stride_; }
  CodeMeasure measure(Row row) const {
    CodeMeasure measure{0.0F, 0.0F};
    const std::int8_t* from = measures_ + row * measure_stride_;
    std::memcpy(&measure.scale, from, sizeof(float));
    if (metric_ == Metric::l2) std::memcpy(&measure.squared_norm, from + sizeof(float), sizeof(float));
    return measure;
  }
  float finish(const CodeMeasure& a, const CodeMeasure& b, float dot) const {
    return metric_ == Metric::l2 ? CodeL2::of(a, b, dot) : CodeDot::of(a, b, dot);
  }
  float long_dot(const std::int8_t* a, const std::int8_t* b) const;
  struct LimitedTile {
    CodeTileView view;
    const float* limits;
  };
  void block_distances(const CodeQueryView& query, const CodeRows& rows, float* out) const;
  std::uint32_t near_in_block(const LimitedTile& tile, const CodeRows& rows, float* out) const;
  // block(i, rows, out): of rows i to i + kBlockRows, for which out has room.
  template <std::size_t width, class RowAt, class Block>
  void each_block(std::size_t count, const RowAt& row_at, float* out, const Block& block) const;
  template <class RowAt>
  void distances(const CodeQuery& query, std::size_t count, const RowAt& row_at, float* out) const;
  template <class RowAt>
  std::uint64_t near(const CodeTile& tile, std::size_t count, const RowAt& row_at, const float* limits, float* out) const;
  // Of a range: asks for rows ahead where that helps.
  auto rows_from(Row first) const {
    return [this, first](std::size_t i) {
      const Row row = first + static_cast<Row>(i);
      if (asks_ahead_) prefetch_early(row + kRowsAhead);
      return row;
    };
  }

  const std::uint32_t dim_;
  const Metric metric_;
  const bool is_short_;           // one kernel call sums a whole row
  const bool is_measure_in_row_;  // behind the codes, where that takes no further cache line
  const std::size_t stride_;
  const std::size_t measure_stride_;
  const std::size_t prefetch_bytes_;
  const std::size_t early_bytes_;
  const bool asks_ahead_;  // eight long rows at once are no sequence that the CPU would follow
  const CodeKernels& kernels_;
  const CodeBlocks::Rows block_rows_;
  const CodeBlocks::Tile block_tile_;
  std::atomic<std::uint64_t> rows_{0};
  ReservedArray<std::int8_t> row_bytes_;
  HugeByUse row_pages_;
  ReservedArray<std::int8_t> measure_bytes_;  // used where they are not in the row
  const std::int8_t* const codes_;
  const std::int8_t* const measures_;  // of row 0
};

}  // namespace vecdb
