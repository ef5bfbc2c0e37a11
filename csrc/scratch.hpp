// The working memory of one walk through a graph, reusable so that a search allocates nothing once it is warm: visited
// nodes as a bitset, the nearest of them in order, and buffers for links. A Scratch serves one walk at a time; a ScratchPool is
// thread-safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "lease_pool.hpp"
#include "types.hpp"

namespace vecdb {

// A node and the distance of its row to what is searched.
struct Scored {
  float distance;
  Node node;
};

// Equal distances are ordered by node, so that a walk does not depend on how a heap was filled.
struct NearestFirst {
  bool operator()(const Scored& a, const Scored& b) const {
    return a.distance > b.distance || (a.distance == b.distance && a.node > b.node);
  }
};
struct FarthestFirst {
  bool operator()(const Scored& a, const Scored& b) const { return NearestFirst()(b, a); }
};

class VisitedNodes {
 public:
  // Forget all, and make room for nodes [0, capacity).
  void reset(Node capacity) {
    const std::size_t words = (static_cast<std::size_t>(capacity) + 63) / 64;
    if (touched_count_ > bits_.size() / 8) {
      std::fill(bits_.begin(), bits_.end(), 0);
    } else {
      for (std::size_t i = 0; i < touched_count_; ++i) bits_[touched_[i]] = 0;
    }
    touched_count_ = 0;
    if (touched_.size() <= words) touched_.resize(words + 1);
    if (bits_.size() < words) bits_.resize(words, 0);
  }

  // True when node was not in the set yet. REQUIRES node < capacity. Without branches: what a walk meets is half known, half new, in no
  // order that a CPU could foresee.
  bool insert(Node node) {
    std::uint64_t& word = bits_[node >> 6];
    touched_[touched_count_] = node >> 6;
    touched_count_ += word == 0 ? 1 : 0;
    const std::uint64_t before = word;
    word |= std::uint64_t{1} << (node & 63);
    return word != before;
  }

 private:
  std::vector<std::uint64_t> bits_;
  std::vector<std::uint32_t> touched_;  // the first touched_count_: words that are not zero
  std::size_t touched_count_ = 0;
};

// The nearest nodes offered, at most a number of them, in ascending order, in one array, because the few hundred of a walk are moved faster
// than heaps are mended.
class NearestNodes {
 public:
  void reset(std::size_t most) {
    most_ = most;
    size_ = 0;
    next_ = 0;
    if (entries_.size() <= most) entries_.resize(most + 1);
    if (is_expanded_.size() <= most) is_expanded_.resize(most + 1);
  }

  std::size_t size() const { return size_; }
  bool is_full() const { return size_ == most_; }
  const Scored& operator[](std::size_t i) const { return entries_[i]; }
  const Scored& back() const { return entries_[size_ - 1]; }
  const Scored* begin() const { return entries_.data(); }
  const Scored* end() const { return entries_.data() + size_; }

  // Put it in its place; the farthest leaves when there are too many. True when it is the nearest that is not expanded now.
  // REQUIRES that it is nearer than back() when is_full().
  bool insert(Scored scored) {
    const std::size_t place = place_of(scored.distance);
    std::memmove(&entries_[place + 1], &entries_[place], (size_ - place) * sizeof(Scored));
    std::memmove(&is_expanded_[place + 1], &is_expanded_[place], size_ - place);
    entries_[place] = scored;
    is_expanded_[place] = 0;
    size_ += is_full() ? 0 : 1;
    if (place > next_) return false;
    next_ = place;
    return true;
  }

  // The nearest that is not expanded; nullptr when all are.
  const Scored* next() const { return next_ < size_ ? &entries_[next_] : nullptr; }
  // It is expanded from now on. REQUIRES next() != nullptr.
  void expand() {
    is_expanded_[next_] = 1;
    while (next_ < size_ && is_expanded_[next_] != 0) ++next_;
  }

 private:
  // Before all that are as near. What a binary search would branch on, or wait for, no CPU foresees: so of up to kFew entries every
  // kStride-th is looked at, then all between two of them, in loops that do not end early.
  std::size_t place_of(float distance) const {
    std::size_t first = 0;
    std::size_t count = size_;
    while (count > kFew) {
      const std::size_t half = count / 2;
      if (entries_[first + half].distance < distance) first += half;
      count -= half;
    }
    const Scored* const entries = entries_.data() + first;
    std::size_t strides = 0;
    for (std::size_t i = kStride; i <= count; i += kStride) strides += entries[i - 1].distance < distance ? 1 : 0;
    std::size_t place = strides * kStride;
    const std::size_t end = std::min(count, place + kStride - 1);
    for (std::size_t i = strides * kStride; i < end; ++i) place += entries[i].distance < distance ? 1 : 0;
    return first + place;
  }

  static constexpr std::size_t kStride = 16;
  static constexpr std::size_t kFew = 512;

  std::vector<Scored> entries_;  // one more than can be kept, so that the farthest has somewhere to go
  std::vector<std::uint8_t> is_expanded_;
  std::size_t most_ = 0;
  std::size_t size_ = 0;
  std::size_t next_ = 0;
};

// Nodes whose distances are wanted.
struct Batch {
  std::vector<Node> nodes;
  std::vector<Row> rows;
  std::size_t count = 0;

  void reset(std::size_t most) {
    count = 0;
    if (nodes.size() < most) nodes.resize(most);
    if (rows.size() < most) rows.resize(most);
  }
};

struct Scratch {
  VisitedNodes visited;
  NearestNodes hits;             // W in the paper
  std::vector<Scored> frontier;  // C in the paper, where it is not a part of W: a heap, nearest at the front
  std::vector<Node> links;
  std::vector<Row> rows;
  Batch batches[2];  // of a walk: one is asked for from memory while the other is scored
};

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

// How many distances a walk needs where a share of what it meets is allowed.
struct Expectation {
  double distances = 0;  // where all is
  // It grows with this power of 1 / share, below the bend with that one.
  double growth = 0;
  double bend = 0;
  double growth_below = 0;
  // Below this share a walk draws no tighter bound, so that it meets as many more nodes as fewer of them are allowed.
  double floor = 0;

  double at(double share) const {
    const double bounded = std::max(share, floor);
    const double gentle = std::max(bounded, bend);
    return distances * std::pow(gentle, -growth) * std::pow(bounded / gentle, -growth_below) * (bounded / share);
  }
};

// What a walk may cost, in distances. It gives up when it has not found `enough` by give_up, and ends at `most` with what it has.
struct Effort {
  // A share of less would be guessed.
  static constexpr std::uint64_t kFewestSeen = 192;

  // Gives up there, whatever it has found.
  Effort(std::uint64_t give_up_) : give_up(give_up_), most(give_up_) {}

  std::uint64_t give_up;
  std::uint64_t most;
  std::size_t enough = std::numeric_limits<std::size_t>::max();
  // It gives up early when, by the share of what it meets that is allowed, more than `worth` are to be expected: a filter may lie where the
  // query does, or far from it. It looks at first_look, and whenever it has come twice as far: what lies far is met more often later.
  Expectation expectation;
  std::uint64_t first_look = kFewestSeen;
  double worth = std::numeric_limits<double>::infinity();
};

// What a walk cost, in distance computations and expanded nodes.
struct Walk {
  std::uint64_t distances = 0;
  std::uint64_t hops = 0;
  bool exhausted = false;  // it gave up because its limit of distances was reached
};

using ScratchPool = LeasePool<Scratch>;

}  // namespace vecdb
