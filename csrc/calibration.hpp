// What walks and scans cost on the graph and the data at hand, measured in the background: data differ by a factor of twenty in the beam
// that a recall of 0.95 needs, and machines in what a row from memory costs.
//
// Thread rule: a pure function; the graph may be inserted into meanwhile.
#pragma once

#include <atomic>
#include <optional>

#include "graph.hpp"
#include "profile.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// Looks at rows [0, rows) of the graph. Takes about as long as 60 exact scans and 5,000 walks; nothing when stop became true.
std::optional<GraphProfile> measure_profile(const Graph& graph, const Vectors& vectors, Row rows, const std::atomic<bool>& stop);

}  // namespace vecdb
