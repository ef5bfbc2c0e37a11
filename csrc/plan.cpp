// The cost model.

#include "plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vecdb {

namespace {

// How much of a scan still streams when a share of the rows is left out: at a half nearly nothing does.
constexpr double kStreamExponent = 4.0;

// What a walk may cost before it turns back, and when it has found enough, in exact scans.
constexpr double kTurnsBack = 1.0 / 2;
constexpr double kMost = 1.4;
// A walk is chosen when it is to be expected to cost this share of an exact scan; a scan is the surer way.
constexpr double kWorthTrying = 0.85;
// A walk that may turn out so cheap, since the filter may lie where the query does, is begun where its beginning costs little.
constexpr double kMayPay = 0.6;
constexpr double kBeginning = 300;  // distances until a walk knows
constexpr double kLittle = 0.08;    // of an exact scan
// What is spent, in exact scans, before the share of rows that match is trusted.
constexpr double kFirstLook = 0.05;

// What a scan for one query pays for a row that matches, where this share of the rows does.
double scanned_row_ns(double share, const GraphProfile& profile) {
  const double streamed = std::pow(share, kStreamExponent);
  return streamed * profile.stream_ns + (1 - streamed) * profile.gather_ns;
}

// The same for each of several queries: a tile that is not full costs what a full one does.
double shared_row_ns(double share, std::uint64_t queries, const GraphProfile& profile) {
  const double alone = scanned_row_ns(share, profile);
  if (queries < kWorthTile) return alone;
  const double streamed = std::pow(share, kStreamExponent);
  const double in_tile = streamed * profile.tile_stream_ns + (1 - streamed) * profile.tile_gather_ns;
  const std::uint64_t full = queries / kTileQueries;
  const std::uint64_t rest = queries % kTileQueries;
  const double of_rest = rest < kWorthTile ? static_cast<double>(rest) * alone : kTileQueries * in_tile;
  return std::min(alone, (static_cast<double>(full * kTileQueries) * in_tile + of_rest) / static_cast<double>(queries));
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
  plan.cost_exact_ns = static_cast<double>(workload.cardinality) * shared_row_ns(share, workload.queries, profile);
  if (!workload.has_choice()) return plan;

  const Prospect prospect =
      workload.ef != 0 ? beam_prospect(profile, std::max(workload.ef, workload.k)) : default_prospect(profile, workload.k, workload.nodes);
  const auto waiting = static_cast<double>(workload.rows - workload.indexed);
  const double tail = share * waiting * row_ns;
  const auto cost_at = [&](double p) { return std::min<double>(workload.nodes, prospect.distances.at(p)) * profile.step_ns + tail; };
  // Dead rows stay where they are, but most of them have left the graph.
  const double share_of_nodes = std::clamp(static_cast<double>(workload.cardinality) / (workload.nodes + waiting), share, 1.0);
  plan.cost_graph_ns = cost_at(share_of_nodes);
  const bool has_filter = workload.cardinality != workload.total;
  const bool may_pay =
      has_filter && kBeginning * profile.step_ns < kLittle * plan.cost_exact_ns && cost_at(1) < kMayPay * plan.cost_exact_ns;
  if (plan.cost_graph_ns >= plan.cost_exact_ns * kWorthTrying && !may_pay) return plan;
  const auto distances_for = [&](double scans) {
    return static_cast<std::uint64_t>(std::max(0.0, plan.cost_exact_ns * scans - tail) / profile.step_ns);
  };
  plan.effort = Effort(distances_for(kTurnsBack));
  if (plan.effort.give_up == 0) return plan;
  plan.strategy = has_filter ? Strategy::sweep : Strategy::graph;
  plan.reach = prospect.reach;
  plan.reach.least_share = static_cast<float>(share_of_nodes);
  plan.effort.most = distances_for(kMost);
  plan.effort.enough = static_cast<std::size_t>(std::min<std::uint64_t>(workload.k, workload.cardinality));
  plan.effort.expectation = prospect.distances;
  plan.effort.expectation.floor = share_of_nodes;
  plan.effort.first_look = std::max(Effort::kFewestSeen, distances_for(kFirstLook));
  plan.effort.worth = (plan.cost_exact_ns - tail) / profile.step_ns;
  return plan;
}

}  // namespace vecdb
