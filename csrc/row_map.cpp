// Rows to offsets by an array, offsets to rows by binary search, sets by 64-bit windows where both run in step.

#include "row_map.hpp"

#include <algorithm>

namespace vecdb {

namespace {

// Bits [position, position + 64) of a set; beyond its end they are zero.
std::uint64_t window(const Bitset& bits, std::uint32_t position) {
  const std::size_t word = position >> 6;
  const std::uint32_t shift = position & 63;
  if (word >= bits.word_count()) return 0;
  std::uint64_t value = bits.words()[word] >> shift;
  if (shift != 0 && word + 1 < bits.word_count()) value |= bits.words()[word + 1] << (64 - shift);
  return value;
}

}  // namespace

void RowMap::reserve(Row more) { offsets_.reserve(std::uint64_t{rows_ - identity_} + more); }

void RowMap::append(Offset first, std::uint32_t count, const std::uint8_t* present) {
  for (std::uint32_t i = 0; i < count; ++i, ++offsets_seen_) {
    if (present[i] == 0) continue;
    if (identity_ == rows_ && rows_ == offsets_seen_) {
      ++identity_;
    } else {
      offsets_[rows_ - identity_] = first + i;
    }
    ++rows_;
  }
}

// The first row of [low, high) whose offset is not below this; high without one.
Row RowMap::View::first_from(Offset offset, Row low, Row high) const {
  while (low < high) {
    const Row middle = low + (high - low) / 2;
    if (offset_of(middle) < offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::optional<Row> RowMap::View::row_of(Offset offset) const {
  if (offset < identity_) return offset;
  const Row row = first_from(offset, identity_, rows_);
  if (row == rows_ || offset_of(row) != offset) return std::nullopt;
  return row;
}

std::vector<Row> RowMap::View::rows_of(const std::vector<Offset>& offsets) const {
  std::vector<Row> rows;
  rows.reserve(offsets.size());
  Row row = 0;
  for (const Offset offset : offsets) {
    if (row == rows_) break;
    // Offsets grow at least as fast as rows do, so that the place is not far.
    const Offset here = offset_of(row);
    if (offset > here) row = first_from(offset, row + 1, std::min<Row>(rows_ - row, offset - here + 1) + row);
    if (row < rows_ && offset_of(row) == offset) rows.push_back(row);
  }
  return rows;
}

Bitset RowMap::View::rows_of(const Bitset& offsets) const {
  Bitset rows(rows_);
  std::uint64_t* words = rows.words();
  for (Row first = 0; first < rows_;) {
    const Row run = std::min<Row>(64, rows_ - first);
    const Offset start = offset_of(first);
    if (offset_of(first + run - 1) - start == run - 1) {  // side by side in both spaces
      const std::uint64_t mask = run == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << run) - 1;
      words[first >> 6] = window(offsets, start) & mask;
    } else {
      std::uint64_t word = 0;
      for (Row i = 0; i < run; ++i) word |= static_cast<std::uint64_t>(offsets.contains(offset_of(first + i))) << i;
      words[first >> 6] = word;
    }
    first += run;
    if (run < 64) break;
  }
  return rows;
}

}  // namespace vecdb
