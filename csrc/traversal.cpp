// The approximate way: greedy descent, then best-first over level 0. Only allowed rows become hits, but the walk goes over
// all, so that a filter cannot cut it off from them.

#include <algorithm>

#include "search.hpp"
#include "walk.hpp"

namespace vecdb {

Walk search_graph(const Graph& graph, const Vectors& vectors, const Query& query, const RowSet& allowed, std::uint32_t ef,
                  std::uint64_t max_distances, Scratch& scratch, Ranking& out) {
  Walk walk;
  const Graph::Entry entry = graph.entry();
  if (entry.level < 0) return walk;
  const QueryTarget target{vectors, query};
  const Scored start = descend(graph, entry, 0, target, scratch, walk);
  const auto accept = [&allowed](Node, Row row) { return allowed.contains(row); };
  search_layer(graph, 0, start, target, accept, Beam{std::max<std::size_t>(ef, 1), max_distances}, scratch, walk);
  for (const Scored& hit : scratch.hits) out.offer(hit.distance, graph.row_of(hit.node));
  return walk;
}

}  // namespace vecdb
