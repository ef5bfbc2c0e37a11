// The nearest nodes that a walk has met, in order: candidates and results of the walk in one array (instead of the two heaps of
// Malkov & Yashunin, Alg. 2), because what is farther than the last of the `wanted` results is never walked on from.
// Results may be limited to some nodes; the others are walked over, and kept as long as they are nearer than the last result.
// Invariant: ascending distances; at most `wanted` results, and nothing behind the last of that many. Belongs to one walk at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "types.hpp"

namespace vecdb {

class NearList {
 public:
  struct Entry {
    float distance;
    Node node;
    bool is_result;
    bool is_expanded;
  };

  // Forget all. At most `room` nodes are kept. REQUIRES room >= wanted >= 1.
  void reset(std::size_t wanted, std::size_t room) {
    wanted_ = wanted;
    room_ = room;
    size_ = 0;
    results_ = 0;
    next_ = 0;
  }

  // A node at this distance or farther cannot enter.
  float bound() const {
    const bool is_full = results_ >= wanted_ || size_ == room_;
    return is_full ? entries_[size_ - 1].distance : std::numeric_limits<float>::infinity();
  }

  // Add nodes that were not added before, in any order; what is too far is left out. They are sorted here. Returns whether one of them is
  // next.
  bool merge(Entry* begin, Entry* end) {
    if (begin == end) return false;
    std::sort(begin, end, [](const Entry& a, const Entry& b) { return a.distance < b.distance; });
    const auto count = static_cast<std::size_t>(end - begin);
    if (entries_.size() < size_ + count) entries_.resize(size_ + count);
    Entry* const entries = entries_.data();
    std::size_t from = size_;
    for (std::size_t left = count; left > 0;) {
      const bool is_behind = from == 0 || !(begin[left - 1].distance < entries[from - 1].distance);
      if (is_behind) {
        --left;
        results_ += begin[left].is_result ? 1 : 0;
        entries[from + left] = begin[left];
      } else {
        --from;
        entries[from + left] = entries[from];
      }
    }
    size_ += count;
    const bool is_next = from <= next_;
    if (is_next) next_ = from;
    while (results_ > wanted_ || size_ > room_) drop_last();
    while (results_ == wanted_ && !entries[size_ - 1].is_result) drop_last();
    return is_next;
  }

  // The nearest entry that is not expanded yet, which it is from now on; nullptr when there is none.
  const Entry* next() {
    while (next_ < size_ && entries_[next_].is_expanded) ++next_;
    if (next_ >= size_) return nullptr;
    entries_[next_].is_expanded = true;
    return &entries_[next_++];
  }
  // What next would give now.
  const Entry* peek() const {
    std::size_t at = next_;
    while (at < size_ && entries_[at].is_expanded) ++at;
    return at >= size_ ? nullptr : &entries_[at];
  }

  const Entry* begin() const { return entries_.data(); }
  const Entry* end() const { return entries_.data() + size_; }

 private:
  void drop_last() {
    --size_;
    results_ -= entries_[size_].is_result ? 1 : 0;
  }

  std::vector<Entry> entries_;
  std::size_t wanted_ = 1;
  std::size_t room_ = 1;
  std::size_t size_ = 0;
  std::size_t results_ = 0;
  std::size_t next_ = 0;  // nothing before it waits to be expanded
};

}  // namespace vecdb
