// The planner as a function, and the measurements that feed it.

#include <cmath>
#include <limits>

#include "calibration.hpp"
#include "check.hpp"
#include "plan.hpp"
#include "samples.hpp"

namespace vecdb::test {
namespace {

GraphProfile some_profile(Row rows) {
  GraphProfile profile{rows, 60, 150, 1100, 2300, 15, 60, 90};
  profile.factor10 = 1.15F;
  profile.factor100 = 1.07F;
  profile.bounded10 = 900;
  profile.bounded100 = 2100;
  profile.tile_stream_ns = 4;
  profile.tile_gather_ns = 10;
  return profile;
}

Workload workload_of(Row rows, std::uint64_t matching) {
  Workload workload;
  workload.dim = 100;
  workload.rows = workload.indexed = workload.nodes = rows;
  workload.total = rows;
  workload.cardinality = matching;
  workload.k = 10;
  workload.profile = some_profile(rows);
  return workload;
}

}  // namespace

TEST(plan_scans_small_sets_and_walks_for_large_ones) {
  CHECK(choose_plan(workload_of(1000000, 0)).strategy == Strategy::empty);
  CHECK(choose_plan(workload_of(1000000, 10)).strategy == Strategy::exact);
  CHECK(choose_plan(workload_of(1000000, 5000)).strategy == Strategy::exact);
  CHECK(choose_plan(workload_of(1000000, 500000)).strategy == Strategy::sweep);
  CHECK(choose_plan(workload_of(1000000, 1000000)).strategy == Strategy::graph);
}

TEST(dead_rows_that_have_left_the_graph_change_no_walk) {
  const Plan fresh = choose_plan(workload_of(50000, 50000));
  Workload churned = workload_of(150000, 50000);
  churned.total = churned.nodes = 50000;
  churned.profile = some_profile(50000);
  const Plan after = choose_plan(churned);
  CHECK(after.strategy == Strategy::graph);
  CHECK_EQUAL(fresh.cost_graph_ns, after.cost_graph_ns);
  CHECK_EQUAL(fresh.reach.ef, after.reach.ef);
  CHECK_EQUAL(fresh.reach.least_share, after.reach.least_share);
  CHECK(after.cost_exact_ns > fresh.cost_exact_ns);  // a scan passes over them
  churned.nodes = 0;
  CHECK(choose_plan(churned).strategy == Strategy::exact);
}

TEST(queries_that_share_a_scan_are_scanned_for_where_one_would_walk) {
  Workload workload = workload_of(1000000, 5000);
  const Plan alone = choose_plan(workload);
  workload.queries = 2;  // not worth a tile
  CHECK_EQUAL(alone.cost_exact_ns, choose_plan(workload).cost_exact_ns);
  workload.queries = 8;
  CHECK(std::abs(choose_plan(workload).cost_exact_ns - alone.cost_exact_ns / 6) < 1e-6 * alone.cost_exact_ns);
  workload.queries = 4;
  CHECK(std::abs(choose_plan(workload).cost_exact_ns - alone.cost_exact_ns / 3) < 1e-6 * alone.cost_exact_ns);
  std::uint64_t only_shared = 0;
  for (std::uint64_t matching = 100; matching < 1000000; matching += matching / 4) {
    workload = workload_of(1000000, matching);
    const Plan one = choose_plan(workload);
    workload.queries = 32;
    const Plan many = choose_plan(workload);
    CHECK(many.cost_exact_ns < one.cost_exact_ns);
    CHECK_EQUAL(one.cost_graph_ns, many.cost_graph_ns);
    if (one.strategy == Strategy::exact) CHECK(many.strategy == Strategy::exact);
    if (one.strategy != Strategy::exact && many.strategy == Strategy::exact) ++only_shared;
  }
  CHECK(only_shared > 0);
}

TEST(a_walk_turns_back_at_half_an_exact_scan_and_ends_by_one_and_a_half) {
  std::mt19937_64 random = seeded("plans", 61);
  int walks = 0;
  for (int i = 0; i < 5000; ++i) {
    Workload workload = workload_of(static_cast<Row>(1 + random() % 3000000), 0);
    workload.dim = static_cast<std::uint32_t>(1 + random() % 1000);
    workload.indexed = static_cast<Row>(random() % (workload.rows + 1ULL));
    workload.nodes = static_cast<Node>(random() % (workload.indexed + 1ULL));
    workload.total = 1 + random() % workload.rows;
    workload.cardinality = random() % (workload.total + 1);
    workload.k = static_cast<std::uint32_t>(1 + random() % 200);
    workload.ef = random() % 2 == 0 ? 0 : static_cast<std::uint32_t>(random() % 500);
    const auto ns = [&](std::uint64_t most) { return 1.0F + static_cast<float>(random() % most); };
    workload.profile = some_profile(1 + static_cast<Row>(random() % workload.rows));
    workload.profile.stream_ns = ns(20);
    workload.profile.gather_ns = ns(60);
    workload.profile.step_ns = ns(100);
    workload.profile.tile_stream_ns = ns(20);
    workload.profile.tile_gather_ns = ns(60);
    workload.queries = 1 + random() % 40;
    const Plan plan = choose_plan(workload);
    if (plan.strategy != Strategy::graph && plan.strategy != Strategy::sweep) continue;
    ++walks;
    CHECK(plan.reach.ef >= workload.k);
    CHECK(plan.effort.give_up > 0);
    const double tail_share = static_cast<double>(workload.rows - workload.indexed) / workload.rows;
    const auto scans = [&](std::uint64_t distances) {
      return static_cast<double>(distances) * static_cast<double>(workload.profile.step_ns) / plan.cost_exact_ns + tail_share;
    };
    CHECK(scans(plan.effort.give_up) < 0.51);
    CHECK(scans(plan.effort.most) < 1.41);
    CHECK_EQUAL(std::min<std::uint64_t>(workload.k, workload.cardinality), plan.effort.enough);
    // Nothing that only a filter could make cheaper is begun without one.
    if (workload.cardinality == workload.total) CHECK(plan.cost_graph_ns < plan.cost_exact_ns);
  }
  CHECK(walks > 100);
}

TEST(a_walk_turns_back_where_fewer_rows_match_than_elsewhere_in_proportion) {
  const Plan plan = choose_plan(workload_of(200000, 40000));
  CHECK(plan.strategy == Strategy::sweep);
  const Expectation& expectation = plan.effort.expectation;
  CHECK(std::abs(expectation.at(0.02) - 10 * expectation.at(0.2)) < 1e-6 * expectation.at(0.02));
  CHECK(expectation.at(0.4) > 0.5 * expectation.at(0.2));
  // It looks the later the more a scan costs.
  CHECK_EQUAL(Effort::kFewestSeen, choose_plan(workload_of(20000, 4000)).effort.first_look);
  CHECK(plan.effort.first_look > Effort::kFewestSeen && plan.effort.first_look < plan.effort.give_up);
}

TEST(plan_walks_although_a_tail_must_be_scanned) {
  Workload workload = workload_of(1000000, 1000000);
  workload.indexed = 900000;
  const Plan plan = choose_plan(workload);
  CHECK(plan.strategy == Strategy::graph);
  CHECK(plan.cost_graph_ns > 100000 * workload.profile.stream_ns);
  workload.indexed = 400000;
  CHECK(choose_plan(workload).strategy == Strategy::exact);
}

TEST(plan_scans_when_exact_unmeasured_or_without_a_graph) {
  Workload exact = workload_of(1000000, 1000000);
  exact.accuracy = Accuracy::exact;
  CHECK(choose_plan(exact).strategy == Strategy::exact);
  Workload unmeasured = workload_of(1000000, 1000000);
  unmeasured.profile = {};
  CHECK(choose_plan(unmeasured).strategy == Strategy::exact);
  unmeasured.ef = 100;
  CHECK(choose_plan(unmeasured).strategy == Strategy::graph);
  Workload without = workload_of(1000000, 1000000);
  without.indexed = without.nodes = 0;
  const Plan plan = choose_plan(without);
  CHECK(plan.strategy == Strategy::exact);
  CHECK(std::isinf(plan.cost_graph_ns));
}

TEST(a_default_reach_grows_with_k_and_rows_and_stays_above_k) {
  GraphProfile bounded = some_profile(20000);
  GraphProfile plain = bounded;
  plain.factor10 = plain.factor100 = Reach::kNoFactor;
  plain.bounded10 = plain.distances10;
  plain.bounded100 = plain.distances100;
  for (const GraphProfile& profile : {bounded, plain}) {
    std::uint32_t last = 0;
    double last_distances = 0;
    for (std::uint32_t k = 1; k < 3000; k += 7) {
      const Prospect prospect = default_prospect(profile, k, 20000);
      CHECK(prospect.reach.ef >= last);
      CHECK(prospect.reach.ef > k);
      CHECK(prospect.distances.at(1) >= last_distances);
      const Prospect later = default_prospect(profile, k, 50000);
      CHECK(later.reach.ef >= prospect.reach.ef);
      CHECK(later.distances.at(1) > prospect.distances.at(1));
      last = prospect.reach.ef;
      last_distances = prospect.distances.at(1);
    }
  }
  CHECK_EQUAL(60U, default_prospect(plain, 10, 20000).reach.ef);
  CHECK_EQUAL(161U, default_prospect(plain, 100, 20000).reach.ef);  // 150, and what queries need more than rows
  CHECK_EQUAL(1100.0, default_prospect(plain, 10, 20000).distances.at(1));
  CHECK_EQUAL(Reach::kNoFactor, default_prospect(plain, 10, 20000).reach.factor);
  CHECK_EQUAL(120U, default_prospect(bounded, 1, 20000).reach.ef);
  CHECK_EQUAL(1.15F, default_prospect(bounded, 10, 20000).reach.factor);
  CHECK(std::abs(default_prospect(bounded, 500, 20000).reach.factor - 1.0749F) < 1e-5F);
  CHECK_EQUAL(900.0, default_prospect(bounded, 10, 20000).distances.at(1));
  const float amid = default_prospect(bounded, 30, 20000).reach.factor;
  CHECK(amid > 1.0749F && amid < 1.15F);
}

TEST(a_graph_that_has_outgrown_what_was_measured_is_walked_by_a_beam_alone) {
  const GraphProfile profile = some_profile(20000);
  CHECK_EQUAL(1.15F, default_prospect(profile, 10, 60000).reach.factor);
  const Prospect outgrown = default_prospect(profile, 10, 60001);
  CHECK_EQUAL(Reach::kNoFactor, outgrown.reach.factor);
  CHECK(outgrown.reach.ef > profile.ef10);
  CHECK(outgrown.distances.at(1) > static_cast<double>(profile.distances10));
}

TEST(a_bound_that_only_k_10_has_is_not_used_for_more) {
  GraphProfile profile = some_profile(20000);
  profile.factor100 = Reach::kNoFactor;
  CHECK_EQUAL(1.15F, default_prospect(profile, 10, 20000).reach.factor);
  CHECK_EQUAL(Reach::kNoFactor, default_prospect(profile, 11, 20000).reach.factor);
  CHECK_EQUAL(161U, default_prospect(profile, 100, 20000).reach.ef);
}

TEST(a_given_ef_is_a_plain_beam) {
  const GraphProfile profile = some_profile(20000);
  CHECK_EQUAL(77U, beam_prospect(profile, 77).reach.ef);
  CHECK_EQUAL(Reach::kNoFactor, beam_prospect(profile, 77).reach.factor);
  CHECK_EQUAL(1100.0, beam_prospect(profile, 60).distances.at(1));
  CHECK(std::abs(beam_prospect(profile, 150).distances.at(1) - 2300) < 1);
  CHECK(beam_prospect(profile, 300).distances.at(1) > 2300);
}

TEST(a_profile_is_measured_where_no_path_leads_to_half_of_a_graph) {
  std::mt19937_64 random = seeded("two parts", 63);
  constexpr Row kRows = 4000;
  constexpr Node kPart = 300;
  constexpr std::uint32_t kDim = 8;
  Vectors vectors(kDim, Metric::l2);
  const std::vector<float> values = normal_values(random, std::size_t{kRows} * kDim);
  vectors.append(values.data(), kRows);
  Graph graph(vectors, {8, 60, 3}, kRows);
  for (Node node = 0; node < 2 * kPart; ++node) graph.restore_node(node, node, 0);
  for (Node node = 0; node < 2 * kPart; ++node) {
    const Node first = node - node % kPart;
    std::vector<Node> links;
    for (Node step = 1; step <= 8; ++step) links.push_back(first + (node - first + step * step) % kPart);
    graph.restore_links(node, 0, links.data(), static_cast<std::uint32_t>(links.size()));
  }
  graph.restore_entry({0, 0});
  const std::atomic<bool> go_on{false};
  const std::optional<GraphProfile> profile = measure_profile(graph, vectors, kRows, go_on);
  CHECK(profile.has_value() && is_plausible(*profile));
  // No beam reaches the goal, and none is wider than there are rows.
  CHECK(profile->ef10 < 2 * kRows);
}

TEST(a_measured_profile_tells_easy_data_from_hard) {
  std::mt19937_64 random = seeded("profiles", 62);
  constexpr Row kRows = 3000;
  constexpr std::uint32_t kDim = 32;
  const std::atomic<bool> go_on{false};
  const auto profile_of = [&](const std::vector<float>& rows) {
    Vectors vectors(kDim, Metric::l2);
    vectors.append(rows.data(), kRows);
    Graph graph(vectors, {8, 60, 3}, kRows);
    for (Row row = 0; row < kRows; ++row) graph.insert(row, row);
    return *measure_profile(graph, vectors, kRows, go_on);
  };
  std::vector<float> line(kRows * kDim);  // one intrinsic dimension
  for (Row row = 0; row < kRows; ++row) {
    const float place = static_cast<float>(random() % 1000000) * 1e-3F;
    for (std::uint32_t i = 0; i < kDim; ++i) line[row * kDim + i] = place * static_cast<float>(i + 1);
  }
  const GraphProfile easy = profile_of(line);
  const GraphProfile hard = profile_of(normal_values(random, kRows * kDim));
  CHECK(easy.distances10 * 3 < hard.distances10);
  CHECK(easy.ef10 <= easy.ef100);
  CHECK(hard.ef10 <= hard.ef100);
  CHECK_EQUAL(kRows, hard.nodes);
  CHECK(is_plausible(easy));
  CHECK(is_plausible(hard));

  Vectors vectors(kDim, Metric::l2);
  vectors.append(line.data(), kRows);
  Graph graph(vectors, {8, 60, 3}, kRows);
  for (Row row = 0; row < 500; ++row) graph.insert(row, row);
  const std::atomic<bool> stop{true};
  CHECK(!measure_profile(graph, vectors, 500, stop).has_value());
}

TEST(a_nominal_profile_is_plausible_and_a_made_up_one_is_not) {
  for (const std::uint32_t dim : {1U, 100U, 65536U}) CHECK(is_plausible(nominal_profile(dim)));
  GraphProfile profile = nominal_profile(8);
  profile.step_ns = std::numeric_limits<float>::quiet_NaN();
  CHECK(!is_plausible(profile));
  profile = nominal_profile(8);
  profile.ef100 = profile.ef10 - 1;
  CHECK(!is_plausible(profile));
  profile = nominal_profile(8);
  profile.factor10 = 0.5F;
  CHECK(!is_plausible(profile));
  profile = nominal_profile(8);
  profile.largest_norm = std::numeric_limits<float>::infinity();
  CHECK(!is_plausible(profile));
}

}  // namespace vecdb::test
