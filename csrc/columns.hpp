// Numeric columns: entries (value, offset) sorted for range look-up.
//
// Invariant: a column is a set of entries; an offset may have several values, each once. Thread rule: like a standard container.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sorted_runs.hpp"
#include "types.hpp"

namespace vecdb {

// A number as the double nearest to it and what that rounding lost of an integer; compared lexicographically, which orders integers of
// 64 bits exactly. The value is not NaN.
struct ColumnValue {
  double value;
  std::int64_t rest;
};

inline bool operator<(const ColumnValue& a, const ColumnValue& b) { return a.value != b.value ? a.value < b.value : a.rest < b.rest; }

struct ColumnEntry {
  double value;
  std::int32_t rest;
  Offset offset;

  bool operator<(const ColumnEntry& other) const {
    if (value != other.value) return value < other.value;
    if (rest != other.rest) return rest < other.rest;
    return offset < other.offset;
  }
  bool operator==(const ColumnEntry& other) const { return value == other.value && rest == other.rest && offset == other.offset; }
};

enum class BoundKind { open, inclusive, exclusive };

struct ColumnRange {
  BoundKind low_kind = BoundKind::open;
  ColumnValue low{0, 0};
  BoundKind high_kind = BoundKind::open;
  ColumnValue high{0, 0};

  bool contains(const ColumnEntry& entry) const;
  // Whether every value in the other is in this one, as far as the bounds tell.
  bool contains(const ColumnRange& other) const;
};

class Column {
 public:
  // Entries in any order; an entry that is there already, or is not there, is no error.
  void add(std::vector<ColumnEntry> entries) { runs_.add(std::move(entries)); }
  void remove(std::vector<ColumnEntry> entries) { runs_.remove(std::move(entries)); }

  // How many entries a range has at most: removed ones are still counted.
  std::uint64_t count_at_most(const ColumnRange& range) const;

  // Calls visit(offset) for every entry in the range; an offset with several values there is visited as often.
  template <class Visit>
  void for_each(const ColumnRange& range, Visit&& visit) const {
    const Slice old = slice(runs_.sorted(), range);
    for (std::size_t i = old.first; i < old.last; ++i) {
      if (!runs_.is_removed(i)) visit(runs_.sorted()[i].offset);
    }
    const Slice fresh = slice(runs_.recent(), range);
    for (std::size_t i = fresh.first; i < fresh.last; ++i) visit(runs_.recent()[i].offset);
  }

  // Calls visit(entry) for the entries beyond `after`, nullptr for all, in order, until it returns false.
  template <class Visit>
  void for_each_entry(const ColumnEntry* after, Visit&& visit) const {
    runs_.for_each_beyond(after, visit);
  }

  std::uint64_t bytes() const { return runs_.bytes(); }

  // Where the entries of a range stand among all in order, but for the recent ones.
  struct Slice {
    std::size_t first;
    std::size_t last;
  };
  Slice ranks(const ColumnRange& range) const { return slice(runs_.sorted(), range); }
  std::size_t ranked() const { return runs_.sorted().size(); }
  // REQUIRES rank < ranked().
  ColumnValue value_at(std::size_t rank) const { return {runs_.sorted()[rank].value, runs_.sorted()[rank].rest}; }

 private:
  static Slice slice(const std::vector<ColumnEntry>& run, const ColumnRange& range);

  SortedRuns<ColumnEntry> runs_;
};

class Columns {
 public:
  // Creates it when it is not there.
  Column& at(std::uint32_t column) { return columns_[column]; }
  // nullptr when nothing was ever added to it.
  const Column* find(std::uint32_t column) const;
  Column* find(std::uint32_t column);
  void drop(std::uint32_t column) { columns_.erase(column); }
  std::uint64_t bytes() const;

 private:
  std::unordered_map<std::uint32_t, Column> columns_;
};

}  // namespace vecdb
