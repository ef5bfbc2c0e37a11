// Set operations: the shortest list decides the cost, bitsets are combined word by word, complements by De Morgan.

#include "offset_set.hpp"

#include <algorithm>
#include <utility>

namespace vecdb {

namespace {

// Beyond one offset in this many a bitset is quicker to fill than a list is to sort.
constexpr std::size_t kListShare = 64;

bool fits_list(std::size_t count, Offset universe) { return count <= std::max<std::size_t>(16, universe / kListShare); }

// Keep the offsets that the set contains. Both ascend, so the look-up moves on from the last place, in growing steps.
void keep_members(std::vector<Offset>& offsets, const OffsetSet& set) {
  if (!set.is_list()) {
    const auto is_absent = [&](Offset offset) { return !set.contains(offset); };
    offsets.erase(std::remove_if(offsets.begin(), offsets.end(), is_absent), offsets.end());
    return;
  }
  const Offset* place = set.list();
  const Offset* const end = place + set.list_size();
  std::size_t kept = 0;
  for (const Offset offset : offsets) {
    const std::ptrdiff_t left = end - place;
    std::ptrdiff_t step = 1;
    while (step < left && place[step] < offset) step *= 2;
    place = std::lower_bound(place, step < left ? place + step + 1 : end, offset);
    const bool is_listed = place != end && *place == offset;
    if (is_listed != set.is_complement()) offsets[kept++] = offset;
  }
  offsets.resize(kept);
}

// The union of what is listed, complements or not.
OffsetSet union_of_listed(std::vector<OffsetSet> sets, Offset universe) {
  if (sets.empty()) return OffsetSet::none();
  std::size_t total = 0;
  bool lists_only = true;
  for (const OffsetSet& set : sets) {
    lists_only = lists_only && set.is_list();
    total += set.is_list() ? set.list_size() : 0;
  }
  if (lists_only && fits_list(total, universe)) {
    std::vector<Offset> merged;
    merged.reserve(total);
    for (const OffsetSet& set : sets) merged.insert(merged.end(), set.list(), set.list() + set.list_size());
    std::sort(merged.begin(), merged.end());
    merged.erase(std::unique(merged.begin(), merged.end()), merged.end());
    return OffsetSet::of_list(std::move(merged));
  }
  Bitset bits(universe);
  for (const OffsetSet& set : sets) {
    if (set.is_list()) {
      set.for_each_listed([&](Offset offset) { bits.set(offset); });
    } else {
      bits.or_with(set.bits());
    }
  }
  return OffsetSet::of_bits(std::move(bits));
}

void subtract(Bitset& bits, const OffsetSet& set) {
  if (!set.is_list()) {
    bits.and_not(set.bits());
    return;
  }
  for (std::size_t i = 0; i < set.list_size() && set.list()[i] < bits.size(); ++i) bits.reset(set.list()[i]);
}

}  // namespace

OffsetSet OffsetSet::of_list(std::vector<Offset> offsets) {
  OffsetSet set;
  set.own_list_ = std::move(offsets);
  set.list_ = set.own_list_.data();
  set.list_size_ = set.own_list_.size();
  return set;
}

OffsetSet OffsetSet::of_bits(Bitset bits) {
  OffsetSet set;
  set.own_bits_ = std::make_unique<Bitset>(std::move(bits));
  set.bits_ = set.own_bits_.get();
  return set;
}

OffsetSet OffsetSet::borrow(const Posting* posting) {
  if (posting == nullptr) return none();
  OffsetSet set;
  if (posting->is_dense()) {
    set.bits_ = &posting->dense();
  } else {
    set.list_ = posting->sorted();
    set.list_size_ = posting->count();
  }
  return set;
}

OffsetSet OffsetSet::complement() && {
  complement_ = !complement_;
  return std::move(*this);
}

bool OffsetSet::lists(Offset offset) const {
  return bits_ != nullptr ? bits_->contains(offset) : std::binary_search(list_, list_ + list_size_, offset);
}

Bitset OffsetSet::take_bits() && { return own_bits_ ? std::move(*own_bits_) : *bits_; }

std::vector<Offset> OffsetSet::take_list() && {
  if (list_size_ == 0) return {};
  return own_list_.empty() ? std::vector<Offset>(list_, list_ + list_size_) : std::move(own_list_);
}

OffsetSet intersection(std::vector<OffsetSet> sets, Offset universe) {
  // Lists before bitsets, short before long, complements last: the first one bounds the work.
  const auto rank = [](const OffsetSet& set) { return (set.is_complement() ? 2 : 0) + (set.is_list() ? 0 : 1); };
  std::sort(sets.begin(), sets.end(),
            [&](const OffsetSet& a, const OffsetSet& b) { return rank(a) != rank(b) ? rank(a) < rank(b) : a.list_size() < b.list_size(); });
  if (sets.empty()) return OffsetSet::all();
  if (sets.front().is_complement()) {
    return union_of_listed(std::move(sets), universe).complement();
  }
  if (sets.front().is_list()) {
    std::vector<Offset> offsets = std::move(sets.front()).take_list();
    for (std::size_t i = 1; i < sets.size() && !offsets.empty(); ++i) keep_members(offsets, sets[i]);
    return OffsetSet::of_list(std::move(offsets));
  }
  Bitset bits = std::move(sets.front()).take_bits();
  for (std::size_t i = 1; i < sets.size(); ++i) {
    if (sets[i].is_complement()) {
      subtract(bits, sets[i]);
    } else {
      bits.and_with(sets[i].bits());
    }
  }
  return OffsetSet::of_bits(std::move(bits));
}

OffsetSet union_of(std::vector<OffsetSet> sets, Offset universe) {
  for (OffsetSet& set : sets) set = std::move(set).complement();
  return intersection(std::move(sets), universe).complement();
}

OffsetSet in_at_least(std::vector<OffsetSet> sets, std::uint64_t min, Offset universe) {
  if (min == 0) return OffsetSet::all();
  if (min > sets.size()) return OffsetSet::none();
  if (min == 1) return union_of(std::move(sets), universe);
  if (min == sets.size()) return intersection(std::move(sets), universe);
  // A complement counts once for every offset, less once for those that it lists.
  const auto complements = std::count_if(sets.begin(), sets.end(), [](const OffsetSet& set) { return set.is_complement(); });
  std::vector<std::int32_t> counts(universe, static_cast<std::int32_t>(complements));
  for (const OffsetSet& set : sets) {
    const std::int32_t step = set.is_complement() ? -1 : 1;
    set.for_each_listed([&](Offset offset) { counts[offset] += step; });
  }
  Bitset bits(universe);
  for (Offset offset = 0; offset < universe; ++offset) {
    if (counts[offset] >= static_cast<std::int64_t>(min)) bits.set(offset);
  }
  return OffsetSet::of_bits(std::move(bits));
}

}  // namespace vecdb
