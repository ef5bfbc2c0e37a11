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
  const CodeMeasure& measure() const { return measure_; }

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
  const std::int8_t* codes(std::size_t query) const { return lines_[query * (stride_ / sizeof(CodeLine))].codes; }
  CodeTileView view() const { return {lines_.data()->codes, stride_, sums_, scales_, squared_norms_}; }
  CodeMeasure measure(std::size_t query) const { return {scales_[query], squared_norms_[query]}; }

 private:
  std::size_t count_;
  std::size_t stride_;
  std::vector<CodeLine> lines_;
  std::int32_t sums_[kTileQueries] = {};
  float scales_[kTileQueries] = {};
  float squared_norms_[kTileQueries] = {};
};

class Codes {
 public:
  // dim is 1 to kMaxDim.
  Codes(std::uint32_t dim, Metric metric);

  // Make room for rows [0, rows). Rows never move.
  void grow(std::uint64_t rows);
  // Write rows [first, first + count), for the first time or again. Values must be finite. REQUIRES room for them, and that no
  // other thread uses these rows meanwhile.
  void encode(Row first, const float* rows, std::uint64_t count);

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
  // out[i * kTileQueries + q]: query q and row first + i, for the tile's queries; the places of others are written, and mean nothing.
  // For runs of rows whose out stays in the cache, 64 to 512.
  void range_distances(const CodeTile& tile, Row first, Row last, float* out) const;
  // The same for query q and rows[i].
  void list_distances(const CodeTile& tile, const Row* rows, std::size_t count, float* out) const;

  // Ask for the row's first cache lines. Never faults.
  void prefetch(Row row) const {
    const std::int8_t* line = start(row);
    for (std::size_t i = 0; i < prefetch_bytes_; i += kCacheLine) __builtin_prefetch(line + i);
    if (!is_measure_in_row_) __builtin_prefetch(measures_ + row * measure_stride_);
    // Without an effect that g++ believes in, a call to this may be dropped before it is inlined.
    __asm__ volatile("");
  }

  std::uint64_t bytes_per_row() const { return stride_ + (is_measure_in_row_ ? 0 : measure_stride_); }
  std::uint64_t bytes() const { return rows_.load(std::memory_order_relaxed) * bytes_per_row(); }

 private:
  static constexpr std::size_t kCacheLine = 64;

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
  void tile_distances(const CodeTile& tile, Row row, float* out) const;

  const std::uint32_t dim_;
  const Metric metric_;
  const bool is_short_;           // one kernel call sums a whole row
  const bool is_measure_in_row_;  // behind the codes, where that takes no further cache line
  const std::size_t stride_;
  const std::size_t measure_stride_;
  const std::size_t prefetch_bytes_;
  const CodeKernels& kernels_;
  const CodeTileKernel tile_;
  std::atomic<std::uint64_t> rows_{0};
  ReservedArray<std::int8_t> row_bytes_;
  ReservedArray<std::int8_t> measure_bytes_;  // used where they are not in the row
  const std::int8_t* const codes_;
  const std::int8_t* const measures_;  // of row 0
};

}  // namespace vecdb
