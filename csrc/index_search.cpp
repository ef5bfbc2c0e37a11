// The reading half of Index: snapshot, plan, search, count, select.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <shared_mutex>
#include <string>
#include <utility>

#include "error.hpp"
#include "index.hpp"
#include "workers.hpp"

namespace vecdb {

namespace {

// Queries that one thread takes at a time: enough to share scanned blocks, few enough to balance threads.
constexpr std::uint64_t kGroup = 32;

vecdb_plan to_c(const Plan& plan, std::uint64_t version, const Field::Snapshot& field, std::uint64_t cardinality) {
  const bool walks = plan.strategy == Strategy::graph || plan.strategy == Strategy::sweep;
  const std::uint64_t tail = field.map.rows() - field.graph.indexed;
  return {version,       cardinality,        field.live_count,  walks ? tail : 0, static_cast<std::uint32_t>(plan.strategy),
          plan.reach.ef, plan.cost_exact_ns, plan.cost_graph_ns};
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
Selection Index::select_live(const Program& program) const { return evaluate(program, {tags_, &columns_, live_.value(), live_count_}); }

Index::Target Index::take_target(const vecdb_search& search, const Field& field) {
  const Program program(search.program, search.program_size, Operands::all);
  Target target;
  Selection offsets;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    check_whole();
    offsets = select_live(program);
    target.field = field.snapshot();
    target.version = version_;
  }
  target.rows = rows_of(std::move(offsets), target.field);
  Workload workload;
  workload.dim = field.vectors().dim();
  workload.rows = target.field.map.rows();
  workload.indexed = target.field.graph.indexed;
  workload.total = target.field.live_count;
  workload.cardinality = target.rows.count;
  workload.k = search.k;
  workload.ef = search.ef;
  workload.profile = target.field.graph.profile;
  workload.accuracy = search.exact != 0 ? Accuracy::exact : Accuracy::approximate;
  target.plan = choose_plan(workload);
  return target;
}

vecdb_plan Index::plan(const vecdb_search& search) {
  const Field& searched = field(search.field);
  const Target target = take_target(search, searched);
  return to_c(target.plan, target.version, target.field, target.rows.count);
}

vecdb_plan Index::search(const vecdb_search& search, const SearchOutput& out) {
  const Field& searched = field(search.field);
  check_search(search, searched);
  Target target = take_target(search, searched);
  const vecdb_plan plan = to_c(target.plan, target.version, target.field, target.rows.count);
  const Searcher searcher({searched.vectors(), ids_, target.field, scratches_}, std::move(target.rows), target.plan, search.k,
                          search.exact != 0 ? Accuracy::exact : Accuracy::approximate);
  const std::uint64_t threads = std::max<std::uint32_t>(search.threads, 1);
  const std::uint64_t group = std::clamp<std::uint64_t>(search.query_count / threads, 1, kGroup);
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
  return {version_, select_live(program).count, {}};
}

Index::Found Index::select(const Program& program) {
  Found found;
  Selection selection;
  CopyOnWrite<Bitset>::Lease live;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    check_whole();
    selection = select_live(program);
    live = live_.lease();
    found.version = version_;
  }
  found.count = selection.count;
  if (selection.form == Selection::Form::list) {
    found.offsets = std::move(selection.list);
  } else {
    found.offsets.reserve(selection.count);
    const Bitset& bits = selection.form == Selection::Form::all ? *live : selection.bits;
    bits.for_each([&](Offset offset) { found.offsets.push_back(offset); });
  }
  return found;
}

}  // namespace vecdb
