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

#include "calibration.hpp"
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
    GraphProfile profile;
  };
  enum class Work { linking, linking_and_measuring };
  struct Progress {
    bool has_worked;     // false: there was nothing to begin with
    std::uint32_t rows;  // that it got on
  };

  FieldGraph(const Vectors& vectors, GraphOptions options);

  Row bound() const { return bound_; }
  View view() const;

  // How many of the field's rows wait for the graph, at least 1 while its profile waits to be measured; 0 while the field is too small to
  // deserve a graph.
  Row waiting(Row rows) const;
  // How many of them no thread has begun with.
  Row unclaimed(Row rows) const;

  // Link the next few of rows [0, rows) in this thread, at most max_rows of them, or measure the graph's profile, which is done each
  // time it has doubled. REQUIRES max_rows >= 1.
  Progress advance(Row rows, Row max_rows, Work work, const LiveRows& live, const std::atomic<bool>& stop);

  // Calls use(view) while nothing is inserted.
  template <class Use>
  void at_rest(Use&& use) const {
    const std::unique_lock<FairSharedMutex> rest(inserting_);
    const View now = view();
    use(now);
  }

  // Take over a restored graph that covers rows [0, rows), unless the present one covers as many. Returns what is covered then.
  Row replace(std::unique_ptr<Graph> graph, Row rows, const GraphProfile& profile);

 private:
  struct Unit {
    Row first;
    Row last;
  };
  enum class Claim { nothing, profile_room, taken };

  bool deserves_graph(Row rows) const { return graph_ != nullptr || rows > bound_; }
  Claim claim(Row rows, Row max_rows, Unit& unit, std::shared_ptr<Graph>& graph);
  void settle(const Unit& unit, Row reached);
  void make_room(Row rows);
  bool should_measure() const { return !is_measuring_ && is_profile_due(); }
  bool is_profile_due() const { return indexed_ >= bound_ && indexed_ / 2 >= profile_.rows; }
  bool measure(const std::atomic<bool>& stop);
  Progress link(const Unit& unit, Graph& graph, const LiveRows& live, const std::atomic<bool>& stop);

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
  GraphProfile profile_;
  bool is_measuring_ = false;
};

}  // namespace vecdb
