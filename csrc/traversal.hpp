// The walk of a search, whatever it walks towards: a greedy descent, then best-first over level 0. Only allowed rows become hits, but the
// walk goes over all, so that a filter cannot cut it off from them.
// Thread rule: as Graph's const calls.
#pragma once

#include <algorithm>
#include <cstddef>

#include "graph.hpp"
#include "scratch.hpp"
#include "search.hpp"
#include "walk.hpp"

namespace vecdb {

// Nodes that were linked after allowed was made are few, so they may be hits of a walk, and be left out afterwards.
constexpr Node kStragglers = 256;

inline bool is_open(const Graph& graph, const RowSet& allowed) {
  return allowed.bits == nullptr &&
         graph.count() <= std::uint64_t{std::min<std::uint32_t>(allowed.limit, allowed.node_limit)} + kStragglers;
}

// Leaves the nearest nodes met in scratch.hits; some may be at or beyond allowed's limits. REQUIRES a graph that is not empty.
template <class Target>
void walk_towards(const Graph& graph, const Target& target, const RowSet& allowed, const Beam& beam, const Effort& effort, Scratch& scratch,
                  Walk& walk) {
  const Scored start = descend(graph, graph.entry(), 0, target, scratch, walk);
  Beam filled = beam;  // there are no more nodes to keep, whatever was asked for
  filled.ef = std::min<std::size_t>(beam.ef, graph.capacity());
  if (is_open(graph, allowed)) {
    search_nearest(graph, 0, start, target, filled, effort, scratch, walk);
    return;
  }
  const auto accept = [&allowed](Node node, Row row) { return node < allowed.node_limit && allowed.contains(row); };
  search_layer(graph, 0, start, target, accept, filled, effort, scratch, walk);
}

// The beam of a search for the best k. query_values are the query's, of vectors.dim().
Beam beam_of(const Reach& reach, std::uint32_t k, const Vectors& vectors, const float* query_values);

}  // namespace vecdb
