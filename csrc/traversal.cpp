// The approximate way: greedy descent, then best-first over level 0. Only allowed rows become hits, but the walk goes over
// all, so that a filter cannot cut it off from them.

#include <algorithm>

#include "search.hpp"
#include "walk.hpp"

namespace vecdb {

void keep_nearest(std::vector<Scored>& hits, std::size_t depth) {
  if (hits.size() <= depth) return;
  std::nth_element(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(depth), hits.end(), FarthestFirst());
  hits.resize(depth);
}

namespace {

template <class Target>
void walk_towards(const Graph& graph, const Target& target, const RowSet& allowed, const Beam& beam, Scratch& scratch, Walk& walk) {
  const Scored start = descend(graph, graph.entry(), 0, target, scratch, walk);
  const auto accept = [&allowed](Node, Row row) { return allowed.contains(row); };
  search_layer(graph, 0, start, target, accept, beam, scratch, walk);
}

}  // namespace

Walk search_graph(const Graph& graph, const Vectors& vectors, const Query& query, const RowSet& allowed, std::uint32_t ef,
                  std::uint64_t max_distances, Scratch& scratch, Ranking& out) {
  Walk walk;
  if (graph.entry().level < 0) return walk;
  if (vectors.codes() == nullptr) {
    const Beam beam{std::max<std::size_t>(ef, 1), max_distances};
    walk_towards(graph, QueryTarget{vectors, query}, allowed, beam, scratch, walk);
    for (const Scored& hit : scratch.hits) out.offer(hit.distance, graph.row_of(hit.node));
    return walk;
  }
  const std::size_t depth = rerank_depth(out.k());
  const Beam beam{std::max<std::size_t>(ef, depth), max_distances};
  const CodeQuery coded(query.values(), vectors.dim(), vectors.metric());
  walk_towards(graph, CodedTarget{vectors, coded}, allowed, beam, scratch, walk);
  keep_nearest(scratch.hits, depth);
  for (const Scored& hit : scratch.hits) vectors.prefetch(graph.row_of(hit.node));
  for (const Scored& hit : scratch.hits) {
    const Row row = graph.row_of(hit.node);
    out.offer(vectors.distance(query, row), row);
  }
  return walk;
}

}  // namespace vecdb
