// A column as two sorted runs: look-up by binary search in both, removal by marking, merging when the second has grown.

#include "columns.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace vecdb {

namespace {

// The second run stays below 1/64 of the first, so that an insertion into it moves little memory and a merge is paid for by many
// insertions.
constexpr std::size_t kSmallestMerge = 4096;
constexpr std::size_t kRecentShare = 64;

bool entry_less(const ColumnEntry& a, const ColumnEntry& b) {
  if (a.value != b.value) return a.value < b.value;
  if (a.rest != b.rest) return a.rest < b.rest;
  return a.offset < b.offset;
}

bool entry_equal(const ColumnEntry& a, const ColumnEntry& b) { return a.value == b.value && a.rest == b.rest && a.offset == b.offset; }

bool below(const ColumnEntry& entry, const ColumnValue& bound) {
  return entry.value != bound.value ? entry.value < bound.value : entry.rest < bound.rest;
}

bool above(const ColumnValue& bound, const ColumnEntry& entry) {
  return entry.value != bound.value ? bound.value < entry.value : bound.rest < entry.rest;
}

void sort_unique(std::vector<ColumnEntry>& entries) {
  std::sort(entries.begin(), entries.end(), entry_less);
  entries.erase(std::unique(entries.begin(), entries.end(), entry_equal), entries.end());
}

}  // namespace

void Column::add(std::vector<ColumnEntry> entries) {
  if (entries.empty()) return;
  if (entries.size() == 1) {
    const auto place = std::lower_bound(recent_.begin(), recent_.end(), entries.front(), entry_less);
    if (place == recent_.end() || !entry_equal(*place, entries.front())) recent_.insert(place, entries.front());
  } else {
    sort_unique(entries);
    std::vector<ColumnEntry> merged;
    merged.reserve(recent_.size() + entries.size());
    std::set_union(recent_.begin(), recent_.end(), entries.begin(), entries.end(), std::back_inserter(merged), entry_less);
    recent_ = std::move(merged);
  }
  merge_when_due();
}

void Column::remove(std::vector<ColumnEntry> entries) {
  if (entries.empty()) return;
  sort_unique(entries);
  std::vector<ColumnEntry> left;
  left.reserve(recent_.size());
  std::set_difference(recent_.begin(), recent_.end(), entries.begin(), entries.end(), std::back_inserter(left), entry_less);
  recent_ = std::move(left);
  for (const ColumnEntry& entry : entries) {
    const auto place = std::lower_bound(sorted_.begin(), sorted_.end(), entry, entry_less);
    if (place == sorted_.end() || !entry_equal(*place, entry)) continue;
    const auto position = static_cast<std::uint32_t>(place - sorted_.begin());
    if (removed_.size() == 0) removed_.resize(static_cast<std::uint32_t>(sorted_.size()));
    if (removed_.contains(position)) continue;
    removed_.set(position);
    ++removed_count_;
  }
  merge_when_due();
}

void Column::merge_when_due() {
  const bool grown = recent_.size() > std::max(kSmallestMerge, sorted_.size() / kRecentShare);
  const bool thinned = removed_count_ > std::max<std::size_t>(kSmallestMerge, sorted_.size() / 4);
  if (!grown && !thinned) return;
  std::vector<ColumnEntry> kept;
  if (removed_count_ != 0) {
    kept.reserve(sorted_.size());
    for (std::size_t i = 0; i < sorted_.size(); ++i) {
      if (!removed_.contains(static_cast<std::uint32_t>(i))) kept.push_back(sorted_[i]);
    }
  } else {
    kept = std::move(sorted_);
  }
  // An entry that was added again while it stood in the first run is in both; set_union keeps one.
  std::vector<ColumnEntry> merged;
  merged.reserve(kept.size() + recent_.size());
  std::set_union(kept.begin(), kept.end(), recent_.begin(), recent_.end(), std::back_inserter(merged), entry_less);
  sorted_ = std::move(merged);
  recent_ = std::vector<ColumnEntry>();
  removed_ = Bitset();
  removed_count_ = 0;
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
  const Slice old = slice(sorted_, range);
  const Slice fresh = slice(recent_, range);
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
