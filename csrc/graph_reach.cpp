// Which nodes no path leads to, and links for them.
//
// A walk can find what a path over level 0 leads to from the entry; nodes of a level above should be reached on it too, or they are of no
// use there. Invariant of connecting: a link is only replaced by a detour to where it led, so that what was reachable stays so.

#include <algorithm>
#include <vector>

#include "graph_builder.hpp"

namespace vecdb {

// What a breadth-first search over one level has reached.
class Graph::Reached {
 public:
  Reached(const Graph& graph, int level)
      : graph_(graph), level_(level), bits_((std::size_t{graph.capacity()} + 63) / 64), links_(graph.max_links(0)) {}

  bool contains(Node node) const { return (bits_[node >> 6] >> (node & 63) & 1) != 0; }

  void spread_from(Node start) {
    constexpr std::size_t kAhead = 8;
    queue_.clear();
    add(start);
    for (std::size_t i = 0; i < queue_.size(); ++i) {
      if (level_ == 0 && i + kAhead < queue_.size()) graph_.prefetch_links(queue_[i + kAhead]);
      const std::uint32_t count = graph_.copy_links(queue_[i], level_, links_.data());
      for (std::uint32_t j = 0; j < count; ++j) add(links_[j]);
    }
  }

 private:
  void add(Node node) {
    if (contains(node)) return;
    bits_[node >> 6] |= std::uint64_t{1} << (node & 63);
    queue_.push_back(node);
  }

  const Graph& graph_;
  const int level_;
  std::vector<std::uint64_t> bits_;
  std::vector<Node> queue_;
  std::vector<Node> links_;
};

Graph::Reach Graph::reach(const LiveNodes& live) const {
  Reach report;
  const Entry start = entry();
  for (int level = std::max(start.level, 0); level >= 0; --level) {
    Reached reached(*this, level);
    if (start.level >= 0) reached.spread_from(start.node);
    for (Node node = 0; node < capacity(); ++node) {
      if (!contains(node) || level_of(node) < level) continue;
      if (!live.contains(node)) {
        report.dead += level == 0 ? 1 : 0;
        continue;
      }
      report.nodes += level == 0 ? 1 : 0;
      if (!reached.contains(node)) ++(level == 0 ? report.unreachable : report.unreachable_above);
    }
  }
  return report;
}

void Graph::connect_unreachable(const LiveNodes& live, const std::atomic<bool>& stop) {
  const Entry start = entry();
  if (start.level < 0) return;
  const auto builder = builders_.take();
  builder->make_room(max_links(0));
  for (int level = start.level; level >= 0; --level) {
    Reached reached(*this, level);
    reached.spread_from(start.node);
    for (Node node = 0; node < capacity() && !stop.load(std::memory_order_relaxed); ++node) {
      if (!contains(node) || level_of(node) < level || reached.contains(node) || !live.contains(node)) continue;
      reach_by_link(node, level, reached, live, *builder);
      reached.spread_from(node);
    }
  }
}

// From the nearest reachable node with room for a link; else the nearest one gives up a link, and node takes that over.
void Graph::reach_by_link(Node node, int level, const Reached& reached, const LiveNodes& live, Builder& builder) {
  walk_for(node, level, live, builder);
  Node nearest = entry().node;
  bool has_nearest = false;
  for (const NearList::Entry& near : builder.near) {
    if (!near.is_result || !reached.contains(near.node)) continue;
    if (!has_nearest) nearest = near.node;
    has_nearest = true;
    if (give_place(near.node, node, level, builder)) return;
  }
  Node moved = kNoNode;
  {
    const LinkLists::Hold hold(lists_, nearest);
    Node* const links = builder.links.data();
    const std::uint32_t count = lists_.copy(nearest, level, links);
    if (count == max_links(level)) {
      moved = links[count - 1];
      links[count - 1] = node;
      if (level == 0) lists_.add_in_link(node);
      lists_.replace(nearest, level, links, count);
    }
  }
  if (moved == kNoNode) {
    give_place(nearest, node, level, builder);
    return;
  }
  if (level == 0) lists_.drop_last_in_link(moved);
  if (give_place(node, moved, level, builder)) return;
  // Nothing that can be reached depends on the links of node.
  const LinkLists::Hold hold(lists_, node);
  Node* const links = builder.links.data();
  const std::uint32_t count = lists_.copy(node, level, links);
  if (level == 0) {
    lists_.drop_last_in_link(links[count - 1]);
    lists_.add_in_link(moved);
  }
  links[count - 1] = moved;
  lists_.replace(node, level, links, count);
}

// Link from -> node if the list has room, or has it already.
bool Graph::give_place(Node from, Node node, int level, Builder& builder) {
  const LinkLists::Hold hold(lists_, from);
  Node* const links = builder.links.data();
  const std::uint32_t count = lists_.copy(from, level, links);
  if (std::find(links, links + count, node) != links + count) return true;
  if (count == max_links(level)) return false;
  if (level == 0) lists_.add_in_link(node);
  lists_.append(from, level, count, node);
  return true;
}

}  // namespace vecdb
