// The working memory of one walk through a graph, reusable so that a search allocates nothing once it is warm: visited
// nodes as a bitset, the heaps, and a buffer for links. A Scratch serves one walk at a time; a ScratchPool is thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

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
    if (touched_.size() > bits_.size() / 8) {
      std::fill(bits_.begin(), bits_.end(), 0);
    } else {
      for (const std::uint32_t word : touched_) bits_[word] = 0;
    }
    touched_.clear();
    if (bits_.size() < words) bits_.resize(words, 0);
  }

  // True when node was not in the set yet. REQUIRES node < capacity.
  bool insert(Node node) {
    std::uint64_t& word = bits_[node >> 6];
    const std::uint64_t bit = std::uint64_t{1} << (node & 63);
    if ((word & bit) != 0) return false;
    if (word == 0) touched_.push_back(node >> 6);
    word |= bit;
    return true;
  }

 private:
  std::vector<std::uint64_t> bits_;
  std::vector<std::uint32_t> touched_;  // words that are not zero
};

struct Scratch {
  VisitedNodes visited;
  std::vector<Scored> frontier;  // C in the paper: a heap, nearest at the front
  std::vector<Scored> hits;      // W in the paper: a heap, farthest at the front
  std::vector<Node> links;
  std::vector<Row> rows;
};

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

// What a walk cost, in distance computations and expanded nodes.
struct Walk {
  std::uint64_t distances = 0;
  std::uint64_t hops = 0;
  bool exhausted = false;  // it gave up because its limit of distances was reached
};

class ScratchPool {
 public:
  // A Scratch that returns to its pool; the pool must outlive it.
  class Lease {
   public:
    Lease(ScratchPool& pool, std::unique_ptr<Scratch> scratch) : pool_(&pool), scratch_(std::move(scratch)) {}
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (scratch_ != nullptr) pool_->give_back(std::move(scratch_));
    }
    Scratch& operator*() const { return *scratch_; }
    Scratch* operator->() const { return scratch_.get(); }

   private:
    ScratchPool* pool_;
    std::unique_ptr<Scratch> scratch_;
  };

  Lease take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (idle_count_ > 0) return Lease(*this, std::move(idle_[--idle_count_]));
    }
    return Lease(*this, std::make_unique<Scratch>());
  }

 private:
  // Never allocates; what does not fit is freed.
  void give_back(std::unique_ptr<Scratch> scratch) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_count_ < idle_.size()) idle_[idle_count_++] = std::move(scratch);
  }

  std::mutex mutex_;
  std::array<std::unique_ptr<Scratch>, 64> idle_;
  std::size_t idle_count_ = 0;
};

}  // namespace vecdb
