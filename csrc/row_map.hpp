// Which offset a row of a field belongs to, and back: rows are the present vectors in offset order.
//
// Invariant: while every offset has a vector, row and offset are the same number and nothing is stored; from the first absent one on
// the offset of each row is. Thread rule: one thread appends under the index's exclusive lock; a View taken under the shared side stays
// valid afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bitset.hpp"
#include "stable_array.hpp"
#include "types.hpp"

namespace vecdb {

class RowMap {
 public:
  class View {
   public:
    View() = default;
    View(const StableArray<Offset>* offsets, Row rows, Row identity) : offsets_(offsets), rows_(rows), identity_(identity) {}

    Row rows() const { return rows_; }
    bool is_identity() const { return identity_ == rows_; }
    Offset offset_of(Row row) const { return row < identity_ ? row : (*offsets_)[row - identity_]; }
    std::optional<Row> row_of(Offset offset) const;

    // The rows of those offsets that have one; both ascend.
    std::vector<Row> rows_of(const std::vector<Offset>& offsets) const;
    Bitset rows_of(const Bitset& offsets) const;

   private:
    Row first_from(Offset offset, Row low, Row high) const;

    const StableArray<Offset>* offsets_ = nullptr;
    Row rows_ = 0;
    Row identity_ = 0;  // rows below this are their own offsets
  };

  // Offsets [first, first + count), present[i] != 0 where offset first + i has a row. REQUIRES reserve for as many rows.
  void append(Offset first, std::uint32_t count, const std::uint8_t* present);
  // Make room for more rows, so that append cannot fail.
  void reserve(Row more);

  Row rows() const { return rows_; }
  View view() const { return View(&offsets_, rows_, identity_); }
  std::uint64_t bytes() const { return offsets_.bytes(); }

 private:
  StableArray<Offset> offsets_;  // of row identity_ + i at i
  Row rows_ = 0;
  Row identity_ = 0;
  Offset offsets_seen_ = 0;
};

}  // namespace vecdb
