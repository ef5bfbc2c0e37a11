// Which way a search goes: an exact scan, or a walk over the graph, by exact cardinality and by the costs that were measured on the graph.
//
// Invariant: a walk that has cost half of an exact scan and has not found enough is followed by the scan; one that has ends by 1.4 of them:
// so that the worst case is 1.5 exact scans. A walk under a filter learns early whether the filter lies where the query does, and turns
// back when a scan is cheaper. Everything here is a pure function of its arguments.
#pragma once

#include <cstdint>

#include "profile.hpp"
#include "types.hpp"

namespace vecdb {

enum class Strategy : std::uint32_t { empty = 0, exact = 1, graph = 2, tag = 3, sweep = 4 };  // values as in vecdb_plan_kind

// Whether a plan of this strategy may give up and leave the rest to an exact scan.
inline bool is_walk(Strategy strategy) { return strategy == Strategy::graph || strategy == Strategy::tag || strategy == Strategy::sweep; }

enum class Accuracy { approximate, exact };

struct Workload {
  std::uint32_t dim = 0;
  Row rows = 0;                   // dead ones included
  Row indexed = 0;                // rows that the graph covers; 0 without one
  Node nodes = 0;                 // of the graph: those rows, but for the dead that left it
  std::uint64_t total = 0;        // live rows
  std::uint64_t cardinality = 0;  // live rows that match
  std::uint32_t k = 0;
  std::uint32_t ef = 0;       // 0: to be chosen by the profile
  std::uint64_t queries = 1;  // that one thread would scan for together
  GraphProfile profile;
  Accuracy accuracy = Accuracy::approximate;

  // Whether a graph could be walked at all.
  bool has_choice() const { return accuracy == Accuracy::approximate && nodes != 0 && cardinality > k && (ef != 0 || profile.is_known()); }
};

struct Plan {
  Strategy strategy = Strategy::empty;
  Reach reach{0};            // of a walk; ef is 0 unless a graph is walked
  double cost_exact_ns = 0;  // predicted, one query, with its share of what several scan together
  double cost_graph_ns = 0;  // infinite without a graph
  Effort effort{0};          // the walk's
};

Plan choose_plan(const Workload& workload);

}  // namespace vecdb
