// Sets of offsets while a filter is evaluated: a short sorted list or a bitset, its own or lent by an index, either of them
// possibly complemented. Complements stay symbolic, so that "these 20 but not those 500,000" costs 20 look-ups.
//
// Invariant: a set borrows from postings and must not outlive the lock they are read under. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bitset.hpp"
#include "postings.hpp"
#include "types.hpp"

namespace vecdb {

class OffsetSet {
 public:
  static OffsetSet none() { return of_list({}); }
  static OffsetSet all() { return none().complement(); }
  // REQUIRES: ascending and unique.
  static OffsetSet of_list(std::vector<Offset> offsets);
  static OffsetSet of_bits(Bitset bits);
  // nullptr is the posting of a tag that nothing has.
  static OffsetSet borrow(const Posting* posting);

  OffsetSet complement() &&;

  bool is_complement() const { return complement_; }
  // What is listed: the members, or, of a complement, those that are not members.
  bool is_list() const { return bits_ == nullptr; }
  const Offset* list() const { return list_; }
  std::size_t list_size() const { return list_size_; }
  const Bitset& bits() const { return *bits_; }

  bool lists(Offset offset) const;
  bool contains(Offset offset) const { return lists(offset) != complement_; }

  template <class Visit>
  void for_each_listed(Visit&& visit) const {
    if (bits_ != nullptr) {
      bits_->for_each(visit);
    } else {
      for (std::size_t i = 0; i < list_size_; ++i) visit(list_[i]);
    }
  }

  // What is listed, to change: copied when it is lent.
  Bitset take_bits() &&;
  std::vector<Offset> take_list() &&;

 private:
  OffsetSet() = default;

  const Offset* list_ = nullptr;
  std::size_t list_size_ = 0;
  const Bitset* bits_ = nullptr;
  std::vector<Offset> own_list_;
  std::unique_ptr<Bitset> own_bits_;
  bool complement_ = false;
};

// Whether so many offsets are better listed than kept as one bit for each of universe.
bool fits_list(std::uint64_t count, Offset universe);

// The offsets in order, each once: of these, in any order. REQUIRES: all are below universe.
OffsetSet sorted_set(std::vector<Offset> offsets, Offset universe);

// Offsets are below universe, which bounds the cost: O(universe / 64) words a set, or the length of the shortest list.
OffsetSet intersection(std::vector<OffsetSet> sets, Offset universe);
OffsetSet union_of(std::vector<OffsetSet> sets, Offset universe);
// The offsets that are in at least min of the sets.
OffsetSet in_at_least(std::vector<OffsetSet> sets, std::uint64_t min, Offset universe);

}  // namespace vecdb
