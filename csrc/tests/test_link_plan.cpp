// When links of tags are walked, when they would pay, and how often a tag must be asked for.

#include <cmath>

#include "check.hpp"
#include "link_demand.hpp"
#include "link_plan.hpp"

namespace vecdb::test {
namespace {

Workload workload(std::uint64_t cardinality) {
  Workload work;
  work.dim = 100;
  work.rows = 1000000;
  work.indexed = work.nodes = 1000000;
  work.total = 1000000;
  work.cardinality = cardinality;
  work.k = 10;
  work.profile = {1000000, 100, 250, 1700, 3700, 10, 60, 90};
  return work;
}

Plan with_links(const Workload& work, const LinkShape& shape) { return better_plan(choose_plan(work), link_cost(work, shape)); }

}  // namespace

TEST(links_are_walked_where_they_are_cheaper_than_anything_else) {
  for (const std::uint64_t members : {500000U, 100000U, 20000U}) {
    const Workload work = workload(members);
    const Plan without = choose_plan(work);
    const Plan plan = with_links(work, {{members}, 0});
    CHECK(plan.strategy == Strategy::tag);
    CHECK(plan.cost_graph_ns < without.cost_graph_ns);
    CHECK(plan.cost_graph_ns < plan.cost_exact_ns / 2);
    CHECK_EQUAL(without.cost_exact_ns, plan.cost_exact_ns);
    CHECK(plan.reach.ef >= work.k && plan.reach.ef <= without.reach.ef + 200);
    // What the walk may spend is half of an exact scan.
    CHECK(static_cast<double>(plan.effort.give_up) * work.profile.step_ns <= plan.cost_exact_ns / 2);
  }
  CHECK(with_links(workload(100), {{100}, 0}).strategy == Strategy::exact);
}

TEST(what_waits_to_be_linked_makes_links_dearer_until_they_are_not_worth_it) {
  const Workload work = workload(100000);
  const double linked = link_cost(work, {{100000}, 0}).total_ns;
  const LinkCost behind = link_cost(work, {{99000}, 1000});
  CHECK(behind.total_ns > linked);
  CHECK_EQUAL(1000 * 60.0, behind.scan_ns);
  CHECK(with_links(work, {{99000}, 1000}).effort.give_up < with_links(work, {{100000}, 0}).effort.give_up);
  CHECK(with_links(work, {{0}, 100000}).strategy != Strategy::tag);
}

TEST(links_gated_by_more_conditions_cost_more_and_several_sets_the_sum) {
  const double alone = link_cost(workload(100000), {{100000}, 0}).total_ns;
  CHECK(link_cost(workload(50000), {{100000}, 0}).total_ns > 1.2 * alone);
  const double both = link_cost(workload(200000), {{100000, 100000}, 0}).total_ns;
  CHECK(both > 1.9 * alone && both < 2.1 * alone);
  CHECK(is_clear_gain(choose_plan(workload(50000)), link_cost(workload(50000), {{50000}, 0})));
  CHECK(!is_clear_gain(choose_plan(workload(900000)), link_cost(workload(900000), {{900000}, 0})));
}

TEST(a_distance_over_links_costs_more_than_one_over_the_graph) {
  Workload work = workload(1000000);
  const double over_graph = choose_plan(work).cost_graph_ns;
  const double over_links = link_cost(work, {{1000000}, 0}).total_ns;
  CHECK(over_links > 1.2 * over_graph && over_links < 1.6 * over_graph);
  const auto a_distance = [&](std::uint64_t members) { return link_cost(work, {{members}, 0}).step_ns / work.profile.step_ns; };
  CHECK(std::abs(a_distance(1000) - 1) < 1e-6);  // so few stay in the caches
  CHECK(a_distance(4000) > 1.1 && a_distance(4000) < a_distance(10000));
  // What a walk may cost is counted in its own distances.
  work.cardinality = 100000;
  const Plan plan = with_links(work, {{100000}, 0});
  CHECK(plan.strategy == Strategy::tag);
  CHECK(static_cast<double>(plan.effort.give_up) * link_cost(work, {{100000}, 0}).step_ns <= plan.cost_exact_ns / 2);
}

TEST(a_tag_is_wanted_after_eight_searches_and_much_later_when_it_was_declined) {
  LinkDemand demand;
  for (int i = 0; i < 7; ++i) CHECK(!demand.note(1, 1));
  CHECK(demand.note(1, 1));
  CHECK(demand.note(2, 8));
  demand.forget(1);
  CHECK(!demand.note(1, 7));
  demand.decline(1);
  CHECK(!demand.note(1, 1000));
  CHECK(demand.note(1, 100));
}

TEST(what_found_no_room_is_not_wanted_for_a_while_and_sets_in_use_are_not_idle) {
  LinkDemand demand;
  const LinkUse used = demand.first_use(0);
  CHECK(!demand.is_idle(used));
  demand.postpone(1);
  CHECK(!demand.note(1, 100));
  CHECK(demand.note(2, 100));
  demand.tick(1023);
  CHECK(!demand.note(1, 100));
  CHECK(!demand.is_idle(used));
  demand.tick(1);
  CHECK(!demand.note(1, 7));
  CHECK(demand.note(1, 1));
  CHECK(demand.is_idle(used));
  demand.postpone(1);
  demand.resume();
  CHECK(demand.note(1, 8));
}

TEST(what_others_outdo_is_wanted_after_eight_times_as_many_searches) {
  LinkDemand demand;
  CHECK(!demand.note(1, 63, LinkDemand::Merit::some));
  CHECK(demand.note(1, 1, LinkDemand::Merit::some));
}

TEST(shares_of_searches_are_those_of_late_and_use_keeps_a_set_from_being_idle) {
  LinkDemand demand;
  for (int i = 0; i < 100; ++i) {
    demand.tick(4);
    demand.note(1, 1);
  }
  CHECK(std::abs(demand.share(1) - 0.25) < 0.01);
  CHECK_EQUAL(0.0, demand.share(2));
  LinkUse use = demand.first_use(0.25);
  CHECK_EQUAL(0.25, demand.share(use));
  for (int i = 0; i < 10000; ++i) {
    demand.tick(2);
    demand.note_use(use, 1);
  }
  CHECK(std::abs(demand.share(use) - 0.5) < 0.01);
  CHECK(!demand.is_idle(use));
  demand.tick(1024);
  CHECK(demand.is_idle(use));
}

}  // namespace vecdb::test
