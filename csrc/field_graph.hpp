// The graph of one field and how far it has got: rows below `indexed` are in it, the tail beyond is not yet.
//
// Invariant: every live row below View::indexed is a node of View::graph (node and row are the same number; rows that were dead when
// their turn came are absent). Thread rule: all calls are thread-safe; advance runs in any number of threads at once, while growth, saving
// and replacing exclude it, and searches never wait for any of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "fair_mutex.hpp"
#include "graph.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// How many rows are scanned exactly before a graph must cover them: the scan costs about as much as one idle search in a graph.
Row tail_bound(std::uint32_t dim);

// Tells which rows need not be linked because they are dead. Asked from many threads.
class LiveRows {
 public:
  virtual ~LiveRows() = default;
  // Clears in rows [first, first + count) what is dead: alive[i] becomes false.
  virtual void mark(Row first, std::uint32_t count, bool* alive) const = 0;
};

class FieldGraph {
 public:
  struct View {
    std::shared_ptr<const Graph> graph;  // nullptr while there is none
    Row indexed = 0;
  };

  FieldGraph(const Vectors& vectors, GraphOptions options);

  Row bound() const { return bound_; }
  View view() const;

  // How many of the field's rows wait for the graph; 0 while the field is too small to deserve one.
  Row waiting(Row rows) const;
  // How many of them no thread has begun with.
  Row unclaimed(Row rows) const;

  // Link the next few of rows [0, rows) in this thread, at most max_rows of them. Returns how many rows it got on, 0 when there is nothing
  // to begin with. REQUIRES max_rows >= 1.
  std::uint32_t advance(Row rows, Row max_rows, const LiveRows& live, const std::atomic<bool>& stop);

  // Calls use(graph or nullptr, indexed) while nothing is inserted.
  template <class Use>
  void at_rest(Use&& use) const {
    const std::unique_lock<FairSharedMutex> rest(inserting_);
    const View now = view();
    use(now.graph.get(), now.indexed);
  }

  // Take over a restored graph that covers rows [0, rows), unless the present one covers as many. Returns what is covered then.
  Row replace(std::unique_ptr<Graph> graph, Row rows);

 private:
  struct Unit {
    Row first;
    Row last;
  };
  enum class Claim { nothing, needs_room, taken };

  bool deserves_graph(Row rows) const { return graph_ != nullptr || rows > bound_; }
  Claim claim(Row rows, Row max_rows, Unit& unit, std::shared_ptr<Graph>& graph);
  void settle(const Unit& unit, Row reached);
  void make_room(Row rows);

  const Vectors& vectors_;
  const GraphOptions options_;
  const Row bound_;

  mutable FairSharedMutex inserting_;  // shared by whoever inserts; taken before mutex_
  mutable std::mutex mutex_;           // guards what follows
  std::shared_ptr<Graph> graph_;
  Row indexed_ = 0;
  Row claimed_ = 0;             // rows from here on were never begun with
  std::vector<Unit> running_;   // begun with
  std::vector<Unit> returned_;  // begun with and given up; claimed first
};

}  // namespace vecdb
