// The cost model of walks over links.

#include "link_plan.hpp"

#include <algorithm>
#include <cmath>

namespace vecdb {

namespace {

// Under a filter the walk has to pass over what does not match, as in a sweep over the base graph.
constexpr double kGateExponent = -0.83;
// A smaller graph needs a narrower beam, by this power of its size: 0.42 on tags of 10 and 20 % of glove100; less is on the safe side.
constexpr double kBeamExponent = 0.38;
// What a walk may cost, and from where on it is tried, in exact scans: where all nodes match, walks differ less than over the base graph.
constexpr double kBudget = 1.0 / 2;
constexpr double kWorthTrying = 0.4;
constexpr double kClearGain = 1.0 / 2;
// Distances grow with about this power of the beam where a bound ends most walks; and a beam stays above k by a share.
constexpr double kDistancesExponent = 0.5;
constexpr double kOverK = 1.25;

}  // namespace

LinkCost link_cost(const Workload& workload, const LinkShape& shape) {
  const GraphProfile profile = workload.profile.is_known() ? workload.profile : nominal_profile(workload.dim);
  double members = 0;
  double largest = 2;
  for (const std::uint64_t count : shape.members) {
    members += static_cast<double>(count);
    largest = std::max(largest, static_cast<double>(count));
  }
  LinkCost cost;
  cost.step_ns = profile.step_ns;
  const double size = std::max<double>(profile.rows, largest);
  const Prospect whole =
      workload.ef != 0 ? beam_prospect(profile, std::max(workload.ef, workload.k)) : default_prospect(profile, workload.k, profile.rows);
  cost.reach = whole.reach;
  double distances = whole.distances;
  if (workload.ef == 0) {
    const double narrower = std::pow(largest / size, kBeamExponent);
    cost.reach.ef = static_cast<std::uint32_t>(std::max(whole.reach.ef * narrower, std::ceil(kOverK * workload.k)));
    distances *= std::pow(static_cast<double>(cost.reach.ef) / whole.reach.ef, kDistancesExponent);
  }
  const double share = std::clamp(static_cast<double>(workload.cardinality) / std::max(members, 1.0), 1e-9, 1.0);
  for (const std::uint64_t count : shape.members) {
    const auto c = static_cast<double>(std::max<std::uint64_t>(count, 2));
    const double walk = distances * std::log(c) / std::log(std::max(size, c)) * std::pow(share, kGateExponent);
    cost.total_ns += std::min(walk, c) * profile.step_ns;
  }
  cost.scan_ns = static_cast<double>(shape.pending) * profile.gather_ns;
  cost.total_ns += cost.scan_ns;
  return cost;
}

Plan better_plan(const Plan& without, const LinkCost& cost) {
  const double best = without.strategy == Strategy::exact ? without.cost_exact_ns * kWorthTrying
                                                          : std::min(without.cost_graph_ns, without.cost_exact_ns * kWorthTrying);
  if (without.strategy == Strategy::empty || cost.total_ns >= best) return without;
  Plan plan = without;
  plan.strategy = Strategy::tag;
  plan.reach = cost.reach;
  plan.cost_graph_ns = cost.total_ns;
  plan.max_distances = static_cast<std::uint64_t>((without.cost_exact_ns * kBudget - cost.scan_ns) / cost.step_ns);
  return plan;
}

bool is_clear_gain(const Plan& without, const LinkCost& cost) {
  const double best = without.strategy == Strategy::exact ? without.cost_exact_ns : std::min(without.cost_exact_ns, without.cost_graph_ns);
  return better_plan(without, cost).strategy == Strategy::tag && cost.total_ns < best * kClearGain;
}

}  // namespace vecdb
