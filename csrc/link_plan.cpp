// The cost model of walks over links.

#include "link_plan.hpp"

#include <algorithm>
#include <cmath>

#include "link_measure.hpp"

namespace vecdb {

namespace {

// What a walk may cost, and from where on it is tried, in exact scans: where all nodes match, walks differ less than over the base graph.
constexpr double kTurnsBack = 1.0 / 2;
constexpr double kMost = 1.4;
constexpr double kWorthTrying = 0.85;
constexpr double kClearGain = 0.7;
// A distance of a walk over links costs so many of one over the graph, since the links of several sets take turns in the caches, but where
// they are so few that they stay. Measured with sets of 10,000 and 40,000 members: 1.1 where one was searched, 1.3 to 1.5 of eight.
constexpr double kInTurn = 1.4;
constexpr double kStay = 2000;
constexpr double kTakeTurns = 8000;

double turn_factor(double members) {
  return 1 + (kInTurn - 1) * std::clamp(std::log(members / kStay) / std::log(kTakeTurns / kStay), 0.0, 1.0);
}

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
  cost.sets = shape.members.size();
  cost.enough = static_cast<std::size_t>(std::min<std::uint64_t>(workload.k, workload.cardinality));
  cost.step_ns = turn_factor(largest) * profile.step_ns;
  const auto prospect = [&](double nodes) {
    if (workload.ef == 0) return default_prospect(profile, workload.k, static_cast<Row>(std::min<double>(nodes, profile.nodes)));
    Prospect beam = beam_prospect(profile, std::max(workload.ef, workload.k));
    beam.distances.distances *= std::min(1.0, std::log(nodes) / std::log(std::max<double>(profile.nodes, 3)));
    return beam;
  };
  const double share = std::clamp(static_cast<double>(workload.cardinality) / std::max(members, 1.0), 1e-9, 1.0);
  // A beam that was asked for is taken as it is.
  const auto breadth_of = [&](std::size_t set) {
    return workload.ef != 0 || set >= shape.breadths.size() ? LinkBreadth() : shape.breadths[set];
  };
  float broadest = shape.breadths.size() < shape.members.size() ? 1 : 0;
  for (std::size_t set = 0; set < shape.members.size(); ++set) broadest = std::max(broadest, breadth_of(set).reach);
  cost.reach = broadened(prospect(largest).reach, broadest);
  cost.reach.least_share = static_cast<float>(share);
  for (std::size_t set = 0; set < shape.members.size(); ++set) {
    const auto c = static_cast<double>(std::max<std::uint64_t>(shape.members[set], 2));
    const double walk = prospect(c).distances.at(share) * static_cast<double>(breadth_of(set).distances);
    cost.total_ns += std::min(walk, c) * turn_factor(c) * profile.step_ns;
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
  const auto distances_for = [&](double scans) {
    return static_cast<std::uint64_t>(std::max(0.0, without.cost_exact_ns * scans - cost.scan_ns) / cost.step_ns);
  };
  plan.effort = Effort(distances_for(kTurnsBack));
  if (cost.sets == 1) {  // of several, what one finds need not be enough
    plan.effort.most = distances_for(kMost);
    plan.effort.enough = cost.enough;
  }
  return plan;
}

bool is_clear_gain(const Plan& without, const LinkCost& cost) {
  const double best = without.strategy == Strategy::exact ? without.cost_exact_ns : std::min(without.cost_exact_ns, without.cost_graph_ns);
  return better_plan(without, cost).strategy == Strategy::tag && cost.total_ns < best * kClearGain;
}

}  // namespace vecdb
