// Storing, mapping and checking rows; the distances themselves are in vectors.hpp, where they can be inlined.

#include "vectors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "crc32c.hpp"
#include "error.hpp"

namespace vecdb {
namespace {

constexpr std::uint64_t kMaxRows = std::uint64_t{1} << 32;
constexpr std::size_t kBlockBytes = std::size_t{64} << 10;
// The CPU follows a sequential read by itself after the first lines.
constexpr std::size_t kMaxPrefetchBytes = 1024;
// Where rows are compared eight or two at once, their reading is not that sequence.
constexpr std::size_t kMaxEarlyBytes = 8192;

std::uint32_t shift_of(std::uint32_t power_of_two) {
  std::uint32_t shift = 0;
  while ((1U << shift) < power_of_two) ++shift;
  return shift;
}

std::uint32_t checked_dim(std::uint32_t dim) {
  if (dim == 0 || dim > kMaxDim) {
    throw Error(Code::invalid_argument, "dim is " + std::to_string(dim) + ", expected 1 to " + std::to_string(kMaxDim));
  }
  return dim;
}

}  // namespace

std::uint32_t rows_per_block(std::uint32_t dim) {
  const std::size_t row_bytes = std::max<std::size_t>(dim, 1) * sizeof(float);
  std::uint32_t rows = 1;
  while (2 * rows * row_bytes <= kBlockBytes) rows *= 2;
  return rows;
}

Query::Query(const float* values, std::uint32_t dim, Metric metric) : lanes_((static_cast<std::size_t>(dim) + 15) / 16) {
  float* const copy = lanes_.data()->values;
  std::memcpy(copy, values, dim * sizeof(float));
  const double length = metric == Metric::cosine ? norm(values, dim) : 1.0;
  if (length == 0.0) return;
  for (std::uint32_t i = 0; i < dim; ++i) copy[i] = static_cast<float>(static_cast<double>(copy[i]) / length);
}

// An odd number of cache lines from query to query, so that they do not meet in one set of the cache.
QueryTile::QueryTile(const Query* const* queries, std::size_t count, std::uint32_t dim) : count_(count) {
  if (count == 0 || count > kTileQueries) {
    throw Error(Code::internal, "a tile of " + std::to_string(count) + " queries, expected 1 to " + std::to_string(kTileQueries));
  }
  constexpr std::size_t kLane = sizeof(Query::Lane) / sizeof(float);
  const std::size_t lanes = (dim + kLane - 1) / kLane | 1;
  stride_ = lanes * kLane;
  lanes_.resize(kTileQueries * lanes);
  for (std::size_t q = 0; q < count; ++q) std::memcpy(&lanes_[q * lanes], queries[q]->values(), dim * sizeof(float));
}

Vectors::Vectors(std::uint32_t dim, Metric metric, Coding coding)
    : dim_(checked_dim(dim)),
      metric_(metric),
      kernel_(metric == Metric::l2 ? kernels().l2_squared : kernels().dot),
      tile_kernel_(metric == Metric::l2 ? kernels().tiles.l2_squared : kernels().tiles.dot),
      block_shift_(shift_of(rows_per_block(dim))),
      block_mask_(rows_per_block(dim) - 1),
      prefetch_bytes_(std::min(dim * sizeof(float), kMaxPrefetchBytes)),
      early_bytes_(std::min(dim * sizeof(float), kMaxEarlyBytes)),
      pages_(kMaxRows * dim * sizeof(float)),
      values_(static_cast<const float*>(pages_.base())),
      ready_(kMaxRows / rows_per_block(dim)),
      inverse_norms_(metric == Metric::cosine ? kMaxRows : 1),
      codes_(coding == Coding::none ? nullptr : std::make_unique<Codes>(dim, metric)) {}

std::uint64_t Vectors::rows_of_pages(std::uint64_t rows) const {
  const std::uint64_t step = page_size() / std::gcd(page_size(), bytes_of(1));
  return rows / step * step;
}

void Vectors::check_total(std::uint64_t total) const {
  if (total >= kMaxRows) {
    throw Error(Code::capacity, std::to_string(total) + " rows are needed, a field holds fewer than 4294967296; use another collection");
  }
}

void Vectors::append(const float* rows, std::uint64_t count) {
  const std::uint64_t before = rows_.load(std::memory_order_relaxed);
  check_total(count);
  const std::uint64_t total = before + count;
  check_total(total);
  if (source_ == Source::file) {
    pages_.end_file(bytes_of(before));
    rows_of_file_ = before;
    source_ = Source::file_then_memory;
  }
  if (source_ == Source::none) source_ = Source::memory;
  pages_.commit(bytes_of(total));
  if (metric_ == Metric::cosine) inverse_norms_.grow(total);
  if (codes_ != nullptr) codes_->grow(total);
  float* const start = static_cast<float*>(pages_.base());
  if (count > 0) std::memcpy(start + before * dim_, rows, bytes_of(count));
  if (source_ == Source::file_then_memory) {
    // Made ready block by block, as those of the file are: a block may hold rows of both.
    ready_.grow((total + block_mask_) >> block_shift_);
    rows_.store(static_cast<Row>(total), std::memory_order_release);
    return;
  }
  derive(static_cast<Row>(before), static_cast<Row>(total));
  // First, so that whoever sees the new count finds the rows ready.
  all_ready_.store(static_cast<Row>(total), std::memory_order_release);
  rows_.store(static_cast<Row>(total), std::memory_order_release);
}

void Vectors::map(int fd, std::uint64_t rows) {
  if (source_ == Source::memory)
    throw Error(Code::invalid_argument, "rows of this field were appended to memory, so no file can be mapped");
  check_total(rows);
  if (source_ == Source::file_then_memory) {
    const std::uint64_t last = rows_of_pages(std::min<std::uint64_t>(rows, rows_.load(std::memory_order_relaxed)));
    if (last <= rows_of_file_) return;
    pages_.put_file(fd, bytes_of(rows_of_file_), bytes_of(last));
    rows_of_file_ = last;
    return;
  }
  source_ = Source::file;
  if (rows < rows_.load(std::memory_order_relaxed)) {
    throw Error(Code::invalid_argument, std::to_string(rows) + " rows are to be mapped, fewer than the " + std::to_string(this->rows()) +
                                            " that are mapped already");
  }
  pages_.show_file(fd, bytes_of(rows));
  if (metric_ == Metric::cosine) inverse_norms_.grow(rows);
  if (codes_ != nullptr) codes_->grow(rows, Codes::Coming::as_met);
  ready_.grow((rows + block_mask_) >> block_shift_);
  rows_.store(static_cast<Row>(rows), std::memory_order_release);
}

void Vectors::expect_checksums(const std::uint32_t* crcs, std::uint64_t blocks) {
  const std::uint64_t whole = rows() >> block_shift_;
  if (blocks > whole) {
    throw Error(Code::invalid_argument,
                std::to_string(blocks) + " checksums were given, the field has " + std::to_string(whole) + " whole blocks of rows");
  }
  std::vector<std::uint32_t> expected(crcs, crcs + blocks);
  const std::lock_guard<std::mutex> lock(blocks_mutex_);
  expected_ = std::move(expected);
}

void Vectors::overwrite(Row row, const float* values) {
  if (source_ != Source::memory || row >= rows()) {
    throw Error(Code::invalid_argument, "row " + std::to_string(row) + " cannot be replaced: " + std::to_string(rows()) +
                                            " rows are stored, and rows that are mapped from a file are read-only");
  }
  std::memcpy(static_cast<float*>(pages_.base()) + static_cast<std::size_t>(row) * dim_, values, dim_ * sizeof(float));
  derive(row, row + 1);
}

float Vectors::score(float distance) const { return metric_ == Metric::l2 ? std::sqrt(distance) : -distance; }

// Fill in what is computed from rows [first, last).
void Vectors::derive(Row first, Row last) const {
  if (codes_ != nullptr) codes_->encode(first, start(first), last - first);
  if (metric_ != Metric::cosine) return;
  for (Row row = first; row < last; ++row) inverse_norms_[row] = inverse_norm(start(row), dim_);
}

void Vectors::check_block(std::uint64_t block) const {
  if (block >= expected_.size()) return;
  const Row first = static_cast<Row>(block << block_shift_);
  const std::size_t bytes = (static_cast<std::size_t>(block_mask_) + 1) * dim_ * sizeof(float);
  const std::uint32_t seen = crc32c(0, start(first), bytes);
  if (seen != expected_[block]) {
    throw Error(Code::corruption, "rows " + std::to_string(first) + " to " + std::to_string(first + block_mask_) +
                                      " of the file of vectors have CRC32C " + std::to_string(seen) + ", expected " +
                                      std::to_string(expected_[block]) + "; restore the file from a backup");
  }
}

void Vectors::read_stretches(std::size_t first, std::size_t count) const {
  for (std::size_t stretch = first; stretch < first + count; ++stretch) {
    pages_.read_ahead(stretch * kStretch, std::min<std::size_t>((stretch + 1) * kStretch, vector_bytes()));
  }
}

void Vectors::prepare_block(Row row) const {
  const std::lock_guard<std::mutex> lock(blocks_mutex_);
  const std::uint64_t block = row >> block_shift_;
  const std::uint32_t ready = ready_[block].load(std::memory_order_relaxed);
  const Row first = static_cast<Row>(block << block_shift_);
  // Rows that were mapped after the block was first used need what is derived from them, no second check.
  const std::uint32_t present = std::min<std::uint32_t>(block_mask_ + 1, rows() - first);
  if (ready >= present) return;
  // Blocks are mostly made ready in turn, all of them; one that is wanted alone is read alone.
  if (block == 0) begin_reading(0);
  const bool is_in_turn = block == 0 || ready_[block - 1].load(std::memory_order_relaxed) != 0;
  is_in_turn ? read_ahead(first, first + present) : pages_.read_ahead(bytes_of(first), bytes_of(first + present));
  if (ready == 0) check_block(block);
  if (codes_ != nullptr && is_in_turn) codes_->expect(first + ready, first + present);
  derive(first + ready, first + present);
  if (codes_ != nullptr) codes_->note(first + ready, first + present);
  ready_[block].store(present, std::memory_order_release);
  advance_all_ready();
}

// REQUIRES blocks_mutex_. Amortised constant: a block is passed once.
void Vectors::advance_all_ready() const {
  const Row rows = this->rows();
  Row ready = all_ready_.load(std::memory_order_relaxed);
  while (ready < rows) {
    const std::uint32_t block = ready >> block_shift_;
    const Row end = (block << block_shift_) + ready_[block].load(std::memory_order_relaxed);
    if (end <= ready) break;
    ready = end;
    if ((ready & block_mask_) != 0) break;
  }
  all_ready_.store(ready, std::memory_order_release);
}

void Vectors::verify_all() const {
  const std::lock_guard<std::mutex> lock(blocks_mutex_);
  for (std::uint64_t block = 0; block < expected_.size(); ++block) check_block(block);
}

}  // namespace vecdb
