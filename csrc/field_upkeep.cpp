// What keeps a field's graph good while points come and go: dead nodes leave it, and no live node stays without a path to it.

#include <algorithm>
#include <shared_mutex>
#include <utility>

#include "field_graph.hpp"

namespace vecdb {

namespace {

// Dead nodes cost walks their share of distances; a repair looks at every node and chooses links anew for those that link to dead ones.
constexpr Node kDeadShare = 16;
// Nodes that a thread repairs at a time: few enough that a growth of the graph waits only some milliseconds.
constexpr Node kUnitNodes = 16;
// Looking for nodes without a path costs about 100 ns a node: unless somebody waits for it, it pays once a share of the links is new.
constexpr Node kChangedShare = 8;
// Inserts that run meanwhile may undo what was found: then it is repeated, this often.
constexpr int kRounds = 4;

}  // namespace

// Every row that is not in the tail and not a node is dead; so of the dead rows all but these are nodes, or in the tail.
Node FieldGraph::estimated_dead(FieldRows rows) const {
  if (graph_ == nullptr) return 0;
  const std::int64_t tail = rows.all > indexed_ ? rows.all - indexed_ : 0;
  const std::int64_t dead = std::int64_t{graph_->count()} + tail - rows.live;
  return static_cast<Node>(std::max<std::int64_t>(dead - (indexed_ < counted_rows_ ? dead_in_tail_ : 0), 0));
}

bool FieldGraph::is_repair_due(FieldRows rows) const {
  return repair_ != nullptr || (graph_ != nullptr && estimated_dead(rows) > graph_->count() / kDeadShare);
}

bool FieldGraph::is_connecting_due(FieldRows rows, Work work) const {
  if (graph_ == nullptr || unseen_changes_ == 0 || rows.all > indexed_ || is_repair_due(rows)) return false;
  return work == Work::upkeep_now || unseen_changes_ > graph_->count() / kChangedShare;
}

// Nothing is inserted at that moment, so that every later insertion knows of what is dead now.
bool FieldGraph::begin_repair(FieldRows rows, const LiveRows& live) {
  const std::unique_lock<FairSharedMutex> rest(inserting_);
  auto begun = std::make_unique<Repair>();
  begun->live = live.lease_live();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (repair_ != nullptr) return true;  // another thread was quicker
  const Node dead = graph_->count_dead(begun->live_nodes());
  dead_in_tail_ = 0;
  dead_in_tail_ = estimated_dead(rows) - std::min(dead, estimated_dead(rows));
  counted_rows_ = rows.all;
  if (dead <= graph_->count() / kDeadShare) return false;
  begun->next = 0;
  begun->end = std::min(claimed_, graph_->capacity());
  repair_ = std::move(begun);
  return true;
}

// One unit of a repair; the last one ends it.
bool FieldGraph::repair(FieldRows rows, const LiveRows& live) {
  bool begins = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!is_repair_due(rows)) return false;
    begins = repair_ == nullptr;
  }
  if (begins && !begin_repair(rows, live)) return false;
  bool is_last = false;
  {
    const std::shared_lock<FairSharedMutex> insertion(inserting_);
    std::shared_ptr<Graph> graph;
    Unit unit{0, 0};
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (repair_ == nullptr || repair_->next == repair_->end) return false;  // others are at the last of it
      unit = {repair_->next, repair_->next + std::min(kUnitNodes, repair_->end - repair_->next)};
      repair_->next = unit.last;
      ++repair_->running;
      graph = graph_;
    }
    const auto leave = [&](bool has_failed) {
      const std::lock_guard<std::mutex> lock(mutex_);
      repair_->has_failed = repair_->has_failed || has_failed;
      if (repair_->has_failed) repair_->next = repair_->end;
      --repair_->running;
      is_last = repair_->running == 0 && repair_->next == repair_->end;
      if (is_last && repair_->has_failed) repair_.reset();
    };
    try {
      graph->repair(unit.first, unit.last, repair_->live_nodes());
    } catch (...) {
      leave(true);
      throw;
    }
    leave(false);
  }
  if (is_last) finish_repair();
  return true;
}

void FieldGraph::finish_repair() {
  const std::unique_lock<FairSharedMutex> rest(inserting_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (repair_ == nullptr || repair_->running != 0 || repair_->next != repair_->end) return;
  const Node before = graph_->count();
  graph_->remove_dead(repair_->live_nodes());
  unseen_changes_ += before - graph_->count();
  repair_.reset();
}

// Gives links to live nodes that no path leads to.
bool FieldGraph::connect(FieldRows rows, Work work, const LiveRows& live, const std::atomic<bool>& stop) {
  const std::shared_lock<FairSharedMutex> insertion(inserting_);
  std::shared_ptr<Graph> graph;
  Node changes = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_connecting_ || !is_connecting_due(rows, work)) return false;
    is_connecting_ = true;
    graph = graph_;
    changes = unseen_changes_;
  }
  Node unreachable = 0;
  const auto leave = [&](bool is_done) {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_connecting_ = false;
    if (!is_done) return;
    unseen_changes_ -= changes;
    unreachable_ = unreachable;
  };
  try {
    const CopyOnWrite<Bitset>::Lease lease = live.lease_live();
    const LiveNodes live_nodes{lease->words(), lease->size()};
    for (int round = 0; round < kRounds && !stop.load(std::memory_order_relaxed); ++round) {
      graph->connect_unreachable(live_nodes, stop);
      unreachable = graph->reach(live_nodes).unreachable;
      if (unreachable == 0) break;
    }
  } catch (...) {
    leave(false);
    throw;
  }
  leave(!stop.load(std::memory_order_relaxed));
  return true;
}

Node FieldGraph::unreachable() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return unreachable_;
}

}  // namespace vecdb
