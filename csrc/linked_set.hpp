// Links among the rows that have something in common: a graph over them, in the order in which they joined, and those that wait for it.
//
// Invariant: row_at(i) for i below joined() are, each once, all rows that belonged at some time since the set was made; positions below
// View::linked are nodes of View::graph (node and position are the same number), the rest is pending and scanned exactly. A row that does
// not belong any more, or died, stays: searches let only rows through that match. Thread rule: join needs the index's state lock
// exclusively, or a set that nobody knows yet; view needs its shared side; advance runs in one thread at a time (others are told that
// nothing is left).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_set>
#include <vector>

#include "graph.hpp"
#include "stable_array.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// How far walks over a set have to look, and what they cost, beside what the field's profile says of a graph of its size.
struct LinkBreadth {
  float reach = 1;
  float distances = 1;
};

class LinkedSet {
 public:
  struct View {
    std::shared_ptr<const LinkedSet> set;
    std::shared_ptr<const Graph> graph;  // nullptr while nothing is linked
    Row linked = 0;
    Row joined = 0;
    LinkBreadth breadth;

    Row pending() const { return joined - linked; }
    Row row_at(Row position) const { return set->row_at(position); }
  };

  LinkedSet(const Vectors& vectors, GraphOptions options);

  // Those that are members already are left out.
  void join(const std::vector<Row>& rows);
  Row joined() const { return joined_.load(std::memory_order_acquire); }
  // REQUIRES position < joined().
  Row row_at(Row position) const { return rows_[position]; }

  static View view(const std::shared_ptr<const LinkedSet>& set);

  Row pending() const { return joined() - linked_.load(std::memory_order_relaxed); }
  // How many of them no thread is at.
  Row unclaimed() const { return is_taken_.load(std::memory_order_relaxed) ? 0 : pending(); }
  // Link the next few members; returns how many, 0 when another thread is at it or nothing waits.
  Row advance(const std::atomic<bool>& stop);

  // Whether all are linked and twice as many as when the breadth was measured; whether nobody is at that. claim_measuring is true for one
  // thread at a time, which calls settle_breadth, with nothing when it was stopped.
  bool is_unmeasured() const;
  bool is_measuring_due() const;
  bool claim_measuring();
  void settle_breadth(std::optional<LinkBreadth> breadth, Row linked);

  const GraphOptions& options() const { return options_; }
  // Not beside join.
  std::uint64_t bytes() const;
  // For how many a new graph of so many members has room.
  static std::uint64_t room_for(std::uint64_t members) { return members + members / 16; }

 private:
  bool has(Row row) const;
  bool lacks_measure() const;
  bool take(Row& first, Row& last, std::shared_ptr<Graph>& graph);
  void settle(Row reached);

  const Vectors& vectors_;
  const GraphOptions options_;
  StableArray<Row, 256> rows_;
  Row ascending_ = 0;             // the first so many rows_ ascend, as new rows do
  std::unordered_set<Row> late_;  // the others
  std::atomic<Row> joined_{0};
  std::atomic<Row> linked_{0};
  std::atomic<bool> is_taken_{false};

  mutable std::mutex mutex_;  // guards what follows, and its agreement with linked_
  std::shared_ptr<Graph> graph_;
  LinkBreadth breadth_;
  Row measured_ = 0;  // members when it was measured
  bool is_measuring_ = false;
};

}  // namespace vecdb
