// Walks: their working memory against plain models, bounds against plain beams, and the measured reach on queries that were never seen.

#include <algorithm>
#include <set>

#include "bitset.hpp"
#include "calibration.hpp"
#include "check.hpp"
#include "left_out.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 24;
constexpr Row kRows = 4000;

struct World {
  World(std::mt19937_64& random, Metric metric, Coding coding)
      : rows(clustered_rows(random, kRows + 400, kDim, 60)), vectors(kDim, metric, coding) {
    if (metric == Metric::dot) {  // lengths that differ by a factor of three
      for (Row row = 0; row < kRows + 400; ++row) {
        const float length = 1.0F + 2.0F * static_cast<float>(random() % 1000) / 1000.0F;
        for (std::uint32_t i = 0; i < kDim; ++i) rows[row * kDim + i] *= length;
      }
    }
    vectors.append(rows.data(), kRows);
    graph = std::make_unique<Graph>(vectors, GraphOptions{8, 60, 5}, kRows);
    for (Row row = 0; row < kRows; ++row) graph->insert(row, row);
  }

  // Rows that were not stored.
  const float* query(Row i) const { return &rows[(kRows + i) * kDim]; }

  std::vector<float> rows;
  Vectors vectors;
  std::unique_ptr<Graph> graph;
};

struct Seen {
  double recall = 0;
  double distances = 0;
};

Seen walked(const World& world, const Reach& reach, std::uint32_t k, Row queries) {
  Seen seen;
  Scratch scratch;
  for (Row i = 0; i < queries; ++i) {
    const Query query(world.query(i), kDim, world.vectors.metric());
    Ranking exact(k, world.vectors, nullptr);
    scan_range(world.vectors, query, 0, kRows, {nullptr, kRows}, exact);
    const float farthest = exact.take().back().distance;
    Ranking found(k, world.vectors, nullptr);
    seen.distances +=
        static_cast<double>(search_graph(*world.graph, world.vectors, query, {nullptr, kRows}, reach, kNoLimit, scratch, found).distances);
    for (const Candidate& hit : found.take()) seen.recall += hit.distance <= farthest ? 1.0 / k : 0.0;
  }
  return {seen.recall / queries, seen.distances / queries};
}

TEST(nearest_nodes_are_those_of_a_sorted_list) {
  std::mt19937_64 random = seeded("nearest nodes", 71);
  NearestNodes nearest;
  for (const std::size_t most : {1U, 7U, 64U, 3U}) {
    nearest.reset(most);
    std::vector<float> all;
    std::set<Node> expanded;
    for (Node node = 0; node < 400; ++node) {
      const float distance = static_cast<float>(random() % 500);
      if (nearest.is_full() && !(distance < nearest.back().distance)) continue;
      all.push_back(distance);
      std::sort(all.begin(), all.end());
      if (all.size() > most) all.pop_back();
      const bool is_next = nearest.insert({distance, node});
      CHECK_EQUAL(is_next, nearest.next() != nullptr && nearest.next()->node == node);
      CHECK_EQUAL(all.size(), nearest.size());
      for (std::size_t i = 0; i < all.size(); ++i) CHECK_EQUAL(all[i], nearest[i].distance);
      if (random() % 2 == 0 && nearest.next() != nullptr) {
        const Scored next = *nearest.next();
        for (const Scored& before : nearest) {
          if (expanded.count(before.node) == 0) CHECK(!(before.distance < next.distance));
        }
        CHECK(expanded.insert(next.node).second);
        nearest.expand();
      }
    }
    for (; nearest.next() != nullptr; nearest.expand()) CHECK(expanded.insert(nearest.next()->node).second);
    for (const Scored& scored : nearest) CHECK_EQUAL(std::size_t{1}, expanded.count(scored.node));
  }
}

TEST(visited_nodes_are_a_set_that_forgets) {
  std::mt19937_64 random = seeded("visited nodes", 72);
  VisitedNodes visited;
  for (const Node capacity : {100U, 5000U, 64U, 20000U, 20000U, 20000U}) {
    visited.reset(capacity);
    std::set<Node> model;
    const std::uint64_t count = 1 + random() % (2 * capacity);
    for (std::uint64_t i = 0; i < count; ++i) {
      const Node node = static_cast<Node>(random() % capacity);
      CHECK_EQUAL(model.insert(node).second, visited.insert(node));
    }
  }
}

TEST(a_bound_saves_distances_and_a_wider_one_finds_more) {
  std::mt19937_64 random = seeded("bounds", 73);
  for (const Metric metric : {Metric::cosine, Metric::l2, Metric::dot}) {
    for (const Coding coding : {Coding::none, Coding::eight_bits}) {
      const World world(random, metric, coding);
      const float norm = 40;  // more than any row's
      const Seen plain = walked(world, Reach(300), 10, 100);
      const Seen tight = walked(world, Reach(300, 1.005F, norm), 10, 100);
      const Seen wide = walked(world, Reach(300, 1.5F, norm), 10, 100);
      CHECK(tight.distances < wide.distances);
      CHECK(wide.distances <= plain.distances + 1);
      CHECK(tight.recall < wide.recall);
      CHECK(wide.recall > plain.recall - 0.03);
      CHECK(tight.recall > 0.2);
    }
  }
}

TEST(more_rows_at_one_distance_than_a_beam_holds_end_a_walk) {
  std::vector<float> same(kRows * kDim, 1.0F);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(same.data(), kRows);
  Graph graph(vectors, {8, 40, 5}, kRows);
  for (Row row = 0; row < kRows; ++row) graph.insert(row, row);
  Scratch scratch;
  const Query query(same.data(), kDim, Metric::l2);
  for (const Reach& reach : {Reach(40), Reach(40, 1.1F, 0)}) {
    Ranking ranking(10, vectors, nullptr);
    const Walk walk = search_graph(graph, vectors, query, {nullptr, kRows}, reach, kNoLimit, scratch, ranking);
    CHECK_EQUAL(std::size_t{10}, ranking.size());
    CHECK(walk.distances < 40 * 16);
  }
}

TEST(hits_beyond_the_limit_of_rows_are_left_out) {
  std::mt19937_64 random = seeded("stragglers", 74);
  const World world(random, Metric::cosine, Coding::eight_bits);
  Scratch scratch;
  for (const Row limit : {kRows - 1, kRows - 100, kRows - 300}) {
    for (Row i = 0; i < 20; ++i) {
      const Query query(world.vectors.row(kRows - 1 - i), kDim, Metric::cosine);
      Ranking ranking(10, world.vectors, nullptr);
      search_graph(*world.graph, world.vectors, query, {nullptr, limit}, Reach(80), kNoLimit, scratch, ranking);
      CHECK_EQUAL(std::size_t{10}, ranking.size());
      for (const Candidate& hit : ranking.take()) CHECK(hit.row < limit);
    }
  }
}

TEST(what_a_filter_costs_follows_from_larger_k) {
  const Expectation expectation{1000, 0.3, 0.1, 0.6};
  CHECK_EQUAL(1000.0, expectation.at(1));
  CHECK(std::abs(expectation.at(0.1) - 1000 * std::pow(10.0, 0.3)) < 1e-6);
  CHECK(std::abs(expectation.at(0.01) - 1000 * std::pow(10.0, 0.9)) < 1e-6);
  // Where the bound is drawn no tighter, half as many allowed rows are twice as far to look for.
  const Expectation floored{1000, 0.3, 0.1, 0.6, 0.2};
  CHECK_EQUAL(expectation.at(0.2), floored.at(0.2));
  CHECK(std::abs(floored.at(0.1) - 2 * expectation.at(0.2)) < 1e-6);
  CHECK(std::abs(floored.at(0.01) - 20 * expectation.at(0.2)) < 1e-6);
}

struct Filtered {
  Walk walk;
  std::vector<Candidate> hits;
};

// The rows that lie within the share of all that is nearest to, or farthest from, row 0 of the queries.
Bitset nearest_share(const World& world, double share, bool is_near) {
  std::vector<std::pair<double, Row>> all;
  for (Row row = 0; row < kRows; ++row) {
    const double distance = plain_distance(world.vectors.metric(), world.query(0), &world.rows[row * kDim], kDim);
    all.emplace_back(is_near ? distance : -distance, row);
  }
  std::sort(all.begin(), all.end());
  Bitset bits(kRows);
  for (std::size_t i = 0; i < static_cast<std::size_t>(share * kRows); ++i) bits.set(all[i].second);
  return bits;
}

Filtered searched(const World& world, const Bitset& bits, const Effort& effort) {
  Scratch scratch;
  Ranking found(10, world.vectors, nullptr);
  const Reach reach(200, 1.3F, 0, 0.4F);
  const Query query(world.query(0), kDim, world.vectors.metric());
  Filtered seen;
  seen.walk = search_graph(*world.graph, world.vectors, query, {bits.words(), kRows}, reach, effort, scratch, found);
  seen.hits = found.take();
  return seen;
}

TEST(a_walk_turns_back_early_from_a_filter_that_lies_elsewhere_and_not_from_one_that_lies_where_the_query_does) {
  std::mt19937_64 random = seeded("turning back", 77);
  const World world(random, Metric::l2, Coding::eight_bits);
  Effort effort(2000);
  effort.most = 4000;
  effort.enough = 10;
  effort.expectation = {500, 0.4, 0, 0.4};
  effort.worth = 1000;  // reached where less than a sixth is allowed
  const Filtered near = searched(world, nearest_share(world, 0.1, true), effort);
  CHECK(!near.walk.exhausted);
  CHECK_EQUAL(std::size_t{10}, near.hits.size());
  const Filtered far = searched(world, nearest_share(world, 0.1, false), effort);
  CHECK(far.walk.exhausted);
  CHECK(far.walk.distances < 600);
}

TEST(a_walk_that_has_found_enough_ends_at_most_and_one_that_has_not_gives_up_before) {
  std::mt19937_64 random = seeded("efforts", 78);
  const World world(random, Metric::l2, Coding::eight_bits);
  Effort effort(60);
  effort.most = 120;
  effort.enough = 3;
  const Filtered near = searched(world, nearest_share(world, 0.3, true), effort);
  CHECK(!near.walk.exhausted);
  CHECK(near.walk.distances >= 120 && near.walk.distances < 120 + 16);
  CHECK(near.hits.size() >= 3);
  const Filtered far = searched(world, nearest_share(world, 0.02, false), effort);
  CHECK(far.walk.exhausted);
  CHECK(far.walk.distances >= 60 && far.walk.distances < 60 + 16);
}

TEST(the_truth_of_left_out_rows_is_that_of_a_scan) {
  std::mt19937_64 random = seeded("left out", 75);
  const std::atomic<bool> go_on{false};
  for (const Coding coding : {Coding::none, Coding::eight_bits}) {
    const World world(random, Metric::l2, coding);
    std::vector<LeftOut> samples = choose_left_out(*world.graph, world.vectors, 3000, 13);
    CHECK_EQUAL(std::size_t{13}, samples.size());
    CHECK(find_truth(*world.graph, world.vectors, 3000, 20, samples, go_on));
    for (const LeftOut& sample : samples) {
      const std::vector<Row> expected =
          plain_nearest(Metric::l2, sample.query.values(), world.rows.data(), 3000, kDim, 20, [&](Row row) { return row != sample.row; });
      std::vector<Row> found;
      for (const Candidate& near : sample.truth) found.push_back(near.row);
      CHECK(expected == found);
    }
  }
}

TEST(the_measured_reach_finds_what_it_promises_for_queries_never_seen) {
  std::mt19937_64 random = seeded("promises", 76);
  const std::atomic<bool> go_on{false};
  int promises = 0;
  for (const Metric metric : {Metric::cosine, Metric::l2, Metric::dot}) {
    for (const Coding coding : {Coding::none, Coding::eight_bits}) {
      const World world(random, metric, coding);
      const GraphProfile profile = *measure_profile(*world.graph, world.vectors, kRows, go_on);
      CHECK(is_plausible(profile));
      for (const std::uint32_t k : {1U, 10U, 40U, 100U}) {
        const Prospect prospect = default_prospect(profile, k, kRows);
        // Out of reach: the planner scans instead.
        if (profile.distances100 * 2 > kRows && k > 10) continue;
        const Seen seen = walked(world, prospect.reach, k, 400);
        CHECK(seen.recall >= 0.95);
        CHECK(seen.distances < 1.6 * prospect.distances.at(1));
        CHECK(prospect.distances.at(1) < 1.6 * seen.distances);
        ++promises;
      }
    }
  }
  CHECK(promises >= 20);
}

}  // namespace
}  // namespace vecdb::test
