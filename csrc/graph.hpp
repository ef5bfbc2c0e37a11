// A navigable small world graph (Malkov & Yashunin 2018) over rows of a Vectors: links only, no vectors. hnswlib keeps the
// link lists and picks neighbours; levels, insertion order of the links, growth and restoring are decided here.
// A node is linked from level 0 upwards, so that whoever meets it at a level can walk on below, and a failed insertion
// leaves it whole at fewer levels or absent. Threads: insert runs in parallel with inserts of other nodes and with every
// const call; update, restore_* run alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "scratch.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

struct GraphOptions {
  std::uint32_t m;                // links a node gets per level; level 0 holds up to 2 m
  std::uint32_t ef_construction;  // beam width of an insertion, at least m
  std::uint64_t seed;
};

constexpr std::uint32_t kMinM = 2;
constexpr std::uint32_t kMaxM = 10000;

class Graph {
 public:
  // Room for nodes [0, capacity). vectors must outlive the graph.
  Graph(const Vectors& vectors, GraphOptions options, Node capacity);
  ~Graph();

  // Link node, which stands for row. Its level comes from a hash of (seed, node).
  // REQUIRES node < capacity(), not contains(node), and no other insert of the same node now.
  // When it throws before contains(node), it may be tried again.
  void insert(Node node, Row row);
  // Repair the links after the vector of node's row was overwritten. REQUIRES that no other call runs.
  void update(Node node);

  Node count() const { return count_.load(std::memory_order_acquire); }
  Node capacity() const { return capacity_; }
  const GraphOptions& options() const { return options_; }
  bool contains(Node node) const { return states_[node].load(std::memory_order_acquire) == State::linked; }
  // REQUIRES that node was met through a link, an entry or contains.
  Row row_of(Node node) const { return is_identity_.load(std::memory_order_relaxed) ? node : rows_[node]; }

  // A copy with room for nodes [0, capacity). REQUIRES capacity >= capacity(), and no insert running.
  std::unique_ptr<Graph> grown(Node capacity) const;

  // Where a walk starts: the node of the highest level; level is -1 while the graph is empty.
  struct Entry {
    Node node;
    int level;
  };
  Entry entry() const;
  int level_of(Node node) const;
  std::uint32_t max_links(int level) const { return level == 0 ? 2 * options_.m : options_.m; }
  // Copy the links of node at level to out, which holds max_links(level); returns how many. REQUIRES level <= level_of(node).
  std::uint32_t copy_links(Node node, int level, Node* out) const;
  // Ask for the cache lines that copy_links of this node at level 0 reads.
  void prefetch_links(Node node) const;

  // Fill an empty graph: every node, then the links (at most max_links(level), each to a restored node of that level or
  // higher, else Error corruption), then the entry.
  void restore_node(Node node, Row row, int level);
  void restore_links(Node node, int level, const Node* links, std::uint32_t count);
  void restore_entry(Entry entry);

  std::uint64_t bytes() const;

 private:
  struct Links;  // owns the hnswlib object
  enum class State : std::uint8_t { absent, prepared, linked };

  void check_node(Node node) const;
  int drawn_level(Node node) const;
  void prepare(Node node, Row row, int level);
  void link(Node node, Row row, Entry entry);
  void publish(Entry entry);

  const Vectors& vectors_;
  const GraphOptions options_;
  const Node capacity_;
  std::unique_ptr<Links> links_;
  std::vector<std::atomic<State>> states_;
  std::vector<Row> rows_;
  std::atomic<bool> is_identity_{true};  // every node so far stands for the row of its own number
  std::atomic<Node> count_{0};
  std::atomic<std::uint64_t> entry_;
  ScratchPool scratches_;
};

}  // namespace vecdb
