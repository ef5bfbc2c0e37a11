// The cost model.

#include "plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vecdb {

namespace {

// Under a filter the walk has to pass over what does not match: distances grow by (share that matches) to this power; published sweeps
// give -0.83.
constexpr double kSweepExponent = -0.83;
// How much of a scan still streams when a share of the rows is left out: at a half nearly nothing does.
constexpr double kStreamExponent = 4.0;

// What a walk may cost, and from where on it is tried, in exact scans: the cost of walks differs from query to query, and one that gives up
// was for nothing.
constexpr double kBudget = 1.0 / 2;
constexpr double kWorthTrying = 1.0 / 3;

// What a scan pays for a row that matches, where this share of the rows does.
double scanned_row_ns(double share, const GraphProfile& profile) {
  const double streamed = std::pow(share, kStreamExponent);
  return streamed * profile.stream_ns + (1 - streamed) * profile.gather_ns;
}

}  // namespace

Plan choose_plan(const Workload& workload) {
  Plan plan;
  plan.cost_graph_ns = std::numeric_limits<double>::infinity();
  if (workload.cardinality == 0) return plan;
  const GraphProfile profile = workload.profile.is_known() ? workload.profile : nominal_profile(workload.dim);
  const double share = static_cast<double>(workload.cardinality) / static_cast<double>(workload.rows);
  const double row_ns = scanned_row_ns(share, profile);
  plan.strategy = Strategy::exact;
  plan.cost_exact_ns = static_cast<double>(workload.cardinality) * row_ns;
  if (!workload.has_choice()) return plan;

  const Prospect prospect = workload.ef != 0 ? beam_prospect(profile, std::max(workload.ef, workload.k))
                                             : default_prospect(profile, workload.k, workload.indexed);
  const double tail = share * static_cast<double>(workload.rows - workload.indexed) * row_ns;
  const double distances = std::min<double>(workload.indexed, prospect.distances * std::pow(share, kSweepExponent));
  plan.cost_graph_ns = distances * profile.step_ns + tail;
  if (plan.cost_graph_ns >= plan.cost_exact_ns * kWorthTrying) return plan;
  plan.strategy = workload.cardinality == workload.total ? Strategy::graph : Strategy::sweep;
  plan.reach = prospect.reach;
  plan.max_distances = static_cast<std::uint64_t>((plan.cost_exact_ns * kBudget - tail) / profile.step_ns);
  return plan;
}

}  // namespace vecdb
