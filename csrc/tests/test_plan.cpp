// The planner as a function, and the measurements that feed it.

#include <cmath>

#include "calibration.hpp"
#include "check.hpp"
#include "plan.hpp"
#include "samples.hpp"

namespace vecdb::test {
namespace {

Workload workload_of(Row rows, std::uint64_t matching) {
  Workload workload;
  workload.dim = 100;
  workload.rows = workload.indexed = rows;
  workload.total = rows;
  workload.cardinality = matching;
  workload.k = 10;
  workload.needs = {60, 150, rows};
  return workload;
}

}  // namespace

TEST(plan_scans_small_sets_and_walks_for_large_ones) {
  CHECK(choose_plan(workload_of(1000000, 0), kNominalCosts).strategy == Strategy::empty);
  CHECK(choose_plan(workload_of(1000000, 10), kNominalCosts).strategy == Strategy::exact);
  CHECK(choose_plan(workload_of(1000000, 5000), kNominalCosts).strategy == Strategy::exact);
  CHECK(choose_plan(workload_of(1000000, 500000), kNominalCosts).strategy == Strategy::sweep);
  CHECK(choose_plan(workload_of(1000000, 1000000), kNominalCosts).strategy == Strategy::graph);
}

TEST(plan_never_spends_more_than_half_an_exact_scan_on_a_walk) {
  std::mt19937_64 random = seeded("plans", 61);
  int walks = 0;
  for (int i = 0; i < 5000; ++i) {
    Workload workload = workload_of(static_cast<Row>(1 + random() % 3000000), 0);
    workload.dim = static_cast<std::uint32_t>(1 + random() % 1000);
    workload.indexed = static_cast<Row>(random() % (workload.rows + 1ULL));
    workload.total = 1 + random() % workload.rows;
    workload.cardinality = random() % (workload.total + 1);
    workload.k = static_cast<std::uint32_t>(1 + random() % 200);
    workload.ef = random() % 2 == 0 ? 0 : static_cast<std::uint32_t>(random() % 500);
    const Costs costs{{1.0 + static_cast<double>(random() % 20), 0.01}, {1.0 + static_cast<double>(random() % 40), 0.02}};
    const Plan plan = choose_plan(workload, costs);
    if (plan.strategy != Strategy::graph && plan.strategy != Strategy::sweep) continue;
    ++walks;
    CHECK(plan.cost_graph_ns < plan.cost_exact_ns / 2);
    CHECK(plan.ef >= workload.k);
    CHECK(plan.max_distances > 0);
    CHECK(static_cast<double>(plan.max_distances) * costs.gather.of(workload.dim) <= plan.cost_exact_ns / 2);
  }
  CHECK(walks > 100);
}

TEST(plan_scans_when_exact_unmeasured_or_without_a_graph) {
  Workload exact = workload_of(1000000, 1000000);
  exact.accuracy = Accuracy::exact;
  CHECK(choose_plan(exact, kNominalCosts).strategy == Strategy::exact);
  Workload unmeasured = workload_of(1000000, 1000000);
  unmeasured.needs = {};
  CHECK(choose_plan(unmeasured, kNominalCosts).strategy == Strategy::exact);
  unmeasured.ef = 100;
  CHECK(choose_plan(unmeasured, kNominalCosts).strategy == Strategy::graph);
  Workload without = workload_of(1000000, 1000000);
  without.indexed = 0;
  const Plan plan = choose_plan(without, kNominalCosts);
  CHECK(plan.strategy == Strategy::exact);
  CHECK(std::isinf(plan.cost_graph_ns));
}

TEST(default_ef_grows_with_k_and_rows_and_stays_above_k) {
  const BeamNeeds needs{40, 130, 20000};
  std::uint32_t last = 0;
  for (std::uint32_t k = 1; k < 3000; k += 7) {
    const std::uint32_t ef = default_ef(needs, k, 20000);
    CHECK(ef >= last);
    CHECK(ef > k);
    CHECK(default_ef(needs, k, 200000) >= ef);
    last = ef;
  }
  CHECK(default_ef(needs, 10, 20000) >= 40);
  CHECK(default_ef(needs, 100, 20000) >= 130);
}

TEST(measured_needs_tell_easy_data_from_hard) {
  std::mt19937_64 random = seeded("needs", 62);
  constexpr Row kRows = 3000;
  constexpr std::uint32_t kDim = 32;
  const std::atomic<bool> go_on{false};
  const auto needs_of = [&](const std::vector<float>& rows) {
    Vectors vectors(kDim, Metric::l2);
    vectors.append(rows.data(), kRows);
    Graph graph(vectors, {8, 60, 3}, kRows);
    for (Row row = 0; row < kRows; ++row) graph.insert(row, row);
    return *measure_needs(graph, vectors, kRows, go_on);
  };
  std::vector<float> line(kRows * kDim);  // one intrinsic dimension
  for (Row row = 0; row < kRows; ++row) {
    const float place = static_cast<float>(random() % 1000000) * 1e-3F;
    for (std::uint32_t i = 0; i < kDim; ++i) line[row * kDim + i] = place * static_cast<float>(i + 1);
  }
  const BeamNeeds easy = needs_of(line);
  const BeamNeeds hard = needs_of(normal_values(random, kRows * kDim));
  CHECK(easy.ef10 * 3 < hard.ef10);
  CHECK(easy.ef10 <= easy.ef100);
  CHECK(hard.ef10 <= hard.ef100);
  CHECK_EQUAL(kRows, hard.rows);

  Vectors vectors(kDim, Metric::l2);
  vectors.append(line.data(), kRows);
  Graph graph(vectors, {8, 60, 3}, kRows);
  for (Row row = 0; row < 500; ++row) graph.insert(row, row);
  const std::atomic<bool> stop{true};
  CHECK(!measure_needs(graph, vectors, 500, stop).has_value());
}

TEST(measured_costs_are_positive_and_measured_once) {
  const Costs& costs = measured_costs();
  for (const std::uint32_t dim : {1U, 100U, 2000U}) {
    CHECK(costs.stream.of(dim) > 0);
    CHECK(costs.gather.of(dim) > 0);
  }
  CHECK(&costs == &measured_costs());
}

}  // namespace vecdb::test
