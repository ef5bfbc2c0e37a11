// The only includer of hnswlib 0.8.0, by composition: it holds the link lists and their locks, picks neighbours and repairs
// links. Its "vector" is the 4-byte row, so that its distance function asks Vectors. Not used, because searches run
// meanwhile or files are hostile: addPoint, searchKnn, resizeIndex, saveIndex, loadIndex.

#include "graph.hpp"

#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "error.hpp"
#include "reserved.hpp"
#include "walk.hpp"

namespace vecdb {
namespace {

using Hnsw = hnswlib::HierarchicalNSW<float>;
using Selection =
    std::priority_queue<std::pair<float, hnswlib::tableint>, std::vector<std::pair<float, hnswlib::tableint>>, Hnsw::CompareByFirst>;

constexpr int kMaxLevel = 63;
constexpr std::size_t kHugeFrom = std::size_t{8} << 20;
// hnswlib reads one link beyond a full list when it prefetches.
constexpr std::size_t kListSlack = sizeof(hnswlib::tableint);

Row load_row(const void* data) {
  Row row;
  std::memcpy(&row, data, sizeof(row));
  return row;
}

class RowSpace : public hnswlib::SpaceInterface<float> {
 public:
  explicit RowSpace(const Vectors& vectors) : vectors_(&vectors) {}
  std::size_t get_data_size() override { return sizeof(Row); }
  hnswlib::DISTFUNC<float> get_dist_func() override { return distance; }
  void* get_dist_func_param() override { return &vectors_; }

 private:
  static float distance(const void* a, const void* b, const void* space) {
    return (*static_cast<const Vectors* const*>(space))->link_distance(load_row(a), load_row(b));
  }
  const Vectors* vectors_;
};

// SplitMix64's finaliser (Steele, Lea, Flood 2014).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

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

struct Graph::Links {
  RowSpace space;
  Hnsw hnsw;
  std::atomic<std::uint64_t> upper_bytes{0};

  Links(const Vectors& vectors, const GraphOptions& options, Node capacity)
      : space(vectors), hnsw(&space, capacity, options.m, options.ef_construction, options.seed) {
    // The destructor frees the upper lists of [0, cur_element_count) by level, and levels are 0 until a list exists.
    hnsw.cur_element_count = capacity;
    // Only addPoint uses the label locks, 2.5 MiB of them, and only an update the visited lists.
    std::vector<std::mutex>().swap(hnsw.label_op_locks_);
    hnsw.visited_list_pool_.reset();
    const std::size_t bytes = capacity * hnsw.size_data_per_element_;
    if (bytes >= kHugeFrom) advise_huge_pages(hnsw.data_level0_memory_, bytes);
  }

  std::size_t upper_list_bytes(int level) const { return hnsw.size_links_per_element_ * static_cast<std::size_t>(level) + kListSlack; }
};

Graph::Graph(const Vectors& vectors, GraphOptions options, Node capacity)
    : vectors_(vectors),
      options_(checked(options, capacity)),
      capacity_(capacity),
      links_(std::make_unique<Links>(vectors, options_, capacity)),
      states_(capacity),
      rows_(capacity),
      entry_(packed({0, -1})) {}

Graph::~Graph() = default;

void Graph::check_node(Node node) const {
  if (node >= capacity_) {
    throw Error(Code::capacity, "node " + std::to_string(node) + " does not fit into a graph of " + std::to_string(capacity_) + " nodes");
  }
}

// Exponentially decaying, as in the paper, section 4.1: floor(-ln(u) * 1/ln(m)).
int Graph::drawn_level(Node node) const {
  const std::uint64_t bits = mixed(options_.seed ^ mixed(node));
  const double u = (static_cast<double>(bits >> 11) + 1.0) * 0x1.0p-53;
  return std::min(kMaxLevel, static_cast<int>(-std::log(u) * links_->hnsw.mult_));
}

// Gives node its empty lists; nobody can meet it yet.
void Graph::prepare(Node node, Row row, int level) {
  Hnsw& hnsw = links_->hnsw;
  if (level > 0) {
    const std::size_t bytes = links_->upper_list_bytes(level);
    char* lists = static_cast<char*>(std::calloc(bytes, 1));  // hnswlib frees it
    if (lists == nullptr) throw std::bad_alloc();
    hnsw.linkLists_[node] = lists;
    links_->upper_bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  hnsw.element_levels_[node] = level;
  std::memset(hnsw.get_linklist0(node), 0, hnsw.size_data_per_element_);
  std::memcpy(hnsw.getDataByInternalId(node), &row, sizeof(row));
  hnsw.setExternalLabel(node, row);
  rows_[node] = row;
  if (row != node) is_identity_.store(false, std::memory_order_relaxed);
  states_[node].store(State::prepared, std::memory_order_release);
}

void Graph::insert(Node node, Row row) {
  check_node(node);
  const State state = states_[node].load(std::memory_order_acquire);
  if (state == State::linked) {
    throw Error(Code::invalid_argument, "node " + std::to_string(node) + " is in the graph already; update it instead");
  }
  if (state == State::absent) prepare(node, row, drawn_level(node));
  const int level = links_->hnsw.element_levels_[node];

  // Two nodes above the highest level must not miss each other: such insertions run one by one.
  std::unique_lock<std::mutex> top(links_->hnsw.global, std::defer_lock);
  Entry start = entry();
  if (level > start.level) {
    top.lock();
    start = entry();
    if (level <= start.level) top.unlock();
  }
  if (start.level >= 0) link(node, row, start);
  states_[node].store(State::linked, std::memory_order_release);
  count_.fetch_add(1, std::memory_order_acq_rel);
  if (top.owns_lock()) publish({node, level});
}

// INSERT of Malkov & Yashunin (Alg. 1), in two passes: candidates from the top down, which changes nothing, then links from
// level 0 up.
void Graph::link(Node node, Row row, Entry start) {
  Hnsw& hnsw = links_->hnsw;
  const int top = std::min(hnsw.element_levels_[node], start.level);
  const auto lease = scratches_.take();
  const RowTarget target{vectors_, row};
  // The node itself can be met when an earlier attempt to insert it failed half way.
  const auto is_other = [node](Node met, Row) { return met != node; };
  Walk walk;
  std::vector<std::vector<std::pair<float, hnswlib::tableint>>> candidates(static_cast<std::size_t>(top) + 1);
  Scored nearest = descend(*this, start, top, target, *lease, walk);
  for (int level = top; level >= 0; --level) {
    search_layer(*this, level, nearest, target, is_other, Beam{options_.ef_construction}, *lease, walk);
    const NearestNodes& hits = lease->hits;
    auto& found = candidates[static_cast<std::size_t>(level)];
    found.reserve(hits.size());
    for (const Scored& hit : hits) found.emplace_back(hit.distance, hit.node);
    nearest = *std::min_element(hits.begin(), hits.end(), FarthestFirst());
  }
  for (int level = 0; level <= top; ++level) {
    Selection selection(Hnsw::CompareByFirst(), std::move(candidates[static_cast<std::size_t>(level)]));
    hnsw.mutuallyConnectNewElement(&row, node, selection, level, true);
  }
}

void Graph::update(Node node) {
  check_node(node);
  if (!contains(node)) throw Error(Code::not_found, "node " + std::to_string(node) + " is not in the graph; insert it first");
  if (count() == 1) return;
  Hnsw& hnsw = links_->hnsw;
  const Entry start = entry();
  hnsw.enterpoint_node_ = start.node;
  hnsw.maxlevel_ = start.level;
  if (hnsw.visited_list_pool_ == nullptr) hnsw.visited_list_pool_ = std::make_unique<hnswlib::VisitedListPool>(1, capacity_);
  const Row row = rows_[node];
  hnsw.updatePoint(&row, node, 1.0F);
}

std::unique_ptr<Graph> Graph::grown(Node capacity) const {
  if (capacity < capacity_) {
    throw Error(Code::invalid_argument,
                "a graph of " + std::to_string(capacity_) + " nodes cannot be copied into " + std::to_string(capacity) + " nodes");
  }
  auto copy = std::make_unique<Graph>(vectors_, options_, capacity);
  const Hnsw& from = links_->hnsw;
  Hnsw& to = copy->links_->hnsw;
  for (Node node = 0; node < capacity_; ++node) {
    const State state = states_[node].load(std::memory_order_acquire);
    if (state == State::absent) continue;
    const int level = from.element_levels_[node];
    copy->prepare(node, rows_[node], level);
    std::memcpy(to.get_linklist0(node), from.get_linklist0(node), from.size_data_per_element_);
    if (level > 0) std::memcpy(to.linkLists_[node], from.linkLists_[node], links_->upper_list_bytes(level));
    copy->states_[node].store(state, std::memory_order_release);
  }
  copy->count_.store(count(), std::memory_order_release);
  copy->publish(entry());
  return copy;
}

void Graph::publish(Entry entry) { entry_.store(packed(entry), std::memory_order_release); }

Graph::Entry Graph::entry() const {
  const std::uint64_t bits = entry_.load(std::memory_order_acquire);
  return {static_cast<Node>(bits), static_cast<int>(bits >> 32) - 1};
}

int Graph::level_of(Node node) const { return links_->hnsw.element_levels_[node]; }

std::uint32_t Graph::copy_links(Node node, int level, Node* out) const {
  Hnsw& hnsw = links_->hnsw;
  const std::lock_guard<std::mutex> lock(hnsw.link_list_locks_[node]);
  hnswlib::linklistsizeint* const list = hnsw.get_linklist_at_level(node, level);
  const std::uint32_t count = hnsw.getListCount(list);
  std::memcpy(out, list + 1, count * sizeof(Node));
  return count;
}

void Graph::prefetch_links(Node node) const {
  const Hnsw& hnsw = links_->hnsw;
  __builtin_prefetch(&hnsw.link_list_locks_[node], 1);
  const hnswlib::linklistsizeint* const list = hnsw.get_linklist0(node);
  for (std::uint32_t i = 0; i <= 2 * options_.m && i < 64; i += 16) __builtin_prefetch(list + i);
}

void Graph::restore_node(Node node, Row row, int level) {
  if (node >= capacity_ || states_[node].load(std::memory_order_relaxed) != State::absent || row >= vectors_.rows() || level < 0 ||
      level > kMaxLevel) {
    throw Error(Code::corruption, "the graph has node " + std::to_string(node) + " with row " + std::to_string(row) + " and level " +
                                      std::to_string(level) + ", expected each node once below " + std::to_string(capacity_) +
                                      ", rows below " + std::to_string(vectors_.rows()) + ", levels 0 to " + std::to_string(kMaxLevel));
  }
  prepare(node, row, level);
  states_[node].store(State::linked, std::memory_order_release);
  count_.fetch_add(1, std::memory_order_acq_rel);
}

void Graph::restore_links(Node node, int level, const Node* links, std::uint32_t count) {
  const auto fits = [this, level](Node n) { return n < capacity_ && contains(n) && level <= level_of(n); };
  if (level < 0 || !fits(node) || count > max_links(level)) {
    throw Error(Code::corruption, "the graph has " + std::to_string(count) + " links of node " + std::to_string(node) + " at level " +
                                      std::to_string(level) + ", expected a node of that level and at most " +
                                      std::to_string(max_links(level)) + " links");
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    if (links[i] == node || !fits(links[i])) {
      throw Error(Code::corruption, "the graph links node " + std::to_string(node) + " to node " + std::to_string(links[i]) + " at level " +
                                        std::to_string(level) + ", which is itself or has no such level");
    }
  }
  Hnsw& hnsw = links_->hnsw;
  const std::lock_guard<std::mutex> lock(hnsw.link_list_locks_[node]);
  hnswlib::linklistsizeint* const list = hnsw.get_linklist_at_level(node, level);
  hnsw.setListCount(list, static_cast<unsigned short>(count));
  if (count > 0) std::memcpy(list + 1, links, count * sizeof(Node));
}

void Graph::restore_entry(Entry entry) {
  if (entry.node >= capacity_ || !contains(entry.node) || entry.level != level_of(entry.node)) {
    throw Error(Code::corruption, "the graph starts at node " + std::to_string(entry.node) + ", level " + std::to_string(entry.level) +
                                      ", expected one of its nodes and that node's own level");
  }
  publish(entry);
}

std::uint64_t Graph::bytes() const {
  const std::uint64_t node_bytes =
      links_->hnsw.size_data_per_element_ + sizeof(std::mutex) + sizeof(char*) + sizeof(int) + sizeof(Row) + sizeof(State);
  return capacity_ * node_bytes + links_->upper_bytes.load(std::memory_order_relaxed);
}

}  // namespace vecdb
