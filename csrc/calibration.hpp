// How wide the beam of a walk must be for a recall of 0.95, measured on the graph at hand: data differ by a factor of twenty and more.
//
// Stored rows are the queries, each left out of its own walk and of its own truth, so that it is to the graph what a new query is.
// Invariant: needs grow with k. Thread rule: pure functions; the graph may be inserted into meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "graph.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// The ef that recall 0.95 needed for k = 10 and k = 100 in a graph over this many rows; 0 rows: not measured.
struct BeamNeeds {
  std::uint32_t ef10 = 0;
  std::uint32_t ef100 = 0;
  Row rows = 0;

  bool is_known() const { return rows != 0; }
};

// Looks at rows [0, rows) of the graph. Takes about 64 exact scans and 64 times ten walks; nothing when stop became true.
std::optional<BeamNeeds> measure_needs(const Graph& graph, const Vectors& vectors, Row rows, const std::atomic<bool>& stop);

// The beam width for recall 0.95 at this k and this many rows, a margin included. REQUIRES needs.is_known().
std::uint32_t default_ef(const BeamNeeds& needs, std::uint32_t k, Row rows);

}  // namespace vecdb
