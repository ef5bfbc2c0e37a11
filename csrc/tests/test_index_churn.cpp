// Indexes whose points come and go: what is dead leaves their graphs, what lives is found.

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "index_world.hpp"

namespace vecdb::test {
namespace {

using std::chrono::seconds;

constexpr std::uint32_t kWide = 400;  // so wide that a graph is made from 3,000 rows on
constexpr vecdb_field kCheapGraph{kWide, VECDB_L2, 6, 24, 7, VECDB_NO_CODES};

std::vector<std::uint64_t> tags_of(Offset offset) { return {offset % 2}; }

}  // namespace

TEST(dead_rows_leave_the_graph_and_no_live_one_is_without_a_path) {
  std::mt19937_64 random = seeded("dead rows", 49);
  const auto index = filled_index(kCheapGraph, 0, clustered_rows(random, 3600, kWide, 20), tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(0U, index->check_graph(0).unreachable);
  const auto bury = [&](Offset first, Offset step, Offset last) {
    Change change;
    change.present.resize(1);
    for (Offset offset = first; offset < last; offset += step) change.tombstones.push_back(offset);
    apply(*index, 3600, change);
    CHECK(index->indexer().wait(seconds(300)));
  };
  bury(0, 40, 3600);  // 90, less than a sixteenth: they stay, and are walked over
  CHECK_EQUAL(90U, index->field_stats(0).dead_in_graph);
  CHECK_EQUAL(90U, index->check_graph(0).dead);
  bury(1, 4, 3600);
  CHECK_EQUAL(0U, index->field_stats(0).dead_in_graph);
  CHECK_EQUAL(0U, index->field_stats(0).unreachable);
  const vecdb_graph_report report = index->check_graph(0);
  CHECK_EQUAL(2610U, report.nodes);
  CHECK_EQUAL(0U, report.dead);
  CHECK_EQUAL(0U, report.unreachable);
  CHECK_EQUAL(0U, report.unreachable_above);
  CHECK_EQUAL(3600U, index->field_stats(0).indexed_rows);
}

TEST(what_is_left_of_a_large_index_is_found_and_so_is_what_joins_it) {
  for (const Offset left : {3U, 12U, 40U, 150U}) {
    std::mt19937_64 random = seeded("what is left", 55);
    constexpr Offset kFirst = 3600;
    std::vector<float> rows = normal_values(random, (kFirst + 2 * left - 1) * kWide);
    const std::vector<float> joining(rows.begin() + static_cast<std::ptrdiff_t>(kFirst) * kWide, rows.end());
    rows.resize(kFirst * kWide);
    vecdb_field field = kCheapGraph;
    field.coding = VECDB_EIGHT_BITS;
    const auto index = filled_index(field, 0, rows, tags_of);
    Change bury;
    bury.present.resize(1);
    for (Offset offset = 0; offset < kFirst - left; ++offset) bury.tombstones.push_back(offset);
    apply(*index, kFirst, bury);
    CHECK(index->indexer().wait(seconds(300)));
    index->append_rows(0, joining.data(), left - 1);
    Change join;
    join.present.emplace_back(left - 1, 1);
    for (Offset i = 0; i < left - 1; ++i) join.add_int(kFirst + i);
    apply(*index, kFirst, join);
    CHECK(index->indexer().wait(seconds(300)));
    rows.insert(rows.end(), joining.begin(), joining.end());
    Ask ask;
    ask.k = 1;
    for (Offset offset = kFirst - left; offset < kFirst + left - 1; ++offset) {
      const auto row = rows.begin() + static_cast<std::ptrdiff_t>(offset) * kWide;
      const Answer answer = search(*index, {row, row + kWide}, kWide, ask);
      CHECK_EQUAL(offset, answer.hits[0][0].offset);
      // A walk is not thought of: nothing could be learnt of walks from so few.
      CHECK(std::isinf(answer.plan.cost_graph_ns));
    }
  }
}

THREADED_TEST(rows_come_and_go_while_threads_repair_and_search) {
  std::mt19937_64 random = seeded("come and go", 50);
  const std::vector<float> rows = clustered_rows(random, 3200, kWide, 20);
  vecdb_field field = kCheapGraph;
  field.coding = VECDB_EIGHT_BITS;
  const auto index = filled_index(field, 2, rows, tags_of);
  std::atomic<bool> is_done{false};
  std::atomic<int> short_results{0};
  std::thread reader([&] {
    const std::vector<float> queries(rows.begin(), rows.begin() + 10 * kWide);
    while (!is_done) {
      Ask ask;
      ask.ef = 30;
      for (const std::vector<Hit>& hits : search(*index, queries, kWide, ask).hits) short_results += hits.size() == 10 ? 0 : 1;
    }
  });
  Offset next = 3200;
  for (Offset round = 0; round < (kSanitized ? 5 : 12); ++round) {
    const std::vector<float> added = clustered_rows(random, 300, kWide, 3);
    index->append_rows(0, added.data(), 300);
    Change change;
    change.present.emplace_back(300, 1);
    for (Offset i = 0; i < 300; ++i) {
      change.add_int(next + i);
      change.tombstones.push_back(round * 300 + i);
    }
    apply(*index, next, change);
    next += 300;
  }
  CHECK(index->indexer().wait(seconds(300)));
  is_done = true;
  reader.join();
  CHECK_EQUAL(0, short_results.load());
  const vecdb_graph_report report = index->check_graph(0);
  CHECK_EQUAL(3200U, report.nodes);
  CHECK(report.dead <= (report.nodes + report.dead) / 16);
  CHECK_EQUAL(0U, report.unreachable);
}

}  // namespace vecdb::test
