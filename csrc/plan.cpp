#include "plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "search.hpp"
#include "vectors.hpp"

namespace vecdb {

namespace {

// How many distances a walk computes: a fit, to within a tenth, over prefixes of 12,000 to 200,000 rows of glove100 at m 16; a quarter high
// for the 384 dimensions of wordnet, a third low for normal noise, where the budget catches it.
constexpr double kFitRows = 12000.0;
constexpr double kDescent = 150.0;
constexpr double kDistances = 28.0;
constexpr double kDistancesPerDoubling = 2.6;
constexpr double kDistancesExponent = 0.85;
// Beside the row that it gathers, a step pays for heaps, visited bits and its share of a link list.
constexpr double kStepNs = 35.0;
// Under a filter the walk has to pass over what does not match: distances grow by (share that matches) to this power; published sweeps
// give -0.83.
constexpr double kSweepExponent = -0.83;

double walk_distances(std::uint32_t ef, std::uint64_t rows, double share) {
  const double doublings = std::log2(std::max(1.0, static_cast<double>(rows) / kFitRows));
  const double per_hit = kDistances + kDistancesPerDoubling * doublings;
  const double distances = kDescent + per_hit * std::pow(ef, kDistancesExponent);
  return std::min(static_cast<double>(rows), distances * std::pow(share, kSweepExponent));
}

double exact_cost(const Workload& workload, const Costs& costs) {
  const double matching = static_cast<double>(workload.cardinality);
  const double share = matching / std::max(1.0, static_cast<double>(workload.rows));
  // The sparser the matches, the fewer of them follow one another in memory.
  return matching * (share * costs.stream.of(workload.dim) + (1 - share) * costs.gather.of(workload.dim));
}

}  // namespace

Plan choose_plan(const Workload& workload, const Costs& costs) {
  Plan plan;
  plan.cost_graph_ns = std::numeric_limits<double>::infinity();
  if (workload.cardinality == 0) return plan;
  plan.strategy = Strategy::exact;
  plan.cost_exact_ns = exact_cost(workload, costs);
  if (!workload.has_choice()) return plan;

  const double share = static_cast<double>(workload.cardinality) / static_cast<double>(workload.rows);
  const std::uint32_t ef = workload.ef != 0 ? std::max(workload.ef, workload.k) : default_ef(workload.needs, workload.k, workload.indexed);
  const double step = costs.gather.of(workload.dim) + kStepNs;
  const double tail = share * static_cast<double>(workload.rows - workload.indexed) * costs.stream.of(workload.dim);
  plan.cost_graph_ns = walk_distances(ef, workload.indexed, share) * step + tail;
  const double budget = plan.cost_exact_ns / 2;
  if (plan.cost_graph_ns >= budget) return plan;
  plan.strategy = workload.cardinality == workload.total ? Strategy::graph : Strategy::sweep;
  plan.ef = ef;
  plan.max_distances = static_cast<std::uint64_t>((budget - tail) / step);
  return plan;
}

}  // namespace vecdb
