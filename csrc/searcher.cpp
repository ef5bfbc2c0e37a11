// Walks first, one by one; what they leave unanswered is scanned together, block by block.

#include "searcher.hpp"

#include <algorithm>
#include <utility>

namespace vecdb {

namespace {

// Queries of a batch scan a block of rows in turn, so that it comes from memory once; the block stays in a core's own cache.
constexpr std::size_t kScanBlockBytes = 128 * 1024;

QueryTile make_tile(const Query* const* queries, std::size_t count, std::uint32_t dim) { return QueryTile(queries, count, dim); }
CodeTile make_tile(const CodeQuery* const* queries, std::size_t count, std::uint32_t) { return CodeTile(queries, count); }

template <class AnyQuery>
using TileOf = decltype(make_tile(static_cast<const AnyQuery* const*>(nullptr), 0, 0));

// All queries in order; the last few are left out where they are not worth a tile.
template <class AnyQuery>
std::vector<TileOf<AnyQuery>> tiles_of(const std::vector<AnyQuery>& queries, std::uint32_t dim) {
  std::vector<TileOf<AnyQuery>> tiles;
  for (std::size_t first = 0; first + kWorthTile <= queries.size(); first += kTileQueries) {
    const std::size_t count = std::min(kTileQueries, queries.size() - first);
    const AnyQuery* of_tile[kTileQueries];
    for (std::size_t q = 0; q < count; ++q) of_tile[q] = &queries[first + q];
    tiles.push_back(make_tile(of_tile, count, dim));
  }
  return tiles;
}

std::vector<Row> below(Row end, std::vector<Row> ascending) {
  ascending.erase(std::lower_bound(ascending.begin(), ascending.end(), end), ascending.end());
  return ascending;
}

}  // namespace

RowSelection rows_of(Selection offsets, const Field::Snapshot& field) {
  RowSelection rows;
  rows.form = offsets.form;
  switch (offsets.form) {
    case Selection::Form::all:
      rows.count = field.live_count;
      break;
    case Selection::Form::list:
      rows.list = field.map.is_identity() ? below(field.map.rows(), std::move(offsets.list)) : field.map.rows_of(offsets.list);
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

Searcher::Searcher(const Parts& parts, std::shared_ptr<const RowSelection> selection, const Plan& plan, std::uint32_t k, Accuracy accuracy)
    : parts_(parts),
      selection_(std::move(selection)),
      plan_(plan),
      k_(k),
      // Where all that match would be scored by their rows anyway, codes decide nothing.
      uses_codes_(accuracy == Accuracy::approximate && parts.vectors.codes() != nullptr && selection_->count > rerank_depth(k)),
      ties_(parts_) {
  if (is_walk(plan_.strategy) && selection_->form == Selection::Form::list) {
    bits_of_list_ = Bitset(parts_.field.map.rows());
    for (const Row row : selection_->list) bits_of_list_.set(row);
  }
}

RowSet Searcher::allowed(Row limit) const {
  if (selection_->form == Selection::Form::bits) return {selection_->bits.words(), limit};
  if (selection_->form == Selection::Form::list) return {bits_of_list_.words(), limit};
  const bool is_every_row = parts_.field.live_count == parts_.field.map.rows();
  return {is_every_row ? nullptr : parts_.field.live->words(), limit};
}

template <class Asked, class Rankings>
void Searcher::scan(const Asked& asked, Row first, Row last, Rankings&& rankings) const {
  if (selection_->form != Selection::Form::list) {
    scan_range(parts_.vectors, asked, first, last, allowed(last), rankings);
    return;
  }
  const auto begin = std::lower_bound(selection_->list.begin(), selection_->list.end(), first);
  const auto end = std::lower_bound(begin, selection_->list.end(), last);
  if (begin != end) scan_list(parts_.vectors, asked, &*begin, static_cast<std::size_t>(end - begin), rankings);
}

template <class AnyQuery>
void Searcher::scan_together(const std::vector<AnyQuery>& queries, std::vector<Ranking>& rankings) const {
  const Row rows = parts_.field.map.rows();
  const std::vector<TileOf<AnyQuery>> tiles = tiles_of(queries, parts_.vectors.dim());
  const std::size_t in_tiles = std::min(tiles.size() * kTileQueries, queries.size());
  const auto block =
      static_cast<Row>(std::max<std::size_t>(kScanBlockBytes / (parts_.vectors.dim() * sizeof(float)) & ~std::size_t{63}, 64));
  const bool is_one_pass = tiles.size() + (queries.size() - in_tiles) <= 1;
  const Row step = is_one_pass ? std::max<Row>(rows, 1) : block;
  for (Row begin = 0; begin < rows;) {
    const Row end = rows - begin > step ? begin + step : rows;
    for (std::size_t t = 0; t < tiles.size(); ++t) scan(tiles[t], begin, end, &rankings[t * kTileQueries]);
    for (std::size_t i = in_tiles; i < queries.size(); ++i) scan(queries[i], begin, end, rankings[i]);
    begin = end;
  }
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
  if (plan_.strategy == Strategy::tag) {
    return search_links(*parts_.links, parts_.vectors, query, allowed(parts_.field.map.rows()), plan_, *scratch, ranking) &&
           ranking.size() >= std::min<std::uint64_t>(k_, selection_->count);
  }
  const Walk walk = search_graph(*graph.graph, parts_.vectors, query, allowed(graph.indexed), plan_.reach, plan_.effort, *scratch, ranking);
  if (walk.exhausted) return false;
  scan_tail(query, ranking);
  return ranking.size() >= std::min<std::uint64_t>(k_, selection_->count);
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
    if (plan_.strategy == Strategy::empty) {
      out.counts[i] = 0;
    } else if (is_walk(plan_.strategy) && walk(query, ranking)) {
      write(ranking, i, out);
    } else {
      if (uses_codes_) coded.emplace_back(query.values(), dim, metric);
      prepared.push_back(std::move(query));
      rankings.emplace_back(scanned, parts_.vectors, uses_codes_ ? nullptr : &ties_);
      unanswered.push_back(i);
    }
  }
  if (unanswered.empty()) return;
  uses_codes_ ? scan_together(coded, rankings) : scan_together(prepared, rankings);
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
