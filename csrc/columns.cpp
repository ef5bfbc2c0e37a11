// Look-up in a column: the slice of each run that a range cuts out.

#include "columns.hpp"

#include <algorithm>

namespace vecdb {

namespace {

bool below(const ColumnEntry& entry, const ColumnValue& bound) {
  return entry.value != bound.value ? entry.value < bound.value : entry.rest < bound.rest;
}

bool above(const ColumnValue& bound, const ColumnEntry& entry) {
  return entry.value != bound.value ? bound.value < entry.value : bound.rest < entry.rest;
}

}  // namespace

bool ColumnRange::contains(const ColumnEntry& entry) const {
  const ColumnValue value{entry.value, entry.rest};
  const bool is_above = low_kind == BoundKind::open || low < value || (low_kind == BoundKind::inclusive && !(value < low));
  const bool is_below = high_kind == BoundKind::open || value < high || (high_kind == BoundKind::inclusive && !(high < value));
  return is_above && is_below;
}

bool ColumnRange::contains(const ColumnRange& other) const {
  // Of two bounds at one value only this one may not leave the value out when the other has it.
  const auto is_as_wide = [](BoundKind own, BoundKind others) { return own == BoundKind::inclusive || others == BoundKind::exclusive; };
  if (low_kind != BoundKind::open) {
    if (other.low_kind == BoundKind::open || other.low < low) return false;
    if (!(low < other.low) && !is_as_wide(low_kind, other.low_kind)) return false;
  }
  if (high_kind != BoundKind::open) {
    if (other.high_kind == BoundKind::open || high < other.high) return false;
    if (!(other.high < high) && !is_as_wide(high_kind, other.high_kind)) return false;
  }
  return true;
}

Column::Slice Column::slice(const std::vector<ColumnEntry>& run, const ColumnRange& range) {
  const auto begin = run.begin();
  auto first = begin;
  if (range.low_kind == BoundKind::inclusive) first = std::lower_bound(begin, run.end(), range.low, below);
  if (range.low_kind == BoundKind::exclusive) first = std::upper_bound(begin, run.end(), range.low, above);
  auto last = run.end();
  if (range.high_kind == BoundKind::inclusive) last = std::upper_bound(begin, run.end(), range.high, above);
  if (range.high_kind == BoundKind::exclusive) last = std::lower_bound(begin, run.end(), range.high, below);
  if (last < first) last = first;
  return {static_cast<std::size_t>(first - begin), static_cast<std::size_t>(last - begin)};
}

std::uint64_t Column::count_at_most(const ColumnRange& range) const {
  const Slice old = slice(runs_.sorted(), range);
  const Slice fresh = slice(runs_.recent(), range);
  return (old.last - old.first) + (fresh.last - fresh.first);
}

const Column* Columns::find(std::uint32_t column) const {
  const auto found = columns_.find(column);
  return found == columns_.end() ? nullptr : &found->second;
}

Column* Columns::find(std::uint32_t column) {
  const auto found = columns_.find(column);
  return found == columns_.end() ? nullptr : &found->second;
}

std::uint64_t Columns::bytes() const {
  std::uint64_t total = 0;
  for (const auto& [number, column] : columns_) total += sizeof(number) + sizeof(Column) + column.bytes();
  return total;
}

}  // namespace vecdb
