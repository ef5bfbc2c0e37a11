// Rows to offsets by an array, offsets to rows by binary search, sets by 64-bit windows where both run in step.

#include "row_map.hpp"

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

std::optional<Row> RowMap::View::row_of(Offset offset) const {
  if (offset < identity_) return offset;
  Row low = identity_;
  Row high = rows_;
  while (low < high) {
    const Row middle = low + (high - low) / 2;
    if (offset_of(middle) < offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == rows_ || offset_of(low) != offset) return std::nullopt;
  return low;
}

std::vector<Row> RowMap::View::rows_of(const std::vector<Offset>& offsets) const {
  std::vector<Row> rows;
  rows.reserve(offsets.size());
  for (const Offset offset : offsets) {
    if (const std::optional<Row> row = row_of(offset)) rows.push_back(*row);
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
      for (Row row = first; row < first + run; ++row) {
        if (offsets.contains(offset_of(row))) rows.set(row);
      }
    }
    first += run;
    if (run < 64) break;
  }
  return rows;
}

}  // namespace vecdb
