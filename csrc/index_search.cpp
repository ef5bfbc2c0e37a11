// The reading half of Index: snapshot, plan, search, count, select.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <shared_mutex>
#include <string>
#include <utility>

#include "error.hpp"
#include "index.hpp"
#include "link_plan.hpp"
#include "workers.hpp"

namespace vecdb {

namespace {

// Queries that one thread takes at a time: enough to share scanned blocks, few enough to balance threads.
constexpr std::uint64_t kGroup = 32;

std::uint64_t group_of(const vecdb_search& search) {
  return std::clamp<std::uint64_t>(search.query_count / std::max<std::uint32_t>(search.threads, 1), 1, kGroup);
}

vecdb_plan to_c(const Plan& plan, std::uint64_t version, const Field::Snapshot& field, const RowSelection& rows, const LinkedRows& links) {
  std::uint64_t tail = 0;
  if (plan.strategy == Strategy::tag) {
    tail = links.pending.size();
  } else if (is_walk(plan.strategy)) {
    tail = field.map.rows() - field.graph.indexed;
  }
  return {version,       rows.count,         field.live_count,  tail, static_cast<std::uint32_t>(plan.strategy),
          plan.reach.ef, plan.cost_exact_ns, plan.cost_graph_ns};
}

LinkShape shape_of(const LinkCover& cover) {
  LinkShape shape;
  for (const LinkedSet::View& set : cover.sets) {
    shape.members.push_back(set.linked);
    shape.breadths.push_back(set.breadth);
    shape.pending += set.pending();
  }
  return shape;
}

LinkShape shape_of(const MissingLinks& missing) {
  LinkShape shape = shape_of(missing.rest);
  for (const MissingLinks::Key& one : missing.keys) shape.members.push_back(one.members);
  return shape;
}

bool may_walk_links(const Workload& workload) {
  const bool is_known = workload.ef != 0 || workload.profile.is_known();
  return is_known && workload.accuracy != Accuracy::exact && workload.cardinality > workload.k;
}

bool matches(const RowSelection& rows, const Field::Snapshot& field, Row row) {
  switch (rows.form) {
    case Selection::Form::list:
      return std::binary_search(rows.list.begin(), rows.list.end(), row);
    case Selection::Form::bits:
      return rows.bits.contains(row);
    case Selection::Form::all:
      return field.live->contains(row);
  }
  return false;
}

std::vector<Row> pending_rows(const LinkCover& cover, const RowSelection& rows, const Field::Snapshot& field) {
  std::vector<Row> pending;
  for (const LinkedSet::View& set : cover.sets) {
    for (Row position = set.linked; position < set.joined; ++position) {
      const Row row = set.row_at(position);
      if (matches(rows, field, row)) pending.push_back(row);
    }
  }
  std::sort(pending.begin(), pending.end());
  pending.erase(std::unique(pending.begin(), pending.end()), pending.end());
  return pending;
}

}  // namespace

void Index::check_search(const vecdb_search& search, const Field& field) const {
  if (search.k == 0) throw Error(Code::invalid_argument, "k is 0, expected at least 1");
  if (search.queries == nullptr && search.query_count != 0) {
    throw Error(Code::invalid_argument, "queries is NULL, expected " + std::to_string(search.query_count) + " rows");
  }
  const std::uint32_t dim = field.vectors().dim();
  for (std::uint64_t i = 0; i < search.query_count; ++i) {
    const float* query = search.queries + i * dim;
    if (!std::all_of(query, query + dim, [](float value) { return std::isfinite(value); })) {
      throw Error(Code::invalid_argument, "query " + std::to_string(i) + " holds a value that is NaN or infinite, expected finite numbers");
    }
  }
}

// REQUIRES the state lock, shared.
Catalogue Index::catalogue() const { return {tags_, &columns_, &points_, live_.value(), live_count_}; }

// Takes the cheapest cover instead of the plan where it is cheaper.
void Index::plan_links(std::vector<LinkCover> covers, Target& target) {
  target.without_links = target.plan;
  if (!may_walk_links(target.workload)) return;
  for (LinkCover& cover : covers) {
    const LinkCost cost = link_cost(target.workload, shape_of(cover));
    if (cost.total_ns >= target.links_ns) continue;
    const Plan plan = better_plan(target.without_links, cost);
    if (plan.strategy != Strategy::tag) continue;
    target.links_ns = cost.total_ns;
    target.plan = plan;
    target.links.cover = std::move(cover);
  }
  if (target.plan.strategy != Strategy::tag) return;
  target.links.pending = pending_rows(target.links.cover, *target.rows, target.field);
  // All that matches is in the set: where they are as many, there is nothing else in it.
  const std::vector<LinkedSet::View>& sets = target.links.cover.sets;
  target.links.is_whole = sets.size() == 1 && sets.front().joined == target.rows->count;
}

Index::Target Index::take_target(const vecdb_search& search, const Field& field) {
  const Program program(search.program, search.program_size, Operands::all);
  Target target;
  Selection offsets;
  std::vector<LinkCover> covers;
  SelectionCache::Epoch epoch = 0;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    check_whole();
    target.field = field.snapshot();
    covers = field.links().covers(program, tags_);
    target.version = version_;
    epoch = selections_.epoch();
    if (!program.is_all()) target.rows = selections_.find(field.number(), program);
    if (target.rows == nullptr) offsets = evaluate(program, catalogue());
  }
  if (target.rows == nullptr) {
    target.rows = std::make_shared<const RowSelection>(rows_of(std::move(offsets), target.field));
    if (!program.is_all()) selections_.put(epoch, field.number(), program, target.rows);
  }
  Workload& workload = target.workload;
  workload.dim = field.vectors().dim();
  workload.rows = target.field.map.rows();
  workload.indexed = target.field.graph.indexed;
  workload.nodes = target.field.graph.graph == nullptr ? 0 : target.field.graph.graph->count();
  workload.total = target.field.live_count;
  workload.cardinality = target.rows->count;
  workload.k = search.k;
  workload.ef = search.ef;
  workload.queries = group_of(search);
  workload.profile = target.field.graph.profile;
  workload.accuracy = search.exact != 0 ? Accuracy::exact : Accuracy::approximate;
  target.plan = choose_plan(workload);
  plan_links(std::move(covers), target);
  return target;
}

// Tells the links what was used of them, and what would have been much cheaper, had it been there.
void Index::note_links(LinkedSets& links, const Target& target, const vecdb_search& search) {
  if (target.plan.strategy == Strategy::tag) links.note_use(target.links.cover, search.query_count);
  if (!may_walk_links(target.workload)) return;
  // Where the links that are there do nearly as well, others would cost memory for little.
  const auto is_gain = [&](const LinkCost& cost, bool is_asked) {
    const Plan& without = target.without_links;
    const bool is_enough = is_asked ? better_plan(without, cost).strategy == Strategy::tag : is_clear_gain(without, cost);
    return is_enough && 2 * cost.total_ns <= target.links_ns;
  };
  // No links are better than those of all that match and nothing else.
  if (!is_gain(link_cost(target.workload, {{target.workload.cardinality}, 0}), true)) return;
  std::vector<MissingLinks> missing;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    missing = links.missing(Program(search.program, search.program_size, Operands::all), attributes_);
  }
  std::vector<std::pair<double, std::size_t>> gains;  // with their places in missing
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const LinkCost cost = link_cost(target.workload, shape_of(missing[i]));
    if (is_gain(cost, missing[i].is_asked)) gains.emplace_back(cost.total_ns, i);
  }
  if (gains.empty()) return;
  std::sort(gains.begin(), gains.end());
  std::vector<MissingLinks> best_first;
  for (const auto& [cost_ns, i] : gains) best_first.push_back(std::move(missing[i]));
  if (links.note_miss(best_first, search.query_count)) indexer_.wake();
}

vecdb_plan Index::plan(const vecdb_search& search) {
  const Field& searched = field(search.field);
  const Target target = take_target(search, searched);
  return to_c(target.plan, target.version, target.field, *target.rows, target.links);
}

vecdb_plan Index::search(const vecdb_search& search, const SearchOutput& out) {
  Field& searched = field(search.field);
  check_search(search, searched);
  indexer_.note_search();
  Target target = take_target(search, searched);
  const vecdb_plan plan = to_c(target.plan, target.version, target.field, *target.rows, target.links);
  note_links(searched.links(), target, search);
  const Searcher searcher({searched.vectors(), ids_, target.field, scratches_, &target.links}, std::move(target.rows), target.plan,
                          search.k, search.exact != 0 ? Accuracy::exact : Accuracy::approximate);
  const std::uint64_t threads = std::max<std::uint32_t>(search.threads, 1);
  const std::uint64_t group = group_of(search);
  std::atomic<std::uint64_t> next{0};
  run_workers(static_cast<std::uint32_t>(std::min(threads, (search.query_count + group - 1) / group)), [&] {
    for (std::uint64_t first = next.fetch_add(group); first < search.query_count; first = next.fetch_add(group)) {
      searcher.run(search.queries, first, std::min(first + group, search.query_count), out);
    }
  });
  return plan;
}

Index::Found Index::count(const Program& program) {
  const std::shared_lock<FairSharedMutex> lock(state_);
  check_whole();
  return {version_, count_matches(program, catalogue()), {}};
}

Index::Found Index::select(const Program& program) {
  Found found;
  Selection selection;
  CopyOnWrite<Bitset>::Lease live;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    check_whole();
    selection = evaluate(program, catalogue());
    live = live_.lease();
    found.version = version_;
  }
  found.count = selection.count;
  if (selection.form == Selection::Form::list) {
    found.offsets = std::move(selection.list);
  } else {
    found.offsets = (selection.form == Selection::Form::all ? *live : selection.bits).positions(selection.count);
  }
  return found;
}

}  // namespace vecdb
