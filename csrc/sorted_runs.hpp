// A set of entries as two sorted runs: look-up by binary search in both, removal by marking, merging when the second has grown.
//
// Invariant: most entries lie in one sorted run; recent ones in a small second run that is merged in when it has grown; removed ones of
// the first are marked and leave at the next merge. Entry has operator< and operator==, which agree. Thread rule: like a standard
// container.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "bitset.hpp"

namespace vecdb {

template <class Entry>
class SortedRuns {
 public:
  // Entries in any order; an entry that is there already, or is not there, is no error.
  void add(std::vector<Entry> entries);
  void remove(std::vector<Entry> entries);

  // Calls visit(entry) for each entry once, in order.
  template <class Visit>
  void for_each(Visit&& visit) const;
  // The same for the entries beyond `after`, nullptr for all, until visit returns false.
  template <class Visit>
  void for_each_beyond(const Entry* after, Visit&& visit) const;

  const std::vector<Entry>& sorted() const { return sorted_; }
  const std::vector<Entry>& recent() const { return recent_; }
  // Of a position in sorted().
  bool is_removed(std::size_t position) const { return removed_.contains(static_cast<std::uint32_t>(position)); }
  // Positions in sorted() that count no more; nullptr when all do.
  const Bitset* removed() const { return removed_count_ == 0 ? nullptr : &removed_; }
  std::uint64_t bytes() const { return (sorted_.capacity() + recent_.capacity()) * sizeof(Entry) + removed_.bytes(); }

 private:
  // The second run stays below 1/64 of the first, so that an insertion into it moves little memory and a merge is paid for by many
  // insertions.
  static constexpr std::size_t kSmallestMerge = 4096;
  static constexpr std::size_t kRecentShare = 64;
  // So few entries are moved in or out of the second run one by one.
  static constexpr std::size_t kFew = 4;

  static void sort_unique(std::vector<Entry>& entries) {
    if (!std::is_sorted(entries.begin(), entries.end())) std::sort(entries.begin(), entries.end());
    entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  }

  void remove_recent(const std::vector<Entry>& entries);
  void merge_when_due();

  std::vector<Entry> sorted_;
  Bitset removed_;  // positions in sorted_; empty while nothing is removed
  std::uint64_t removed_count_ = 0;
  std::vector<Entry> recent_;
};

template <class Entry>
template <class Visit>
void SortedRuns<Entry>::for_each(Visit&& visit) const {
  for_each_beyond(nullptr, [&visit](const Entry& entry) {
    visit(entry);
    return true;
  });
}

template <class Entry>
template <class Visit>
void SortedRuns<Entry>::for_each_beyond(const Entry* after, Visit&& visit) const {
  const auto first = [after](const std::vector<Entry>& run) {
    return after == nullptr ? run.begin() : std::upper_bound(run.begin(), run.end(), *after);
  };
  auto fresh = first(recent_);
  for (auto old = first(sorted_); old != sorted_.end(); ++old) {
    for (; fresh != recent_.end() && *fresh < *old; ++fresh) {
      if (!visit(*fresh)) return;
    }
    if (is_removed(static_cast<std::size_t>(old - sorted_.begin()))) continue;
    if (!visit(*old)) return;
    if (fresh != recent_.end() && *fresh == *old) ++fresh;
  }
  for (; fresh != recent_.end(); ++fresh) {
    if (!visit(*fresh)) return;
  }
}

template <class Entry>
void SortedRuns<Entry>::add(std::vector<Entry> entries) {
  if (entries.empty()) return;
  if (entries.size() <= kFew) {
    for (const Entry& entry : entries) {
      const auto place = std::lower_bound(recent_.begin(), recent_.end(), entry);
      if (place == recent_.end() || !(*place == entry)) recent_.insert(place, entry);
    }
  } else {
    sort_unique(entries);
    std::vector<Entry> merged;
    merged.reserve(recent_.size() + entries.size());
    std::set_union(recent_.begin(), recent_.end(), entries.begin(), entries.end(), std::back_inserter(merged));
    recent_ = std::move(merged);
  }
  merge_when_due();
}

template <class Entry>
void SortedRuns<Entry>::remove(std::vector<Entry> entries) {
  if (entries.empty()) return;
  sort_unique(entries);
  remove_recent(entries);
  for (const Entry& entry : entries) {
    const auto place = std::lower_bound(sorted_.begin(), sorted_.end(), entry);
    if (place == sorted_.end() || !(*place == entry)) continue;
    const auto position = static_cast<std::uint32_t>(place - sorted_.begin());
    if (removed_.size() == 0) removed_.resize(static_cast<std::uint32_t>(sorted_.size()));
    if (removed_.contains(position)) continue;
    removed_.set(position);
    ++removed_count_;
  }
  merge_when_due();
}

template <class Entry>
void SortedRuns<Entry>::remove_recent(const std::vector<Entry>& entries) {
  if (entries.size() <= kFew) {
    for (const Entry& entry : entries) {
      const auto place = std::lower_bound(recent_.begin(), recent_.end(), entry);
      if (place != recent_.end() && *place == entry) recent_.erase(place);
    }
    return;
  }
  std::vector<Entry> left;
  left.reserve(recent_.size());
  std::set_difference(recent_.begin(), recent_.end(), entries.begin(), entries.end(), std::back_inserter(left));
  recent_ = std::move(left);
}

template <class Entry>
void SortedRuns<Entry>::merge_when_due() {
  const bool grown = recent_.size() > std::max(kSmallestMerge, sorted_.size() / kRecentShare);
  const bool thinned = removed_count_ > std::max<std::size_t>(kSmallestMerge, sorted_.size() / 4);
  if (!grown && !thinned) return;
  std::vector<Entry> kept;
  if (removed_count_ != 0) {
    kept.reserve(sorted_.size());
    for (std::size_t i = 0; i < sorted_.size(); ++i) {
      if (!is_removed(i)) kept.push_back(sorted_[i]);
    }
  } else {
    kept = std::move(sorted_);
  }
  // An entry that was added again while it stood in the first run is in both; set_union keeps one.
  std::vector<Entry> merged;
  merged.reserve(kept.size() + recent_.size());
  std::set_union(kept.begin(), kept.end(), recent_.begin(), recent_.end(), std::back_inserter(merged));
  sorted_ = std::move(merged);
  recent_ = std::vector<Entry>();
  removed_ = Bitset();
  removed_count_ = 0;
}

}  // namespace vecdb
