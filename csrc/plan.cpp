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

// A walk computes about this many distances for each hit it keeps, and this many more on its way down.
constexpr double kDistancesPerHit = 14.0;
constexpr double kDescent = 200.0;
// Beside the row that it gathers, a step pays for heaps, visited bits and its share of a link list.
constexpr double kStepNs = 35.0;
// Under a filter the walk has to pass over what does not match: distances grow by (share that matches) to this power.
// `reference`: fits of published sweeps give -0.83.
constexpr double kSweepExponent = -0.83;

double exact_cost(const Workload& workload, const Costs& costs) {
  const double matching = static_cast<double>(workload.cardinality);
  const double share = matching / std::max(1.0, static_cast<double>(workload.rows));
  // The sparser the matches, the fewer of them follow one another in memory.
  return matching * (share * costs.stream.of(workload.dim) + (1 - share) * costs.gather.of(workload.dim));
}

}  // namespace

std::uint32_t default_ef(std::uint32_t k, std::uint64_t rows) {
  const double size = std::log2(std::max<double>(2.0, static_cast<double>(rows)) / 1000.0);
  const double base = 64.0 + 20.0 * std::max(0.0, size);
  return static_cast<std::uint32_t>(std::max<double>(base + 2.0 * k, k));
}

Plan choose_plan(const Workload& workload, const Costs& costs) {
  Plan plan;
  plan.cost_graph_ns = std::numeric_limits<double>::infinity();
  if (workload.cardinality == 0) return plan;
  plan.strategy = Strategy::exact;
  plan.cost_exact_ns = exact_cost(workload, costs);
  if (workload.accuracy == Accuracy::exact || workload.indexed == 0 || workload.cardinality <= workload.k) return plan;

  const double share = static_cast<double>(workload.cardinality) / static_cast<double>(workload.rows);
  const std::uint32_t ef = workload.ef != 0 ? std::max(workload.ef, workload.k) : default_ef(workload.k, workload.indexed);
  const double step = costs.gather.of(workload.dim) + kStepNs;
  const double tail = share * static_cast<double>(workload.rows - workload.indexed) * costs.stream.of(workload.dim);
  const double distances =
      std::min<double>(workload.indexed, (kDescent + kDistancesPerHit * ef) * std::pow(share, kSweepExponent));
  plan.cost_graph_ns = distances * step + tail;
  const double budget = plan.cost_exact_ns / 2;
  if (plan.cost_graph_ns >= budget) return plan;
  plan.strategy = workload.cardinality == workload.total ? Strategy::graph : Strategy::sweep;
  plan.ef = ef;
  plan.max_distances = static_cast<std::uint64_t>((budget - tail) / step);
  return plan;
}

}  // namespace vecdb
