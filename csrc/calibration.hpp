// What walks and scans cost on the graph and the data at hand, measured in the background: data differ by a factor of twenty in the beam
// that a recall of 0.95 needs, and machines in what a row from memory costs.
//
// Stored rows are the queries, each left out of its own walk and of its own truth, so that it is to the graph what a new query is.
// Invariant: ef and distances grow with k. Thread rule: pure functions; the graph may be inserted into meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "graph.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

struct GraphProfile {
  Row rows = 0;  // how many the graph had when this was measured; 0: not measured
  // The beam that recall 0.95 needed for k = 10 and k = 100, and the distances that a walk with it computed.
  std::uint32_t ef10 = 0;
  std::uint32_t ef100 = 0;
  float distances10 = 0;
  float distances100 = 0;
  // Nanoseconds of one thread.
  float stream_ns = 0;  // a row of a scan over all
  float gather_ns = 0;  // a row of a scan over few
  float step_ns = 0;    // a distance of a walk, with its share of everything else

  bool is_known() const { return rows != 0; }
};

// Whether measure_profile could have given this: a file may say anything.
bool is_plausible(const GraphProfile& profile);

// What to reckon with where nothing was measured.
GraphProfile nominal_profile(std::uint32_t dim);

// Looks at rows [0, rows) of the graph. Takes about 64 exact scans and 64 times ten walks; nothing when stop became true.
std::optional<GraphProfile> measure_profile(const Graph& graph, const Vectors& vectors, Row rows, const std::atomic<bool>& stop);

// The beam width for recall 0.95 at this k and this many rows, a margin included. REQUIRES profile.is_known().
std::uint32_t default_ef(const GraphProfile& profile, std::uint32_t k, Row rows);

// How many distances an unfiltered walk with this beam computes.
double walk_distances(const GraphProfile& profile, std::uint32_t ef);

}  // namespace vecdb
