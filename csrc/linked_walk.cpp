// One set's nodes and pending rows are different rows, so that they go to the ranking at once; rows of several sets may be the same.

#include "linked_walk.hpp"

#include <algorithm>

namespace vecdb {

namespace {

void scan_pending(const std::vector<Row>& rows, const Vectors& vectors, const Query& query, Ranking& out) {
  if (rows.empty()) return;
  if (vectors.codes() == nullptr || rows.size() <= rerank_depth(out.k())) {
    scan_list(vectors, query, rows.data(), rows.size(), out);
    return;
  }
  Ranking coded(rerank_depth(out.k()), vectors, nullptr);
  scan_list(vectors, CodeQuery(query.values(), vectors.dim(), vectors.metric()), rows.data(), rows.size(), coded);
  rerank(vectors, query, coded, out);
}

}  // namespace

bool search_links(const LinkedRows& links, const Vectors& vectors, const Query& query, const RowSet& allowed, const Plan& plan,
                  Scratch& scratch, Ranking& out) {
  Effort effort = plan.effort;
  const auto walk_into = [&](const LinkedSet::View& set, Ranking& ranking) {
    if (set.graph == nullptr) return true;
    // What is linked meanwhile is pending here.
    const RowSet linked{links.is_whole ? nullptr : allowed.bits, allowed.limit, set.linked};
    const Walk walk = search_graph(*set.graph, vectors, query, linked, plan.reach, effort, scratch, ranking);
    effort.give_up -= std::min(effort.give_up, walk.distances);
    effort.most -= std::min(effort.most, walk.distances);
    return !walk.exhausted;
  };
  if (links.cover.sets.size() == 1) {
    if (!walk_into(links.cover.sets.front(), out)) return false;
    scan_pending(links.pending, vectors, query, out);
    return true;
  }
  std::vector<Candidate> found;
  const auto collect = [&](Ranking& ranking) {
    for (const Candidate& hit : ranking.take()) found.push_back(hit);
  };
  for (const LinkedSet::View& set : links.cover.sets) {
    Ranking part = out;
    if (!walk_into(set, part)) return false;
    collect(part);
  }
  Ranking rest = out;
  scan_pending(links.pending, vectors, query, rest);
  collect(rest);
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.row < b.row; });
  found.erase(std::unique(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.row == b.row; }), found.end());
  for (const Candidate& hit : found) out.offer(hit.distance, hit.row);
  return true;
}

}  // namespace vecdb
