// The two moves through a graph, written once for search and insertion: the greedy descent through the upper levels, and
// the best-first walk over one level. A Target gives `float distance(Row) const` and `void prefetch(Row) const`.
// A node's links are copied under its lock and scored without it, so a walk may run while nodes are inserted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "graph.hpp"
#include "scratch.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

struct QueryTarget {
  const Vectors& vectors;
  const Query& query;
  float distance(Row row) const { return vectors.distance(query, row); }
  void prefetch(Row row) const { vectors.prefetch(row); }
};

struct RowTarget {
  const Vectors& vectors;
  Row self;
  float distance(Row row) const { return vectors.link_distance(self, row); }
  void prefetch(Row row) const { vectors.prefetch_coded(row); }
};

// A query among rows that have codes.
struct CodedTarget {
  const Vectors& vectors;
  const CodeQuery& query;
  float distance(Row row) const { return vectors.coded_distance(query, row); }
  void prefetch(Row row) const { vectors.codes()->prefetch(row); }
};

struct Beam {
  std::size_t ef;                          // hits that are kept
  std::uint64_t max_distances = kNoLimit;  // of the whole Walk
};

// The nearest node that a greedy descent from entry to just above level `to` reaches; the start of a walk on level `to`.
// REQUIRES a graph that is not empty.
template <class Target>
Scored descend(const Graph& graph, Graph::Entry entry, int to, const Target& target, Scratch& scratch, Walk& walk) {
  scratch.links.resize(graph.max_links(0));
  Scored nearest{target.distance(graph.row_of(entry.node)), entry.node};
  ++walk.distances;
  for (int level = entry.level; level > to; --level) {
    for (bool moved = true; moved;) {
      moved = false;
      const std::uint32_t count = graph.copy_links(nearest.node, level, scratch.links.data());
      ++walk.hops;
      walk.distances += count;
      for (std::uint32_t i = 0; i < count; ++i) target.prefetch(graph.row_of(scratch.links[i]));
      for (std::uint32_t i = 0; i < count; ++i) {
        const float distance = target.distance(graph.row_of(scratch.links[i]));
        if (distance < nearest.distance) {
          nearest = {distance, scratch.links[i]};
          moved = true;
        }
      }
    }
  }
  return nearest;
}

// SEARCH-LAYER of Malkov & Yashunin (Alg. 2): leaves in scratch.hits, a heap, the beam.ef nearest nodes met that
// accept(node, row) takes. Every node is walked over, accepted or not.
template <class Target, class Accept>
void search_layer(const Graph& graph, int level, Scored start, const Target& target, const Accept& accept, const Beam& beam,
                  Scratch& scratch, Walk& walk) {
  constexpr std::uint32_t kAhead = 8;  // vectors asked for before they are scored
  std::vector<Scored>& frontier = scratch.frontier;
  std::vector<Scored>& hits = scratch.hits;
  scratch.visited.reset(graph.capacity());
  scratch.links.resize(graph.max_links(0));
  scratch.rows.resize(graph.max_links(0));
  frontier.clear();
  hits.clear();

  scratch.visited.insert(start.node);
  frontier.push_back(start);
  if (accept(start.node, graph.row_of(start.node))) hits.push_back(start);

  while (!frontier.empty()) {
    const Scored current = frontier.front();
    if (hits.size() >= beam.ef && current.distance > hits.front().distance) return;
    if (walk.distances >= beam.max_distances) {
      walk.exhausted = true;
      return;
    }
    std::pop_heap(frontier.begin(), frontier.end(), NearestFirst());
    frontier.pop_back();

    const std::uint32_t count = graph.copy_links(current.node, level, scratch.links.data());
    if (!frontier.empty() && level == 0) graph.prefetch_links(frontier.front().node);
    std::uint32_t fresh = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const Node node = scratch.links[i];
      if (!scratch.visited.insert(node)) continue;
      scratch.links[fresh] = node;
      scratch.rows[fresh] = graph.row_of(node);
      if (fresh < kAhead) target.prefetch(scratch.rows[fresh]);
      ++fresh;
    }
    ++walk.hops;
    walk.distances += fresh;

    for (std::uint32_t i = 0; i < fresh; ++i) {
      if (i + kAhead < fresh) target.prefetch(scratch.rows[i + kAhead]);
      const Scored met{target.distance(scratch.rows[i]), scratch.links[i]};
      if (hits.size() >= beam.ef && !(met.distance < hits.front().distance)) continue;
      frontier.push_back(met);
      std::push_heap(frontier.begin(), frontier.end(), NearestFirst());
      if (!accept(met.node, scratch.rows[i])) continue;
      hits.push_back(met);
      std::push_heap(hits.begin(), hits.end(), FarthestFirst());
      if (hits.size() > beam.ef) {
        std::pop_heap(hits.begin(), hits.end(), FarthestFirst());
        hits.pop_back();
      }
    }
  }
}

}  // namespace vecdb
