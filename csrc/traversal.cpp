// The approximate way: a walk, and what it found offered by the rows themselves.

#include "traversal.hpp"

#include <algorithm>
#include <cmath>

namespace vecdb {

namespace {

// What makes a kernel distance proportional to a squared distance when it is added.
float shift_of(const Vectors& vectors, const float* query_values, float largest_norm) {
  if (vectors.metric() == Metric::l2) return 0;
  if (vectors.metric() == Metric::cosine) return 1;
  double squares = 0;
  for (std::uint32_t i = 0; i < vectors.dim(); ++i) squares += static_cast<double>(query_values[i]) * static_cast<double>(query_values[i]);
  return static_cast<float>(std::sqrt(squares) * static_cast<double>(largest_norm));
}

}  // namespace

Beam beam_of(const Reach& reach, std::uint32_t k, const Vectors& vectors, const float* query_values) {
  const std::size_t least = vectors.codes() == nullptr ? 1 : rerank_depth(k);
  Beam beam{std::max<std::size_t>(reach.ef, least)};
  if (reach.factor == Reach::kNoFactor) return beam;
  beam.kth = std::max(k, kLeastBounding);
  beam.factor = reach.factor;
  beam.thinning = reach.thinning;
  beam.least_share = reach.least_share;
  beam.shift = shift_of(vectors, query_values, reach.largest_norm);
  return beam;
}

Walk search_graph(const Graph& graph, const Vectors& vectors, const Query& query, const RowSet& allowed, const Reach& reach,
                  const Effort& effort, Scratch& scratch, Ranking& out) {
  Walk walk;
  if (graph.entry().level < 0) return walk;
  const Beam beam = beam_of(reach, out.k(), vectors, query.values());
  if (vectors.codes() == nullptr) {
    walk_towards(graph, QueryTarget{vectors, query}, allowed, beam, effort, scratch, walk);
    for (const Scored& hit : scratch.hits) {
      const Row row = graph.row_of(hit.node);
      if (row < allowed.limit && hit.node < allowed.node_limit) out.offer(hit.distance, row);
    }
    return walk;
  }
  const CodeQuery coded(query.values(), vectors.dim(), vectors.metric());
  walk_towards(graph, CodedTarget{vectors, coded}, allowed, beam, effort, scratch, walk);
  const std::size_t depth = rerank_depth(out.k());
  scratch.rows.clear();
  for (const Scored* hit = scratch.hits.begin(); hit != scratch.hits.end() && scratch.rows.size() < depth; ++hit) {
    const Row row = graph.row_of(hit->node);
    if (row < allowed.limit && hit->node < allowed.node_limit) scratch.rows.push_back(row);
  }
  offer_rows(vectors, query, scratch.rows.data(), scratch.rows.size(), out);
  return walk;
}

}  // namespace vecdb
