// Rows are claimed in small units; what is covered ends at the lowest unit that somebody is still at.

#include "field_graph.hpp"

#include <algorithm>
#include <optional>
#include <shared_mutex>
#include <utility>

namespace vecdb {

namespace {

// Rows a thread takes at a time: few enough that a stop, a growth and the watermark wait only some milliseconds.
constexpr Row kUnitRows = 32;

constexpr Row kMinBound = 1024;
constexpr Row kMaxBound = 16384;
constexpr Row kBoundValues = 1200000;
// While more than this share of the graph waits to be linked, as in a first load, its profile would soon be measured again.
constexpr Row kSoonAgain = 4;

}  // namespace

Row tail_bound(std::uint32_t dim) { return std::clamp(kBoundValues / dim, kMinBound, kMaxBound); }

FieldGraph::FieldGraph(const Vectors& vectors, GraphOptions options)
    : vectors_(vectors), options_(options), bound_(tail_bound(vectors.dim())) {}

FieldGraph::View FieldGraph::view() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {graph_, indexed_, profile_};
}

Row FieldGraph::tail(FieldRows rows) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return deserves_graph(rows.all) && rows.all > indexed_ ? rows.all - indexed_ : 0;
}

bool FieldGraph::is_behind(FieldRows rows) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!deserves_graph(rows.all)) return false;
  return rows.all > indexed_ || is_profile_due() || is_repair_due(rows) || unseen_changes_ > 0;
}

Row FieldGraph::unclaimed(FieldRows rows, Work work) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!deserves_graph(rows.all)) return 0;
  Row total = rows.all > claimed_ ? rows.all - claimed_ : 0;
  for (const Unit& unit : returned_) total += unit.last - unit.first;
  if (work == Work::linking) return total;
  if (repair_ != nullptr) {
    total += repair_->end - repair_->next;
  } else if (is_repair_due(rows)) {
    total += indexed_;
  }
  return total + (should_measure(rows) || (!is_connecting_ && is_connecting_due(rows, work)) ? 1 : 0);
}

FieldGraph::Claim FieldGraph::claim(Row rows, Row max_rows, Unit& unit, std::shared_ptr<Graph>& graph) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!deserves_graph(rows)) return Claim::nothing;
  running_.reserve(running_.size() + 1);
  returned_.reserve(returned_.size() + running_.size() + 1);  // so that settle never allocates
  if (!returned_.empty()) {
    Unit& given_up = returned_.back();
    unit = {given_up.first, given_up.first + std::min(max_rows, given_up.last - given_up.first)};
    given_up.first = unit.last;
    if (given_up.first == given_up.last) returned_.pop_back();
  } else {
    if (claimed_ >= rows) return Claim::nothing;
    unit = {claimed_, claimed_ + std::min({kUnitRows, max_rows, rows - claimed_})};
    if (graph_ == nullptr || unit.last > graph_->capacity()) return Claim::no_room;
    claimed_ = unit.last;
  }
  running_.push_back(unit);
  graph = graph_;
  return Claim::taken;
}

void FieldGraph::settle(const Unit& unit, Row reached) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto is_it = [&](const Unit& other) { return other.first == unit.first; };
  running_.erase(std::find_if(running_.begin(), running_.end(), is_it));
  if (reached < unit.last) returned_.push_back({reached, unit.last});
  unseen_changes_ += reached - unit.first;
  linked_since_ += reached - unit.first;
  Row indexed = claimed_;
  for (const Unit& other : running_) indexed = std::min(indexed, other.first);
  for (const Unit& other : returned_) indexed = std::min(indexed, other.first);
  indexed_ = indexed;
}

FieldGraph::Progress FieldGraph::advance(FieldRows rows, Row max_rows, Work work, const LiveRows& live, const std::atomic<bool>& stop) {
  if (work != Work::linking && (measure(rows, stop) || repair(rows, live) || connect(rows, work, live, stop))) return {true, 0};
  for (;;) {
    {
      const std::shared_lock<FairSharedMutex> insertion(inserting_);
      Unit unit{0, 0};
      std::shared_ptr<Graph> graph;
      const Claim got = claim(rows.all, max_rows, unit, graph);
      if (got == Claim::nothing) return {false, 0};
      if (got == Claim::taken) return link(unit, *graph, live, stop);
    }
    make_room(rows.all);
  }
}

FieldGraph::Progress FieldGraph::link(const Unit& unit, Graph& graph, const LiveRows& live, const std::atomic<bool>& stop) {
  Row row = unit.first;
  try {
    const CopyOnWrite<Bitset>::Lease lease = live.lease_live();
    const LiveNodes live_nodes{lease->words(), lease->size()};
    for (; row < unit.last && !stop.load(std::memory_order_relaxed); ++row) {
      if (lease->contains(row) && !graph.contains(row)) graph.insert(row, row, live_nodes);
    }
  } catch (...) {
    settle(unit, row);
    throw;
  }
  settle(unit, row);
  return {true, row - unit.first};
}

bool FieldGraph::is_profile_due() const {
  return indexed_ >= bound_ && (graph_->count() / 2 >= profile_.nodes || linked_since_ >= profile_.nodes);
}

// Dead nodes would count: a graph that is to be repaired is measured after that, but for the first time.
bool FieldGraph::should_measure(FieldRows rows) const {
  if (is_measuring_ || !is_profile_due()) return false;
  if (!profile_.is_known()) return true;
  const Row waiting = rows.all > indexed_ ? rows.all - indexed_ : 0;
  return waiting <= graph_->count() / kSoonAgain && !is_repair_due(rows);
}

// False when it is not due, or another thread is at it.
bool FieldGraph::measure(FieldRows rows, const std::atomic<bool>& stop) {
  std::shared_ptr<const Graph> graph;
  Row measured = 0;
  Row linked = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!should_measure(rows)) return false;
    is_measuring_ = true;
    graph = graph_;
    measured = indexed_;
    linked = linked_since_;
  }
  std::optional<GraphProfile> profile;
  try {
    profile = measure_profile(*graph, vectors_, measured, stop);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_measuring_ = false;
    throw;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  is_measuring_ = false;
  if (profile) {
    profile_ = *profile;
    linked_since_ -= linked;
  }
  return true;
}

void FieldGraph::make_room(Row rows) {
  const std::unique_lock<FairSharedMutex> rest(inserting_);
  std::shared_ptr<Graph> old;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    old = graph_;
  }
  if (old != nullptr && old->capacity() >= rows) return;  // another thread was quicker
  const std::uint64_t doubled = old == nullptr ? std::uint64_t{rows} + rows / 4 : std::uint64_t{old->capacity()} * 2;
  const auto capacity = static_cast<Node>(std::min<std::uint64_t>(std::max<std::uint64_t>(rows, doubled), UINT32_MAX));
  std::shared_ptr<Graph> roomier = old == nullptr ? std::make_shared<Graph>(vectors_, options_, capacity) : old->grown(capacity);
  const std::lock_guard<std::mutex> lock(mutex_);
  graph_ = std::move(roomier);
}

Row FieldGraph::replace(std::unique_ptr<Graph> graph, Row rows, const GraphProfile& profile) {
  const std::unique_lock<FairSharedMutex> rest(inserting_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (graph_ != nullptr && indexed_ >= rows) return indexed_;
  graph_ = std::move(graph);
  indexed_ = rows;
  claimed_ = rows;
  returned_.clear();
  repair_.reset();
  unseen_changes_ = graph_->count();
  profile_ = profile;
  linked_since_ = 0;
  return indexed_;
}

}  // namespace vecdb
