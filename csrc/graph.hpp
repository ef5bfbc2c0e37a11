// A navigable small world graph (Malkov & Yashunin 2018) over rows of a Vectors: links only, no vectors.
//
// Invariant: a node is linked from level 0 upwards, so that whoever meets it at a level can walk on below, and a failed insertion leaves it
// whole at fewer levels or absent; a link that is dropped is never the last that leads to its node. Threads: insert and update run in
// parallel with those of other nodes and with every const call, which take no lock; restore_* run alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "lease_pool.hpp"
#include "link_lists.hpp"
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

constexpr Node kNoNode = UINT32_MAX;

// Nodes that may be linked to: those with a set bit (64 nodes a word, ascending), and all from limit on.
struct LiveNodes {
  const std::uint64_t* bits = nullptr;
  Node limit = 0;

  bool contains(Node node) const { return node >= limit || (bits[node >> 6] >> (node & 63) & 1) != 0; }
};

class Graph {
 public:
  // Room for nodes [0, capacity). vectors must outlive the graph.
  Graph(const Vectors& vectors, GraphOptions options, Node capacity);
  ~Graph();

  // Link node, which stands for row, to live nodes. Its level comes from a hash of (seed, node).
  // REQUIRES node < capacity(), not contains(node), and no other insert of the same node now.
  // When it throws before contains(node), it may be tried again.
  void insert(Node node, Row row, const LiveNodes& live = {});
  // Repair the links after the vector of node's row was overwritten, while no other call ran.
  void update(Node node);

  // Dead nodes leave in two steps. repair gives every live node of [first, last) whose links lead to dead ones other links instead, among
  // its own and those of its dead neighbours; as insert, it runs in parallel with inserts and repairs of other nodes. Once all nodes were
  // repaired with one `live`, and nodes inserted since the first with none that knew less, remove_dead takes the dead ones out of the
  // graph; it REQUIRES that nothing else but const calls runs.
  void repair(Node first, Node last, const LiveNodes& live);
  void remove_dead(const LiveNodes& live);

  struct Reach {
    Node nodes = 0;              // live ones
    Node dead = 0;               // still linked, so that walks go over them
    Node unreachable = 0;        // live ones to which no path leads over level 0 from the entry
    Node unreachable_above = 0;  // to which none leads over a level above that they have
  };
  Reach reach(const LiveNodes& live) const;
  Node count_dead(const LiveNodes& live) const;
  // Give links to live nodes that are unreachable, until none is or stop becomes true. As insert, it runs in parallel with inserts; what
  // these do meanwhile is not seen.
  void connect_unreachable(const LiveNodes& live, const std::atomic<bool>& stop);

  Node count() const { return count_.load(std::memory_order_acquire); }
  Node capacity() const { return lists_.capacity(); }
  const GraphOptions& options() const { return options_; }
  bool contains(Node node) const { return lists_.state(node) == LinkLists::State::linked; }
  // REQUIRES that node was met through a link, an entry or contains.
  Row row_of(Node node) const { return lists_.row_of(node); }

  // A copy with room for nodes [0, capacity). REQUIRES capacity >= capacity(), and no insert running.
  std::unique_ptr<Graph> grown(Node capacity) const;
  // A copy in which node n is new_of_old[n], and stands for the row of that number; kNoNode leaves it out, as does the end of the array.
  // REQUIRES different new numbers below capacity, and no insert running. Its links are sound, its distances are not: only save it.
  std::unique_ptr<Graph> renumbered(const std::vector<Node>& new_of_old, Node capacity) const;

  // Where a walk starts: the node of the highest level; level is -1 while the graph is empty.
  struct Entry {
    Node node;
    int level;
  };
  Entry entry() const;
  int level_of(Node node) const { return lists_.level_of(node); }
  std::uint32_t max_links(int level) const { return lists_.max_links(level); }
  // Copy the links of node at level to out, which holds max_links(level); returns how many. REQUIRES level <= level_of(node).
  std::uint32_t copy_links(Node node, int level, Node* out) const { return lists_.copy(node, level, out); }
  // Ask for the cache lines that copy_links of this node at level 0 reads.
  void prefetch_links(Node node) const { lists_.prefetch(node); }

  // Fill an empty graph: every node, then the links (at most max_links(level), each to a restored node of that level or
  // higher, else Error corruption), then the entry.
  void restore_node(Node node, Row row, int level);
  void restore_links(Node node, int level, const Node* links, std::uint32_t count);
  void restore_entry(Entry entry);

  std::uint64_t bytes() const { return lists_.bytes(); }

 private:
  struct Builder;    // the working memory of an insertion
  struct Neighbour;  // what may be linked to, with its distance
  struct Batch;

  void check_node(Node node) const;
  int drawn_level(Node node) const;
  void publish(Entry entry);

  // graph_linking.cpp
  void link(Node node, Entry start, const LiveNodes& live);
  void find_neighbours(Node node, Entry start, const LiveNodes& live, Builder& builder);
  template <class Target>
  void find_neighbours_of(Node node, Entry start, const Target& target, const LiveNodes& live, Builder& builder);
  template <class Target>
  void walk_towards(int level, Scored start, Node node, const Target& target, const LiveNodes& live, Builder& builder);
  void gather(Node node, int level, Builder& builder, Batch& batch) const;
  void keep_apart(std::uint32_t most, Builder& builder) const;
  void connect(Node node, int level, Builder& builder);
  void link_back(Node node, int level, const Neighbour& to, Builder& builder);
  void add_candidates(Node node, const Node* nodes, std::uint32_t count, bool are_linked, Builder& builder) const;
  void choose(Node node, int level, Builder& builder);
  void rewrite(Node node, int level, Builder& builder);
  void force_in_link(Node node, Builder& builder);
  void close_gap(Node node, int level, Builder& builder);

  // graph_repair.cpp
  void replace_dead(Node node, int level, const LiveNodes& live, Builder& builder);
  void adopt(Node node, int level, const LiveNodes& live, Builder& builder);
  void add_bridged(Node node, int level, const LiveNodes& live, Builder& builder);
  void fill_up(std::uint32_t most, Builder& builder) const;
  void walk_for(Node node, int level, const LiveNodes& live, Builder& builder);
  Entry highest() const;

  // graph_reach.cpp
  class Reached;
  void reach_by_link(Node node, int level, const Reached& reached, const LiveNodes& live, Builder& builder);
  bool give_place(Node from, Node node, int level, Builder& builder);

  const Vectors& vectors_;
  const GraphOptions options_;
  LinkLists lists_;
  std::atomic<Node> count_{0};
  std::atomic<std::uint64_t> entry_;
  std::mutex top_;  // held while a node above the highest level is inserted
  LeasePool<Builder> builders_;
};

}  // namespace vecdb
