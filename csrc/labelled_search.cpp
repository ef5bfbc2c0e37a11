// Searches of the labelled index: which points match, exactly counted, then an exact scan, a walk over the base graph, or a walk over
// the links of a tag that every match has.

#include <algorithm>
#include <atomic>
#include <shared_mutex>
#include <utility>

#include "labelled.hpp"
#include "workers.hpp"

namespace vecdb {

// The points that a batch of queries may find, and how to look for them. Belongs to one call, which holds the gate.
class LabelledIndex::Matches {
 public:
  // REQUIRES state_mutex_.
  Matches(const LabelledIndex& index, const LabelledQuery& query);

  // REQUIRES gate_, shared.
  std::vector<Candidate> nearest(const float* values) const;

 private:
  using Form = Selection::Form;

  void keep_only(const Bitset& allowed);
  void choose_way();
  void walk_over(std::shared_ptr<const Graph> graph, const Effort& effort);
  Bitset allowed_nodes(const LabelledIndex& index) const;
  Plan plan_for(std::uint64_t rows, std::uint64_t total) const;
  RowSet rows() const;
  void scan(const Query& query, Ranking& ranking) const;

  const LabelledQuery& query_;
  const Vectors& vectors_;
  ScratchPool& scratches_;
  const Node count_;
  const std::uint64_t live_count_;
  const std::uint32_t ef_;
  CopyOnWrite<Bitset>::Lease live_;
  Selection selection_;
  std::shared_ptr<const Graph> base_;
  std::shared_ptr<const TagLinks> links_;  // of a tag that every match has
  std::shared_ptr<const Graph> graph_;     // to be walked; nullptr: exact scan
  Effort effort_{0};
};

LabelledIndex::Matches::Matches(const LabelledIndex& index, const LabelledQuery& query)
    : query_(query),
      vectors_(*index.content_.vectors),
      scratches_(index.scratches_),
      count_(index.content_.count()),
      live_count_(count_ - index.deleted_.size()),
      ef_(std::max({query.ef, query.k, 1U})),
      base_(index.content_.graph) {
  const LabelledContent& content = index.content_;
  selection_ = evaluate(query.program, {content.tags, nullptr, nullptr, content.live.value(), live_count_});
  if (query.allowed != nullptr) keep_only(allowed_nodes(index));
  if (selection_.form == Form::all && live_count_ < count_) live_ = content.live.lease();
  links_ = smallest_cover(content.links, query.program);
  choose_way();
}

Bitset LabelledIndex::Matches::allowed_nodes(const LabelledIndex& index) const {
  Bitset allowed(count_);
  for (std::uint64_t i = 0; i < query_.allowed_count; ++i) {
    const auto found = index.nodes_.find(query_.allowed[i]);
    if (found != index.nodes_.end() && index.is_live(found->second)) allowed.set(found->second);
  }
  return allowed;
}

void LabelledIndex::Matches::keep_only(const Bitset& allowed) {
  switch (selection_.form) {
    case Form::all:
      selection_.form = Form::bits;
      selection_.bits = allowed;
      selection_.count = allowed.count();
      break;
    case Form::bits:
      selection_.bits.and_with(allowed);
      selection_.count = selection_.bits.count();
      break;
    case Form::list: {
      const auto is_refused = [&](Offset row) { return !allowed.contains(row); };
      selection_.list.erase(std::remove_if(selection_.list.begin(), selection_.list.end(), is_refused), selection_.list.end());
      selection_.count = selection_.list.size();
      break;
    }
  }
}

Plan LabelledIndex::Matches::plan_for(std::uint64_t rows, std::uint64_t total) const {
  Workload workload;
  workload.dim = vectors_.dim();
  workload.rows = static_cast<Row>(rows);
  workload.indexed = static_cast<Row>(rows);
  workload.nodes = base_->count();
  workload.total = total;
  workload.cardinality = selection_.count;
  workload.k = query_.k;
  workload.ef = ef_;
  return choose_plan(workload);
}

void LabelledIndex::Matches::walk_over(std::shared_ptr<const Graph> graph, const Effort& effort) {
  graph_ = std::move(graph);
  effort_ = effort;
}

void LabelledIndex::Matches::choose_way() {
  if (query_.accuracy == Accuracy::exact || base_ == nullptr || selection_.count == 0) return;
  if (selection_.form == Form::all && live_count_ == count_) {
    // Nothing is asked but the nearest: what hnswlib would do, so that recall at an ef is the same.
    walk_over(base_, kNoLimit);
    return;
  }
  const Plan base = plan_for(count_, live_count_);
  if (base.strategy == Strategy::graph || base.strategy == Strategy::sweep) walk_over(base_, base.effort);
  if (links_ != nullptr) {
    const std::uint64_t members = std::max<std::uint64_t>(links_->members(), selection_.count);
    const double cost = plan_for(members, members).cost_graph_ns;
    const double budget = base.cost_exact_ns / 2;
    if (cost < std::min(budget, base.cost_graph_ns)) {
      walk_over(links_->graph(), static_cast<std::uint64_t>(budget / nominal_profile(vectors_.dim()).step_ns));
    }
  }
  if (graph_ != nullptr && selection_.form == Form::list) {
    selection_.bits = Bitset(count_);
    for (const Offset row : selection_.list) selection_.bits.set(row);
    selection_.form = Form::bits;
  }
}

RowSet LabelledIndex::Matches::rows() const {
  if (selection_.form == Form::bits) return {selection_.bits.words(), count_};
  return {live_count_ < count_ ? live_->words() : nullptr, count_};
}

void LabelledIndex::Matches::scan(const Query& query, Ranking& ranking) const {
  if (selection_.form == Form::list) {
    scan_list(vectors_, query, selection_.list.data(), selection_.list.size(), ranking);
  } else {
    scan_range(vectors_, query, 0, count_, rows(), ranking);
  }
}

std::vector<Candidate> LabelledIndex::Matches::nearest(const float* values) const {
  const auto k = static_cast<std::uint32_t>(std::min<std::uint64_t>(query_.k, selection_.count));
  if (k == 0) return {};
  const Query query(values, vectors_.dim(), vectors_.metric());
  Ranking ranking(k, vectors_, nullptr);
  if (graph_ != nullptr) {
    const ScratchPool::Lease scratch = scratches_.take();
    const Walk walk = search_graph(*graph_, vectors_, query, rows(), ef_, effort_, *scratch, ranking);
    std::vector<Candidate> found = ranking.take();
    if (!walk.exhausted && found.size() == k) return found;
  }
  scan(query, ranking);
  return ranking.take();
}

void LabelledIndex::search(const LabelledQuery& query, const LabelledHits& hits) const {
  const std::uint32_t dim = content_.options.dim;
  check_finite(query.queries, query.query_count, dim, "query");
  const std::shared_lock<FairSharedMutex> gate(gate_);
  StateLock lock(state_mutex_);
  const Matches matches(*this, query);
  lock.unlock();
  std::atomic<std::uint64_t> next{0};
  run_workers(static_cast<std::uint32_t>(std::min<std::uint64_t>(query.threads, query.query_count)), [&] {
    for (std::uint64_t i = next++; i < query.query_count; i = next++) {
      write_hits(matches.nearest(query.queries + i * dim), i, query.k, hits);
    }
  });
}

void LabelledIndex::write_hits(const std::vector<Candidate>& found, std::uint64_t number, std::uint32_t k, const LabelledHits& hits) const {
  const float offset = content_.options.metric == Metric::dot ? 1.0F : 0.0F;
  const std::lock_guard<std::mutex> lock(state_mutex_);
  for (std::size_t i = 0; i < found.size(); ++i) {
    hits.labels[number * k + i] = content_.labels[found[i].row];
    hits.distances[number * k + i] = found[i].distance + offset;
  }
  hits.counts[number] = static_cast<std::uint32_t>(found.size());
}

}  // namespace vecdb
