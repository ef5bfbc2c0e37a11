// Making codes, where a row's measure goes, and tiles; single distances are in codes.hpp, where they can be inlined.

#include "codes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "error.hpp"

namespace vecdb {
namespace {

constexpr std::uint64_t kMaxRows = std::uint64_t{1} << 32;
constexpr float kMaxCode = 127.0F;
constexpr std::size_t kOctet = 8;
constexpr std::size_t kMostNear = 64;  // rows that bits are returned of
// The CPU follows a sequential read by itself after the first lines.
constexpr std::size_t kMaxPrefetchBytes = 1024;
// Where rows are compared eight or two at once, their reading is not that sequence.
constexpr std::size_t kMaxEarlyBytes = 8192;

std::size_t round_up(std::size_t bytes, std::size_t step) { return (bytes + step - 1) / step * step; }

std::size_t measure_size(Metric metric) { return metric == Metric::l2 ? 2 * sizeof(float) : sizeof(float); }

bool fits_in_row(std::size_t dim, Metric metric) {
  return round_up(dim + measure_size(metric), sizeof(CodeLine)) == round_up(dim, sizeof(CodeLine));
}

std::size_t row_stride(std::size_t dim, Metric metric) {
  return round_up(fits_in_row(dim, metric) ? dim + measure_size(metric) : dim, kCodeBlock);
}

std::int64_t dot_of(const CodeKernels& kernels, const std::int8_t* a, const std::int8_t* b, std::size_t dim) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < dim; i += kMaxCodeRun) sum += kernels.dot(a + i, b + i, std::min(dim - i, kMaxCodeRun));
  return sum;
}

float largest_magnitude(const float* values, std::size_t dim) {
  float lanes[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) lanes[lane] = std::max(lanes[lane], std::fabs(values[i + lane]));
  }
  for (; i < dim; ++i) lanes[0] = std::max(lanes[0], std::fabs(values[i]));
  return *std::max_element(lanes, lanes + 8);
}

// Rounds to the nearest, |value| < 2^22, in two additions that a compiler can do for many lanes at once.
float rounded(float value) {
  constexpr float kUnitsOfOne = 12582912.0F;  // 1.5 * 2^23
  return (value + kUnitsOfOne) - kUnitsOfOne;
}

struct Encoder {
  float factor;
  float lift;  // a power of two

  // Returns the product of the value, in units of the largest one / 127, and its code.
  float operator()(float value, std::int8_t* code) const {
    const float in_units = value * lift * factor;
    const float nearest = rounded(in_units);
    *code = static_cast<std::int8_t>(static_cast<std::int32_t>(nearest));
    return in_units * nearest;
  }
};

// Writes dim codes. Clipping the largest values to make the steps smaller was tried on plain and on outlier-heavy vectors:
// the squared error of a row is least without it.
CodeMeasure encode_row(const float* values, std::size_t dim, Metric metric, std::int8_t* codes) {
  const float largest = largest_magnitude(values, dim);
  if (largest == 0.0F) {
    std::fill(codes, codes + dim, std::int8_t{0});
    return {0.0F, 0.0F};
  }
  // 127 / largest must be within f32.
  const float lift = largest < 1e-30F ? 0x1p100F : 1.0F;
  const Encoder encoder{kMaxCode / (largest * lift), lift};
  double products = 0.0;
  std::size_t i = 0;
  while (i + 8 <= dim) {
    const std::size_t end = i + (std::min<std::size_t>(dim - i, 1024) & ~std::size_t{7});
    float lanes[8] = {};
    for (; i < end; i += 8) {
      for (std::size_t lane = 0; lane < 8; ++lane) lanes[lane] += encoder(values[i + lane], codes + i + lane);
    }
    for (const float lane : lanes) products += static_cast<double>(lane);
  }
  for (; i < dim; ++i) products += static_cast<double>(encoder(values[i], codes + i));

  const double squares = static_cast<double>(dot_of(code_kernels(), codes, codes, dim));
  if (metric == Metric::cosine) return {static_cast<float>(1.0 / std::sqrt(squares)), 0.0F};
  const double scale = static_cast<double>(largest) / static_cast<double>(kMaxCode) * (products / squares);
  if (metric == Metric::dot) return {static_cast<float>(scale), 0.0F};
  const double squared_norm = scale * scale * squares;
  // An infinite product would make NaN of an infinite norm.
  if (squared_norm > static_cast<double>(std::numeric_limits<float>::max())) return {0.0F, std::numeric_limits<float>::infinity()};
  return {static_cast<float>(scale), static_cast<float>(squared_norm)};
}

}  // namespace

CodeQuery::CodeQuery(const float* values, std::uint32_t dim, Metric metric)
    : lines_(round_up(dim, sizeof(CodeLine)) / sizeof(CodeLine)), sum_(0) {
  std::int8_t* const codes = lines_.data()->codes;
  measure_ = encode_row(values, dim, metric, codes);
  for (std::uint32_t i = 0; i < dim; ++i) sum_ += codes[i];
}

CodeTile::CodeTile(const CodeQuery* const* queries, std::size_t count) : count_(count) {
  if (count == 0 || count > kTileQueries) {
    throw Error(Code::internal,
                "a tile of " + std::to_string(count) + " queries was asked for, it holds 1 to " + std::to_string(kTileQueries));
  }
  stride_ = queries[0]->padded_size();
  lines_.resize(kTileQueries * stride_ / sizeof(CodeLine));
  octets_.resize(lines_.size());
  for (std::size_t q = 0; q < count; ++q) {
    std::memcpy(&lines_[q * (stride_ / sizeof(CodeLine))], queries[q]->codes(), stride_);
    sums_[q] = queries[q]->sum();
    scales_[q] = queries[q]->measure().scale;
    squared_norms_[q] = queries[q]->measure().squared_norm;
    std::int8_t* const octets = octets_.data()->codes + q * kOctet;
    for (std::size_t i = 0; i < stride_; i += kOctet) std::memcpy(octets + i * kTileQueries, queries[q]->codes() + i, kOctet);
  }
}

Codes::Codes(std::uint32_t dim, Metric metric)
    : dim_(dim),
      metric_(metric),
      is_short_(dim <= kMaxCodeRun),
      is_measure_in_row_(fits_in_row(dim, metric)),
      stride_(row_stride(dim, metric)),
      measure_stride_(is_measure_in_row_ ? stride_ : measure_size(metric)),
      prefetch_bytes_(std::min(stride_, kMaxPrefetchBytes)),
      early_bytes_(std::min(stride_, kMaxEarlyBytes)),
      asks_ahead_(stride_ > 2 * kCacheLine),
      kernels_(code_kernels()),
      block_rows_(metric == Metric::l2 ? code_blocks().rows_l2 : code_blocks().rows_dot),
      block_tile_(metric == Metric::l2 ? code_blocks().tile_l2 : code_blocks().tile_dot),
      row_bytes_(kMaxRows * stride_),
      row_pages_(row_bytes_.data(), kMaxRows * stride_),
      measure_bytes_(is_measure_in_row_ ? 1 : kMaxRows * measure_stride_),
      codes_(row_bytes_.data()),
      measures_(is_measure_in_row_ ? codes_ + stride_ - measure_size(metric) : measure_bytes_.data()) {}

void Codes::grow(std::uint64_t rows, Coming coming) {
  if (rows <= rows_.load(std::memory_order_relaxed)) return;
  row_bytes_.grow(rows * stride_, coming == Coming::in_order ? Reservation::Pages::huge : Reservation::Pages::small);
  row_pages_.grow(rows * stride_);
  if (!is_measure_in_row_) measure_bytes_.grow(rows * measure_stride_);
  // A room that another thread may fill.
  rows_.store(rows, std::memory_order_release);
}

void Codes::encode(Row first, const float* rows, std::uint64_t count) {
  const std::uint64_t room = rows_.load(std::memory_order_acquire);
  if (first + count > room) {
    throw Error(Code::internal, "rows " + std::to_string(first) + " to " + std::to_string(first + count) +
                                    " are to be encoded, there is room for " + std::to_string(room));
  }
  std::int8_t* const codes = row_bytes_.data();
  std::int8_t* const measures = is_measure_in_row_ ? codes + stride_ - measure_size(metric_) : measure_bytes_.data();
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t row = first + i;
    const CodeMeasure measure = encode_row(rows + i * dim_, dim_, metric_, codes + row * stride_);
    std::int8_t* const to = measures + row * measure_stride_;
    std::memcpy(to, &measure.scale, sizeof(float));
    if (metric_ == Metric::l2) std::memcpy(to + sizeof(float), &measure.squared_norm, sizeof(float));
  }
}

float Codes::long_dot(const std::int8_t* a, const std::int8_t* b) const { return static_cast<float>(dot_of(kernels_, a, b, dim_)); }

void Codes::block_distances(const CodeQueryView& query, const CodeRows& rows, float* out) const {
  if (is_short_) return block_rows_(query, rows, dim_, out);
  for (std::size_t r = 0; r < kBlockRows; ++r) out[r] = finish(query.measure, rows.measure(r), long_dot(query.codes, rows.codes[r]));
}

std::uint32_t Codes::near_in_block(const LimitedTile& tile, const CodeRows& rows, float* out) const {
  if (is_short_) return block_tile_(tile.view, rows, dim_, tile.limits, out);
  std::uint32_t near = 0;
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    for (std::size_t q = 0; q < kTileQueries; ++q) {
      const float dot = long_dot(tile.view.codes + q * tile.view.stride, rows.codes[r]);
      const float distance = finish(tile.view.measure(q), rows.measure(r), dot);
      out[r * kTileQueries + q] = distance;
      near |= static_cast<std::uint32_t>(distance <= tile.limits[q]) << r;
    }
  }
  return near;
}

template <std::size_t width, class RowAt, class Block>
void Codes::each_block(std::size_t count, const RowAt& row_at, float* out, const Block& block) const {
  for (std::size_t i = 0; i < count; i += kBlockRows) {
    const std::size_t in_block = std::min(kBlockRows, count - i);
    CodeRows rows;
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      const Row row = row_at(i + std::min(r, in_block - 1));
      const CodeMeasure of_row = measure(row);
      rows.codes[r] = start(row);
      rows.scales[r] = of_row.scale;
      rows.squared_norms[r] = of_row.squared_norm;
    }
    if (in_block == kBlockRows) {
      block(i, rows, out + i * width);
    } else {
      float last[kBlockRows * width];
      block(i, rows, last);
      std::copy_n(last, in_block * width, out + i * width);
    }
  }
}

template <class RowAt>
void Codes::distances(const CodeQuery& query, std::size_t count, const RowAt& row_at, float* out) const {
  const CodeQueryView view = query.view();
  each_block<1>(count, row_at, out, [&](std::size_t, const CodeRows& rows, float* of_block) { block_distances(view, rows, of_block); });
}

template <class RowAt>
std::uint64_t Codes::near(const CodeTile& tile, std::size_t count, const RowAt& row_at, const float* limits, float* out) const {
  const LimitedTile limited{tile.view(), limits};
  std::uint64_t near = 0;
  each_block<kTileQueries>(count, row_at, out, [&](std::size_t i, const CodeRows& rows, float* of_block) {
    near |= std::uint64_t{near_in_block(limited, rows, of_block)} << i;
  });
  // A block's last row stands in for those that it lacks.
  return count < kMostNear ? near & ((std::uint64_t{1} << count) - 1) : near;
}

void Codes::range_distances(const CodeQuery& query, Row first, Row last, float* out) const {
  distances(query, last - first, rows_from(first), out);
}

void Codes::list_distances(const CodeQuery& query, const Row* rows, std::size_t count, float* out) const {
  distances(query, count, [rows](std::size_t i) { return rows[i]; }, out);
}

std::uint64_t Codes::near_in_range(const CodeTile& tile, Row first, Row last, const float* limits, float* out) const {
  return near(tile, last - first, rows_from(first), limits, out);
}

std::uint64_t Codes::near_in_list(const CodeTile& tile, const Row* rows, std::size_t count, const float* limits, float* out) const {
  return near(tile, count, [rows](std::size_t i) { return rows[i]; }, limits, out);
}

}  // namespace vecdb
