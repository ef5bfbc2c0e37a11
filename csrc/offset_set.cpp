// Set operations: the shortest list decides the cost, bitsets are combined word by word, complements by De Morgan.

#include "offset_set.hpp"

#include <algorithm>
#include <utility>

namespace vecdb {

namespace {

// Beyond one offset in this many a bitset is quicker to fill than a list is to sort.
constexpr std::size_t kListShare = 64;

// From one offset in this many on, setting bits and reading them back in order is quicker than sorting.
constexpr std::size_t kSortShare = 2048;

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
    return sorted_set(std::move(merged), universe);
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

// How many sets each offset is in, as binary numbers that lie across bitsets: bit i of plane p is digit p of offset i's number.
class Tallies {
 public:
  Tallies(Offset universe, std::size_t sets) : universe_(universe) {
    for (; sets != 0; sets >>= 1) planes_.emplace_back(universe);
  }

  void add(const OffsetSet& set) {
    if (set.is_list() && !set.is_complement()) {
      set.for_each_listed([this](Offset offset) {
        for (std::size_t p = 0; carried(p, offset); ++p) {
        }
      });
      return;
    }
    if (set.is_list()) {
      Bitset listed(universe_);
      set.for_each_listed([&](Offset offset) { listed.set(offset); });
      add_words(listed, ~std::uint64_t{0});
    } else {
      add_words(set.bits(), set.is_complement() ? ~std::uint64_t{0} : 0);
    }
  }

  Bitset at_least(std::uint64_t min) const {
    Bitset result(universe_);
    for (std::size_t w = 0; w < result.word_count(); ++w) {
      // From the highest digit down: greater so far, or equal so far.
      std::uint64_t greater = 0;
      std::uint64_t equal = ~std::uint64_t{0};
      for (std::size_t p = planes_.size(); p-- > 0;) {
        const std::uint64_t digit = planes_[p].words()[w];
        if ((min >> p & 1) != 0) {
          equal &= digit;
        } else {
          greater |= equal & digit;
          equal &= ~digit;
        }
      }
      result.words()[w] = greater | equal;
    }
    result.resize(universe_);  // beyond it, complements were counted
    return result;
  }

 private:
  bool carried(std::size_t plane, Offset offset) {
    Bitset& digits = planes_[plane];
    if (!digits.contains(offset)) {
      digits.set(offset);
      return false;
    }
    digits.reset(offset);
    return true;
  }

  void add_words(const Bitset& bits, std::uint64_t flipped) {
    for (std::size_t w = 0; w < planes_.front().word_count(); ++w) {
      std::uint64_t carry = (w < bits.word_count() ? bits.words()[w] : 0) ^ flipped;
      for (std::size_t p = 0; carry != 0; ++p) {
        std::uint64_t& digits = planes_[p].words()[w];
        const std::uint64_t sum = digits ^ carry;
        carry &= digits;
        digits = sum;
      }
    }
  }

  const Offset universe_;
  std::vector<Bitset> planes_;
};

OffsetSet listed_at_least(const std::vector<OffsetSet>& sets, std::uint64_t min) {
  std::vector<Offset> all;
  for (const OffsetSet& set : sets) all.insert(all.end(), set.list(), set.list() + set.list_size());
  std::sort(all.begin(), all.end());
  std::vector<Offset> often;
  for (auto first = all.begin(); first != all.end();) {
    const auto last = std::find_if(first, all.end(), [first](Offset offset) { return offset != *first; });
    if (static_cast<std::uint64_t>(last - first) >= min) often.push_back(*first);
    first = last;
  }
  return OffsetSet::of_list(std::move(often));
}

}  // namespace

bool fits_list(std::uint64_t count, Offset universe) { return count <= std::max<std::uint64_t>(16, universe / kListShare); }

OffsetSet sorted_set(std::vector<Offset> offsets, Offset universe) {
  if (offsets.size() <= std::max<std::size_t>(64, universe / kSortShare)) {
    std::sort(offsets.begin(), offsets.end());
    offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
    return OffsetSet::of_list(std::move(offsets));
  }
  Bitset bits(universe);
  for (const Offset offset : offsets) bits.set(offset);
  return OffsetSet::of_list(bits.positions(bits.count()));
}

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
  std::uint64_t total = 0;
  bool lists_only = true;
  for (const OffsetSet& set : sets) {
    lists_only = lists_only && set.is_list() && !set.is_complement();
    total += set.list_size();
  }
  if (lists_only && fits_list(total, universe)) return listed_at_least(sets, min);
  Tallies tallies(universe, sets.size());
  for (const OffsetSet& set : sets) tallies.add(set);
  return OffsetSet::of_bits(tallies.at_least(min));
}

}  // namespace vecdb
