// The nearest nodes that a walk has met, in order: candidates and results of the walk in one array (instead of the two heaps of
// Malkov & Yashunin, Alg. 2), because what is farther than the last of the `wanted` results is never walked on from.
// Results may be limited to some nodes; the others are walked over, and kept as long as they are nearer than the last result.
// Invariant: ascending distances; at most `wanted` results, and nothing behind the last of that many. Belongs to one walk at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "scratch.hpp"
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

  // Put a node that was not put before in its place. Returns whether it is next, or after the one that is. REQUIRES that it is nearer than
  // bound().
  bool insert(Scored met, bool is_result) {
    if (entries_.size() == size_) entries_.resize(2 * size_ + kStride);
    const std::size_t place = place_of(met.distance);
    Entry* const entries = entries_.data();
    std::copy_backward(entries + place, entries + size_, entries + size_ + 1);
    entries[place] = {met.distance, met.node, is_result, false};
    ++size_;
    results_ += is_result ? 1 : 0;
    const bool is_soon = place <= next_ + 1;
    next_ = std::min(next_, place);
    while (results_ > wanted_ || size_ > room_) drop_last();
    while (results_ == wanted_ && !entries[size_ - 1].is_result) drop_last();
    return is_soon;
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

  // Behind all that are as near. Every kStride-th entry is looked at, then all between two of them, each in a loop that does not end early:
  // what a binary search would branch on, or wait for, no CPU foresees.
  std::size_t place_of(float distance) const {
    const Entry* const entries = entries_.data();
    std::size_t strides = 0;
    for (std::size_t i = kStride; i <= size_; i += kStride) strides += entries[i - 1].distance <= distance ? 1 : 0;
    std::size_t place = strides * kStride;
    const std::size_t end = std::min(size_, place + kStride - 1);
    for (std::size_t i = strides * kStride; i < end; ++i) place += entries[i].distance <= distance ? 1 : 0;
    return place;
  }

  static constexpr std::size_t kStride = 16;

  std::vector<Entry> entries_;  // the first size_ of them
  std::size_t wanted_ = 1;
  std::size_t room_ = 1;
  std::size_t size_ = 0;
  std::size_t results_ = 0;
  std::size_t next_ = 0;  // nothing before it waits to be expanded
};

}  // namespace vecdb
