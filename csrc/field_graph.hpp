// The graph of one field and how far it has got: rows below `indexed` are in it, the tail beyond is not yet.
//
// Invariant: every live row below View::indexed is a node of View::graph (node and row are the same number; rows that were dead when
// their turn came are absent, and so are those that died later, once their share was worth a repair). Thread rule: all calls are
// thread-safe; advance runs in any number of threads at once, while growth, saving and replacing exclude it, and searches never wait for
// any of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "bitset.hpp"
#include "calibration.hpp"
#include "copy_on_write.hpp"
#include "fair_mutex.hpp"
#include "graph.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// How many rows are scanned exactly before a graph must cover them: the scan costs about as much as one idle search in a graph.
Row tail_bound(std::uint32_t dim);

// Tells which rows live. Asked from many threads.
class LiveRows {
 public:
  virtual ~LiveRows() = default;
  // By row, of all rows that any search saw so far.
  virtual CopyOnWrite<Bitset>::Lease lease_live() const = 0;
};

// How many rows a field has, the dead included, and how many of them live.
struct FieldRows {
  Row all;
  Row live;
};

class FieldGraph {
 public:
  struct View {
    std::shared_ptr<const Graph> graph;  // nullptr while there is none
    Row indexed = 0;
    GraphProfile profile;
  };
  // linking: only what makes the tail shorter. upkeep: also what can wait a while, and upkeep_now: what somebody waits for.
  enum class Work { linking, upkeep, upkeep_now };
  struct Progress {
    bool has_worked;     // false: there was nothing to begin with
    std::uint32_t rows;  // that it got on
  };

  FieldGraph(const Vectors& vectors, GraphOptions options);

  Row bound() const { return bound_; }
  View view() const;

  // How many of the field's rows wait for the graph.
  Row tail(FieldRows rows) const;
  // Whether there is a tail or upkeep due; never while the field is too small to deserve a graph.
  bool is_behind(FieldRows rows) const;
  // How many rows no thread has begun to link or to repair, at least 1 while anything else is due.
  Row unclaimed(FieldRows rows, Work work) const;

  // Do the next bit of work in this thread: link a few rows, at most max_rows; measure the graph's profile, which is done each time as many
  // nodes are new as it had then, but not while many more wait; repair links to dead nodes, once these are a sixteenth of the graph; or
  // give links to nodes that no path leads to, after links have changed and nothing else is left to do. REQUIRES max_rows >= 1.
  Progress advance(FieldRows rows, Row max_rows, Work work, const LiveRows& live, const std::atomic<bool>& stop);

  // Live nodes that no path led to when that was looked at last.
  Node unreachable() const;

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
  enum class Claim { nothing, no_room, taken };
  // A pass over all nodes that takes those that were dead at its start out of the graph.
  struct Repair {
    CopyOnWrite<Bitset>::Lease live;
    Node next;
    Node end;
    std::uint32_t running = 0;
    bool has_failed = false;

    LiveNodes live_nodes() const { return {live->words(), live->size()}; }
  };

  bool deserves_graph(Row rows) const { return graph_ != nullptr || rows > bound_; }
  Claim claim(Row rows, Row max_rows, Unit& unit, std::shared_ptr<Graph>& graph);
  void settle(const Unit& unit, Row reached);
  void make_room(Row rows);
  bool should_measure(FieldRows rows) const;
  bool is_profile_due() const;
  bool measure(FieldRows rows, const std::atomic<bool>& stop);

  // field_upkeep.cpp. REQUIRE mutex_, but for those that begin or do something, which return false when there was nothing to do.
  Node estimated_dead(FieldRows rows) const;
  bool is_repair_due(FieldRows rows) const;
  bool is_connecting_due(FieldRows rows, Work work) const;
  bool begin_repair(FieldRows rows, const LiveRows& live);
  bool repair(FieldRows rows, const LiveRows& live);
  void finish_repair();
  bool connect(FieldRows rows, Work work, const LiveRows& live, const std::atomic<bool>& stop);

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
  Row linked_since_ = 0;  // that was measured
  bool is_measuring_ = false;
  std::unique_ptr<Repair> repair_;  // while one is under way
  Node dead_in_tail_ = 0;           // what estimated_dead counted too many when the field had
  Row counted_rows_ = 0;            // so many rows
  Node unseen_changes_ = 0;         // nodes that got or lost links since all were last seen to be reachable
  bool is_connecting_ = false;
  Node unreachable_ = 0;
};

}  // namespace vecdb
