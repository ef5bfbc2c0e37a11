// The links of a graph, and what is known of each node: its state, its level, its row, how many nodes link to it.
//
// Level 0 is one array: the list of a node begins at a cache line of its own and needs no count, because a link is kept as its node + 1 and
// zero ends a list. It takes 16 bits where all nodes fit, so that walks and small graphs touch half the lines. The few lists above are
// kept apart.
// Invariant: whatever a reader meets in a list is a node that was prepared, of that level or higher. Thread rule: readers take no lock and
// see old and new links mixed while a list is written; who writes a node's lists holds that node. prepare of one node runs in one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "stable_array.hpp"
#include "types.hpp"
#include "zeroed_array.hpp"

namespace vecdb {

constexpr int kMaxLevel = 63;

class LinkLists {
 public:
  enum class State : std::uint8_t { absent, prepared, linked };

  LinkLists(std::uint32_t m, Node capacity);

  Node capacity() const { return capacity_; }
  std::uint32_t max_links(int level) const { return level == 0 ? 2 * m_ : m_; }

  State state(Node node) const { return static_cast<State>(status_[node].load(std::memory_order_acquire) >> kStateShift); }
  int level_of(Node node) const { return status_[node].load(std::memory_order_relaxed) & kLevelMask; }
  Row row_of(Node node) const {
    const Row* const shifts = shifts_.load(std::memory_order_acquire);
    return shifts == nullptr ? node : node + shifts[node];
  }

  // Give an absent node its empty lists; nobody can meet it yet. It stays absent when this throws.
  void prepare(Node node, Row row, int level);
  // REQUIRES a prepared node.
  void set_state(Node node, State state);

  // The links of node at level, at most max_links(level); returns how many. REQUIRES level <= level_of(node).
  std::uint32_t copy(Node node, int level, Node* out) const;
  // Ask for the cache lines that copy at level 0 reads.
  void prefetch(Node node) const;

  // Of a list at level 0, where there are lists of so many nodes.
  static constexpr std::uint64_t bytes_of_list(std::uint32_t m, std::uint64_t capacity) {
    return 2 * std::uint64_t{m} * (capacity <= kMostNarrow ? sizeof(NarrowLink) : sizeof(Link));
  }

  // Keeps other writers off the lists of a node.
  class Hold {
   public:
    Hold(LinkLists& lists, Node node) : held_(lists.held_[node]) {
      for (int tries = 0; held_.exchange(1, std::memory_order_acquire) != 0; ++tries) wait(tries);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { held_.store(0, std::memory_order_release); }

   private:
    // A holder of low priority that was interrupted needs the CPU, not only a turn.
    void wait(int tries) const {
      for (int i = 0; i < 64; ++i) {
        if (held_.load(std::memory_order_relaxed) == 0) return;
      }
      if (tries < 8) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
    std::atomic<std::uint8_t>& held_;
  };

  // REQUIRE a Hold of node. count is that of the list now; links must be prepared nodes of that level.
  void append(Node node, int level, std::uint32_t count, Node link);
  void replace(Node node, int level, const Node* links, std::uint32_t count);

  // Write the list of a node that has none yet, and count what it leads to. False, and nothing changes, when a link is the node itself or
  // not a linked node of that level. REQUIRES that no other thread uses these lists.
  bool restore(Node node, int level, const Node* links, std::uint32_t count);

  // Links at level 0 that lead to node, as far as they are told here. Once there are 255 they count as that many for ever.
  std::uint32_t in_links(Node node) const { return in_links_[node].load(std::memory_order_relaxed); }
  void add_in_link(Node node);
  // False, and nothing changes, when this is the last one.
  bool drop_in_link(Node node);
  void drop_last_in_link(Node node);

  // Take over all nodes of lists with no more capacity, which no thread writes to.
  void copy_from(const LinkLists& other);

  std::uint64_t bytes() const;

 private:
  using Link = std::atomic<std::uint32_t>;
  using NarrowLink = std::atomic<std::uint16_t>;

  static constexpr std::uint32_t kLineBytes = 64;
  static constexpr std::size_t kMostPrefetched = 64;
  static constexpr Node kMostNarrow = UINT16_MAX;  // links are nodes + 1
  static constexpr std::uint8_t kLevelMask = kMaxLevel;
  static constexpr int kStateShift = 6;
  static constexpr std::uint8_t kMany = 255;

  // Calls use with the start of a list, whose links are Link or NarrowLink; const where the lists are.
  template <class Lists, class Use>
  static auto with_list(Lists& lists, Node node, int level, Use&& use) {
    if (level != 0) return use(&lists.upper_[lists.upper_start_[node] + static_cast<std::uint32_t>(level - 1) * lists.m_]);
    const std::size_t start = std::size_t{node} * lists.base_stride_;
    return lists.is_narrow() ? use(lists.narrow_.data() + start) : use(lists.wide_.data() + start);
  }
  bool is_narrow() const { return capacity_ <= kMostNarrow; }
  void give_upper_lists(Node node, int level);
  void set_row(Node node, Row row);

  const std::uint32_t m_;
  const Node capacity_;
  const std::uint32_t base_stride_;  // links from one list to the next
  ZeroedArray<Link> wide_;           // level 0: one of the two
  ZeroedArray<NarrowLink> narrow_;
  ZeroedArray<std::atomic<std::uint8_t>> status_;  // state and level
  ZeroedArray<std::atomic<std::uint8_t>> held_;
  ZeroedArray<std::atomic<std::uint8_t>> in_links_;
  ZeroedArray<std::uint32_t> upper_start_;  // of nodes above level 0: where their lists begin in upper_
  std::atomic<Row*> shifts_{nullptr};       // by node: row - node, modulo 2^32; none while every node stands for the row of its number

  mutable std::mutex growth_;    // held while what follows grows
  StableArray<Link, 64> upper_;  // by node: level 1, level 2, ... side by side
  std::uint64_t upper_used_ = 0;
  std::unique_ptr<ZeroedArray<Row>> shift_array_;
};

inline std::uint32_t LinkLists::copy(Node node, int level, Node* out) const {
  return with_list(*this, node, level, [&](const auto* list) {
    const std::uint32_t most = max_links(level);
    std::uint32_t count = 0;
    for (; count < most; ++count) {
      // Acquire, as every link is stored with release: what was prepared before the link is seen by whoever follows it.
      const std::uint32_t kept = list[count].load(std::memory_order_acquire);
      if (kept == 0) break;
      out[count] = kept - 1;
    }
    return count;
  });
}

inline void LinkLists::prefetch(Node node) const {
  with_list(*this, node, 0, [&](const auto* list) {
    constexpr std::size_t kLinksInLine = kLineBytes / sizeof(*list);
    for (std::size_t i = 0; i < base_stride_ && i < kMostPrefetched; i += kLinksInLine) __builtin_prefetch(list + i);
  });
}

}  // namespace vecdb
