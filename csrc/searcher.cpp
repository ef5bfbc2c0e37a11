// Walks first, one by one; what they leave unanswered is scanned together, block by block.

#include "searcher.hpp"

#include <algorithm>
#include <utility>

namespace vecdb {

namespace {

// Queries of a batch scan a block of rows in turn, so that it comes from memory once; the block stays in a core's own cache.
constexpr std::size_t kScanBlockBytes = 128 * 1024;

}  // namespace

RowSelection rows_of(Selection offsets, const Field::Snapshot& field) {
  RowSelection rows;
  rows.form = offsets.form;
  switch (offsets.form) {
    case Selection::Form::all:
      rows.count = field.live_count;
      break;
    case Selection::Form::list:
      rows.list = field.map.rows_of(offsets.list);
      rows.count = rows.list.size();
      break;
    case Selection::Form::bits:
      if (field.map.is_identity() && offsets.bits.size() == field.map.rows()) {
        rows.bits = std::move(offsets.bits);
      } else {
        rows.bits = field.map.rows_of(offsets.bits);
      }
      rows.count = rows.bits.count();
      break;
  }
  return rows;
}

Searcher::Searcher(const Parts& parts, RowSelection selection, const Plan& plan, std::uint32_t k, Accuracy accuracy)
    : parts_(parts),
      selection_(std::move(selection)),
      plan_(plan),
      k_(k),
      // Where all that match would be scored by their rows anyway, codes decide nothing.
      uses_codes_(accuracy == Accuracy::approximate && parts.vectors.codes() != nullptr && selection_.count > rerank_depth(k)),
      ties_(parts_) {
  const bool walks = plan_.strategy == Strategy::graph || plan_.strategy == Strategy::sweep;
  if (walks && selection_.form == Selection::Form::list) {
    selection_.bits = Bitset(parts_.field.map.rows());
    for (const Row row : selection_.list) selection_.bits.set(row);
    selection_.form = Selection::Form::bits;
  }
}

RowSet Searcher::allowed(Row limit) const {
  if (selection_.form == Selection::Form::bits) return {selection_.bits.words(), limit};
  const bool is_every_row = parts_.field.live_count == parts_.field.map.rows();
  return {is_every_row ? nullptr : parts_.field.live->words(), limit};
}

template <class AnyQuery>
void Searcher::scan(const AnyQuery& query, Row first, Row last, Ranking& ranking) const {
  if (selection_.form != Selection::Form::list) {
    scan_range(parts_.vectors, query, first, last, allowed(last), ranking);
    return;
  }
  const auto begin = std::lower_bound(selection_.list.begin(), selection_.list.end(), first);
  const auto end = std::lower_bound(begin, selection_.list.end(), last);
  if (begin != end) scan_list(parts_.vectors, query, &*begin, static_cast<std::size_t>(end - begin), ranking);
}

void Searcher::scan_tail(const Query& query, Ranking& ranking) const {
  const Row first = parts_.field.graph.indexed;
  const Row last = parts_.field.map.rows();
  if (first == last) return;
  if (!uses_codes_) {
    scan(query, first, last, ranking);
    return;
  }
  Ranking coded(rerank_depth(k_), parts_.vectors, nullptr);
  scan(CodeQuery(query.values(), parts_.vectors.dim(), parts_.vectors.metric()), first, last, coded);
  rerank(parts_.vectors, query, coded, ranking);
}

// False when the walk did not find enough: the ranking holds nothing to be used then.
bool Searcher::walk(const Query& query, Ranking& ranking) const {
  const FieldGraph::View& graph = parts_.field.graph;
  const ScratchPool::Lease scratch = parts_.scratches.take();
  const Walk walk =
      search_graph(*graph.graph, parts_.vectors, query, allowed(graph.indexed), plan_.reach, plan_.max_distances, *scratch, ranking);
  if (walk.exhausted) return false;
  scan_tail(query, ranking);
  return ranking.size() >= std::min<std::uint64_t>(k_, selection_.count);
}

void Searcher::run(const float* queries, std::uint64_t first, std::uint64_t last, const SearchOutput& out) const {
  const std::uint32_t dim = parts_.vectors.dim();
  const Metric metric = parts_.vectors.metric();
  std::vector<Query> prepared;
  std::vector<CodeQuery> coded;
  std::vector<Ranking> rankings;
  std::vector<std::uint64_t> unanswered;
  const std::uint32_t scanned = uses_codes_ ? rerank_depth(k_) : k_;
  for (std::uint64_t i = first; i < last; ++i) {
    Query query(queries + i * dim, dim, metric);
    Ranking ranking(k_, parts_.vectors, &ties_);
    const bool walks = plan_.strategy == Strategy::graph || plan_.strategy == Strategy::sweep;
    if (plan_.strategy == Strategy::empty) {
      out.counts[i] = 0;
    } else if (walks && walk(query, ranking)) {
      write(ranking, i, out);
    } else {
      if (uses_codes_) coded.emplace_back(query.values(), dim, metric);
      prepared.push_back(std::move(query));
      rankings.emplace_back(scanned, parts_.vectors, uses_codes_ ? nullptr : &ties_);
      unanswered.push_back(i);
    }
  }
  const Row rows = parts_.field.map.rows();
  const auto block = static_cast<Row>(std::max<std::size_t>(64, kScanBlockBytes / (dim * sizeof(float))));
  const Row step = unanswered.size() == 1 ? std::max<Row>(rows, 1) : block;
  for (Row begin = 0; begin < rows && !unanswered.empty();) {
    const Row end = rows - begin > step ? begin + step : rows;
    for (std::size_t i = 0; i < unanswered.size(); ++i) {
      uses_codes_ ? scan(coded[i], begin, end, rankings[i]) : scan(prepared[i], begin, end, rankings[i]);
    }
    begin = end;
  }
  for (std::size_t i = 0; i < unanswered.size(); ++i) {
    if (uses_codes_) {
      Ranking best(k_, parts_.vectors, &ties_);
      rerank(parts_.vectors, prepared[i], rankings[i], best);
      write(best, unanswered[i], out);
    } else {
      write(rankings[i], unanswered[i], out);
    }
  }
}

void Searcher::write(Ranking& ranking, std::uint64_t query, const SearchOutput& out) const {
  const std::vector<Candidate> best = ranking.take();
  out.counts[query] = static_cast<std::uint32_t>(best.size());
  std::uint64_t place = query * k_;
  for (const Candidate& hit : best) {
    const Offset offset = parts_.field.map.offset_of(hit.row);
    out.offsets[place] = offset;
    out.ids[place] = parts_.ids.value(offset);
    out.id_kinds[place] = static_cast<std::uint8_t>(parts_.ids.kind(offset));
    out.scores[place] = parts_.vectors.score(hit.distance);
    ++place;
  }
}

}  // namespace vecdb
