// One thread at a time links members in the order in which they joined; a graph that is full is copied to a larger one by that thread.

#include "linked_set.hpp"

#include <algorithm>
#include <utility>

namespace vecdb {

namespace {

// Members linked at a time: few enough that a stop waits only some milliseconds.
constexpr Row kUnitRows = 32;
constexpr Node kMinCapacity = 64;
constexpr std::uint64_t kLateBytes = 32;  // of an entry of a hash table

}  // namespace

LinkedSet::LinkedSet(const Vectors& vectors, GraphOptions options) : vectors_(vectors), options_(options) {}

bool LinkedSet::has(Row row) const {
  Row first = 0;
  for (Row count = ascending_; count > 0;) {
    const Row half = count / 2;
    const bool is_before = rows_[first + half] < row;
    first = is_before ? first + half + 1 : first;
    count = is_before ? count - half - 1 : half;
  }
  return (first < ascending_ && rows_[first] == row) || late_.count(row) != 0;
}

void LinkedSet::join(const std::vector<Row>& rows) {
  Row end = joined();
  rows_.reserve(std::uint64_t{end} + rows.size());
  for (const Row row : rows) {
    const bool is_next = ascending_ == end && (end == 0 || rows_[end - 1] < row);
    if (!is_next && has(row)) continue;
    if (!is_next) late_.insert(row);
    rows_[end++] = row;
    if (is_next) ascending_ = end;
  }
  joined_.store(end, std::memory_order_release);
}

LinkedSet::View LinkedSet::view(const std::shared_ptr<const LinkedSet>& set) {
  const std::lock_guard<std::mutex> lock(set->mutex_);
  return {set, set->graph_, set->linked_.load(std::memory_order_relaxed), set->joined(), set->breadth_};
}

// Whoever takes the set has made room for the unit when this returns true.
bool LinkedSet::take(Row& first, Row& last, std::shared_ptr<Graph>& graph) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    first = linked_.load(std::memory_order_relaxed);
    const Row end = joined();
    if (is_taken_.load(std::memory_order_relaxed) || first == end) return false;
    is_taken_.store(true, std::memory_order_relaxed);
    last = first + std::min(kUnitRows, end - first);
    graph = graph_;
  }
  if (graph != nullptr && graph->capacity() >= last) return true;
  try {
    // Most sets are made of members that are there already; those that grow grow by a quarter.
    const Row end = joined();
    const std::uint64_t wanted = std::max<std::uint64_t>(kMinCapacity, graph == nullptr ? room_for(end) : std::uint64_t{end} + end / 4);
    const auto capacity = static_cast<Node>(std::min<std::uint64_t>(wanted, UINT32_MAX));
    graph = graph == nullptr ? std::make_shared<Graph>(vectors_, options_, capacity) : std::shared_ptr<Graph>(graph->grown(capacity));
  } catch (...) {
    settle(first);
    throw;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  graph_ = graph;
  return true;
}

void LinkedSet::settle(Row reached) {
  const std::lock_guard<std::mutex> lock(mutex_);
  linked_.store(reached, std::memory_order_relaxed);
  is_taken_.store(false, std::memory_order_relaxed);
}

Row LinkedSet::advance(const std::atomic<bool>& stop) {
  Row first = 0;
  Row last = 0;
  std::shared_ptr<Graph> graph;
  if (!take(first, last, graph)) return 0;
  Row at = first;
  try {
    // A node that is there already is what a unit that failed half way left.
    for (; at < last && !stop.load(std::memory_order_relaxed); ++at) {
      if (!graph->contains(at)) graph->insert(at, row_at(at));
    }
  } catch (...) {
    settle(at);
    throw;
  }
  settle(at);
  return at - first;
}

// REQUIRES mutex_.
bool LinkedSet::lacks_measure() const {
  const Row linked = linked_.load(std::memory_order_relaxed);
  return linked != 0 && linked == joined() && linked / 2 >= measured_;
}

bool LinkedSet::is_unmeasured() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return lacks_measure();
}

bool LinkedSet::is_measuring_due() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !is_measuring_ && lacks_measure();
}

bool LinkedSet::claim_measuring() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !std::exchange(is_measuring_, true);
}

void LinkedSet::settle_breadth(std::optional<LinkBreadth> breadth, Row linked) {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_measuring_ = false;
  if (!breadth) return;
  breadth_ = *breadth;
  measured_ = linked;
}

std::uint64_t LinkedSet::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::uint64_t{joined()} * sizeof(Row) + late_.size() * kLateBytes + (graph_ == nullptr ? 0 : graph_->bytes());
}

}  // namespace vecdb
