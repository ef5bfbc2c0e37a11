// How far walks over links have to look: rows in a corner need more of it than as many rows that lie all over.

#include <atomic>
#include <cmath>
#include <numeric>

#include "calibration.hpp"
#include "check.hpp"
#include "link_measure.hpp"
#include "link_plan.hpp"
#include "linked_walk.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace vecdb::test {
namespace {

constexpr Row kRows = 12000;
constexpr std::uint32_t kDim = 24;
const std::atomic<bool> kNever{false};

LinkedSet::View linked(const Vectors& vectors, const std::vector<Row>& members) {
  const auto set = std::make_shared<LinkedSet>(vectors, GraphOptions{8, 60, 1});
  set->join(members);
  CHECK(!set->is_unmeasured());
  while (set->advance(kNever) > 0) {
  }
  CHECK(set->is_unmeasured() && set->is_measuring_due());
  CHECK(set->claim_measuring() && !set->claim_measuring());
  CHECK(set->is_unmeasured() && !set->is_measuring_due());
  return LinkedSet::view(set);
}

// Of the ten nearest members of other rows, by walks with such a reach.
double recall_of(const LinkedSet::View& set, const std::vector<Row>& members, const std::vector<float>& rows, const Vectors& vectors,
                 const Reach& reach, std::mt19937_64& random) {
  std::vector<bool> is_member(kRows);
  for (const Row row : members) is_member[row] = true;
  double found = 0;
  constexpr int kQueries = 100;
  Scratch scratch;
  for (int i = 0; i < kQueries; ++i) {
    std::vector<float> query = normal_values(random, kDim);
    const std::size_t row = random() % kRows;
    for (std::uint32_t d = 0; d < kDim; ++d) query[d] = rows[row * kDim + d] + 0.2F * query[d];
    Ranking hits(10, vectors, nullptr);
    search_graph(*set.graph, vectors, Query(query.data(), kDim, Metric::l2), {nullptr, kRows}, reach, Effort(kNoLimit), scratch, hits);
    const std::vector<Row> truth =
        plain_nearest(Metric::l2, query.data(), rows.data(), kRows, kDim, 10, [&](Row one) { return is_member[one]; });
    for (const Candidate& hit : hits.take()) found += std::count(truth.begin(), truth.end(), hit.row) != 0 ? 1 : 0;
  }
  return found / (10 * kQueries);
}

}  // namespace

TEST(the_breadth_of_a_set_gives_queries_from_anywhere_their_recall) {
  std::mt19937_64 random = seeded("breadth", 91);
  const std::vector<float> rows = normal_values(random, std::size_t{kRows} * kDim);
  for (const Coding coding : {Coding::none, Coding::eight_bits}) {
    Vectors vectors(kDim, Metric::l2, coding);
    vectors.append(rows.data(), kRows);
    Graph base(vectors, {8, 60, 3}, kRows);
    for (Row row = 0; row < kRows; ++row) base.insert(row, row);
    const GraphProfile profile = *measure_profile(base, vectors, kRows, kNever);
    // As many members all over the rows, and in a corner of them.
    std::vector<Row> all_over, corner(kRows);
    std::iota(corner.begin(), corner.end(), 0);
    std::sort(corner.begin(), corner.end(), [&](Row a, Row b) { return rows[a * kDim] > rows[b * kDim]; });
    corner.resize(kRows / 8);
    std::sort(corner.begin(), corner.end());
    for (Row row = 3; row < kRows; row += 8) all_over.push_back(row);
    for (const std::vector<Row>& members : {all_over, corner}) {
      const LinkedSet::View set = linked(vectors, members);
      const std::optional<LinkBreadth> breadth = measure_links(set, vectors, kRows, profile, kNever);
      CHECK(breadth.has_value() && breadth->reach >= 0.5F && breadth->reach <= 4.1F && breadth->distances > 0.1F);
      const Reach reach = broadened(default_prospect(profile, 10, set.linked).reach, breadth->reach);
      const double recall = recall_of(set, members, rows, vectors, reach, random);
      if (recall < 0.92) fail(__FILE__, __LINE__, "recall is " + std::to_string(recall));
    }
  }
}

TEST(a_measurement_that_was_stopped_is_due_again_and_one_is_due_when_a_set_has_doubled) {
  std::mt19937_64 random = seeded("measurements", 92);
  const std::vector<float> rows = normal_values(random, std::size_t{400} * kDim);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), 400);
  const auto set = std::make_shared<LinkedSet>(vectors, GraphOptions{8, 60, 1});
  const auto link = [&](Row first, Row last) {
    std::vector<Row> members;
    for (Row row = first; row < last; ++row) members.push_back(row);
    set->join(members);
    while (set->advance(kNever) > 0) {
    }
  };
  link(0, 100);
  const std::atomic<bool> stop{true};
  CHECK(set->claim_measuring());
  const std::optional<LinkBreadth> stopped = measure_links(LinkedSet::view(set), vectors, 400, nominal_profile(kDim), stop);
  CHECK(!stopped.has_value());
  set->settle_breadth(stopped, 100);
  CHECK(set->is_measuring_due());
  CHECK(set->claim_measuring());
  set->settle_breadth(measure_links(LinkedSet::view(set), vectors, 400, nominal_profile(kDim), kNever), 100);
  CHECK(!set->is_unmeasured());
  link(100, 199);
  CHECK(!set->is_unmeasured());
  link(199, 200);
  CHECK(set->is_unmeasured());
}

TEST(a_row_that_is_linked_after_it_was_seen_to_wait_comes_once) {
  std::mt19937_64 random = seeded("linked meanwhile", 93);
  constexpr Row kFew = 300;
  const std::vector<float> rows = normal_values(random, std::size_t{kFew} * kDim);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), kFew);
  const auto set = std::make_shared<LinkedSet>(vectors, GraphOptions{8, 60, 1});
  std::vector<Row> members(kFew - 20), late(20);
  std::iota(members.begin(), members.end(), 0);
  std::iota(late.begin(), late.end(), kFew - 20);
  const auto link = [&] {
    while (set->advance(kNever) > 0) {
    }
  };
  set->join(members);
  link();
  set->join(late);
  for (const bool is_whole : {false, true}) {
    LinkedRows links;
    links.cover.sets = {LinkedSet::view(set)};
    links.cover.sets[0].linked = kFew - 20;
    links.pending = late;
    links.is_whole = is_whole;
    link();
    const Bitset all = [] {
      Bitset bits(kFew);
      bits.set_range(0, kFew);
      return bits;
    }();
    Plan plan;
    plan.strategy = Strategy::tag;
    plan.reach = 300;
    plan.effort = Effort(kNoLimit);
    Scratch scratch;
    for (int i = 0; i < 20; ++i) {
      const std::vector<float> query = normal_values(random, kDim);
      Ranking found(30, vectors, nullptr);
      CHECK(search_links(links, vectors, Query(query.data(), kDim, Metric::l2), {all.words(), kFew}, plan, scratch, found));
      std::vector<Row> hits;
      for (const Candidate& hit : found.take()) hits.push_back(hit.row);
      CHECK(plain_nearest(Metric::l2, query.data(), rows.data(), kFew, kDim, 30, [](Row) { return true; }) == hits);
    }
  }
}

TEST(a_broader_set_costs_what_was_measured_and_a_beam_that_was_given_stays) {
  Workload work;
  work.dim = 100;
  work.rows = work.indexed = 1000000;
  work.total = 1000000;
  work.cardinality = 100000;
  work.k = 10;
  work.profile = {1000000, 100, 250, 1700, 3700, 10, 60, 90, 1.2F, 1.1F, 1500, 3500};
  const LinkCost plain = link_cost(work, {{100000}, 0});
  const LinkCost broad = link_cost(work, {{100000}, 0, {{2, 1.5F}}});
  CHECK(std::abs(broad.total_ns - 1.5 * plain.total_ns) < 1);
  CHECK_EQUAL(2 * plain.reach.ef, broad.reach.ef);
  CHECK(std::abs(broad.reach.factor - 1 - 2 * (plain.reach.factor - 1)) < 1e-5F);
  const LinkCost narrow = link_cost(work, {{100000, 50000}, 0, {{0.5F, 0.5F}}});
  CHECK_EQUAL(plain.reach.ef, narrow.reach.ef);
  work.ef = 64;
  CHECK_EQUAL(64U, link_cost(work, {{100000}, 0, {{2, 1.5F}}}).reach.ef);
}

}  // namespace vecdb::test
