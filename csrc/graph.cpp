// Nodes, levels and the entry; growing and restoring. How links are chosen is in graph_linking.cpp.

#include "graph.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.hpp"
#include "graph_builder.hpp"
#include "mixed.hpp"

namespace vecdb {
namespace {

std::uint64_t packed(Graph::Entry entry) { return static_cast<std::uint64_t>(entry.level + 1) << 32 | entry.node; }

GraphOptions checked(GraphOptions options, Node capacity) {
  if (options.m < kMinM || options.m > kMaxM) {
    throw Error(Code::invalid_argument,
                "m is " + std::to_string(options.m) + ", expected " + std::to_string(kMinM) + " to " + std::to_string(kMaxM));
  }
  if (options.ef_construction == 0) throw Error(Code::invalid_argument, "ef_construction is 0, expected at least 1");
  if (capacity == 0) throw Error(Code::invalid_argument, "the capacity of a graph is 0, expected at least 1");
  options.ef_construction = std::max(options.ef_construction, options.m);
  return options;
}

}  // namespace

Graph::Graph(const Vectors& vectors, GraphOptions options, Node capacity)
    : vectors_(vectors), options_(checked(options, capacity)), lists_(options_.m, capacity), entry_(packed({0, -1})) {}

Graph::~Graph() = default;

void Graph::check_node(Node node) const {
  if (node >= capacity()) {
    throw Error(Code::capacity, "node " + std::to_string(node) + " does not fit into a graph of " + std::to_string(capacity()) + " nodes");
  }
}

// Exponentially decaying, as in the paper, section 4.1: floor(-ln(u) * 1/ln(m)).
int Graph::drawn_level(Node node) const {
  const std::uint64_t bits = mixed(options_.seed ^ mixed(node));
  const double u = (static_cast<double>(bits >> 11) + 1.0) * 0x1.0p-53;
  return std::min(kMaxLevel, static_cast<int>(-std::log(u) / std::log(static_cast<double>(options_.m))));
}

void Graph::insert(Node node, Row row, const LiveNodes& live) {
  check_node(node);
  const LinkLists::State state = lists_.state(node);
  if (state == LinkLists::State::linked) {
    throw Error(Code::invalid_argument, "node " + std::to_string(node) + " is in the graph already; update it instead");
  }
  if (state == LinkLists::State::absent) lists_.prepare(node, row, drawn_level(node));
  const int level = level_of(node);

  // Two nodes above the highest level must not miss each other: such insertions run one by one.
  std::unique_lock<std::mutex> top(top_, std::defer_lock);
  Entry start = entry();
  if (level > start.level) {
    top.lock();
    start = entry();
    if (level <= start.level) top.unlock();
  }
  if (start.level >= 0) link(node, start, live);
  lists_.set_state(node, LinkLists::State::linked);
  count_.fetch_add(1, std::memory_order_acq_rel);
  if (top.owns_lock()) publish({node, level});
}

std::unique_ptr<Graph> Graph::grown(Node capacity) const {
  if (capacity < this->capacity()) {
    throw Error(Code::invalid_argument,
                "a graph of " + std::to_string(this->capacity()) + " nodes cannot be copied into " + std::to_string(capacity) + " nodes");
  }
  auto copy = std::make_unique<Graph>(vectors_, options_, capacity);
  copy->lists_.copy_from(lists_);
  copy->count_.store(count(), std::memory_order_release);
  copy->publish(entry());
  return copy;
}

std::unique_ptr<Graph> Graph::renumbered(const std::vector<Node>& new_of_old, Node capacity) const {
  auto copy = std::make_unique<Graph>(vectors_, options_, capacity);
  const auto new_number = [&](Node node) { return node < new_of_old.size() ? new_of_old[node] : kNoNode; };
  const auto for_each = [&](const auto& visit) {
    for (Node node = 0; node < std::min<std::size_t>(this->capacity(), new_of_old.size()); ++node) {
      if (contains(node) && new_of_old[node] != kNoNode) visit(node, new_of_old[node]);
    }
  };
  for_each([&](Node node, Node renamed) { copy->restore_node(renamed, renamed, level_of(node)); });
  std::vector<Node> links(max_links(0));
  Entry top{0, -1};
  for_each([&](Node node, Node renamed) {
    if (level_of(node) > top.level) top = {renamed, level_of(node)};
    for (int level = 0; level <= level_of(node); ++level) {
      const std::uint32_t count = copy_links(node, level, links.data());
      Node* const end = std::transform(links.data(), links.data() + count, links.data(), new_number);
      const auto is_left_out = [&](Node link) { return link == kNoNode || !copy->contains(link); };
      const auto kept = static_cast<std::uint32_t>(std::remove_if(links.data(), end, is_left_out) - links.data());
      copy->restore_links(renamed, level, links.data(), kept);
    }
  });
  const Entry start = entry();
  if (start.level == top.level && start.level >= 0 && new_number(start.node) != kNoNode) top.node = new_number(start.node);
  if (top.level >= 0) copy->restore_entry(top);
  return copy;
}

void Graph::publish(Entry entry) { entry_.store(packed(entry), std::memory_order_release); }

Graph::Entry Graph::entry() const {
  const std::uint64_t bits = entry_.load(std::memory_order_acquire);
  return {static_cast<Node>(bits), static_cast<int>(bits >> 32) - 1};
}

void Graph::restore_node(Node node, Row row, int level) {
  if (node >= capacity() || lists_.state(node) != LinkLists::State::absent || row >= vectors_.rows() || level < 0 || level > kMaxLevel) {
    throw Error(Code::corruption, "the graph has node " + std::to_string(node) + " with row " + std::to_string(row) + " and level " +
                                      std::to_string(level) + ", expected each node once below " + std::to_string(capacity()) +
                                      ", rows below " + std::to_string(vectors_.rows()) + ", levels 0 to " + std::to_string(kMaxLevel));
  }
  lists_.prepare(node, row, level);
  lists_.set_state(node, LinkLists::State::linked);
  count_.fetch_add(1, std::memory_order_acq_rel);
}

void Graph::restore_links(Node node, int level, const Node* links, std::uint32_t count) {
  if (level < 0 || node >= capacity() || !contains(node) || level > level_of(node) || count > max_links(level)) {
    throw Error(Code::corruption, "the graph has " + std::to_string(count) + " links of node " + std::to_string(node) + " at level " +
                                      std::to_string(level) + ", expected a node of that level and at most " +
                                      std::to_string(max_links(level)) + " links");
  }
  if (lists_.restore(node, level, links, count)) return;
  const auto is_bad = [&](Node link) { return link == node || link >= capacity() || !contains(link) || level > level_of(link); };
  throw Error(Code::corruption, "the graph links node " + std::to_string(node) + " to node " +
                                    std::to_string(*std::find_if(links, links + count, is_bad)) + " at level " + std::to_string(level) +
                                    ", which is itself or has no such level");
}

void Graph::restore_entry(Entry entry) {
  if (entry.node >= capacity() || !contains(entry.node) || entry.level != level_of(entry.node)) {
    throw Error(Code::corruption, "the graph starts at node " + std::to_string(entry.node) + ", level " + std::to_string(entry.level) +
                                      ", expected one of its nodes and that node's own level");
  }
  publish(entry);
}

}  // namespace vecdb
