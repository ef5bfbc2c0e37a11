// The graph: recall against brute force, parallel insertion under searches, growth, restoring, updates and failures.

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "check.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 24;
constexpr GraphOptions kOptions{12, 80, 5};

// Rows, and a graph over all of them in which node == row.
struct Built {
  std::vector<float> rows;
  Vectors vectors;
  Graph graph;

  Built(std::vector<float> values, Metric metric, Node capacity, GraphOptions options = kOptions)
      : rows(std::move(values)), vectors(kDim, metric), graph((append(), vectors), options, capacity) {}
  void append() { vectors.append(rows.data(), rows.size() / kDim); }
  Row count() const { return vectors.rows(); }
  void insert(Node first, Node last) {
    for (Node node = first; node < last; ++node) graph.insert(node, node);
  }
};

std::vector<Candidate> nearest(const Graph& graph, const Vectors& vectors, const float* values, std::uint32_t k, std::uint32_t ef,
                               const RowSet& allowed) {
  Scratch scratch;
  Ranking ranking(k, vectors, nullptr);
  search_graph(graph, vectors, Query(values, kDim, vectors.metric()), allowed, ef, kNoLimit, scratch, ranking);
  return ranking.take();
}

double recall(const Graph& graph, const Vectors& vectors, const std::vector<float>& rows, const std::vector<float>& queries,
              std::uint32_t ef, const RowSet& allowed) {
  const std::uint32_t k = 10;
  std::size_t found = 0, wanted = 0;
  for (std::size_t q = 0; q < queries.size(); q += kDim) {
    const std::vector<Row> truth = plain_nearest(vectors.metric(), &queries[q], rows.data(), rows.size() / kDim, kDim, k,
                                                 [&allowed](Row row) { return allowed.contains(row); });
    const std::set<Row> expected(truth.begin(), truth.end());
    for (const Candidate& hit : nearest(graph, vectors, &queries[q], k, ef, allowed)) {
      CHECK(allowed.contains(hit.row));
      found += expected.count(hit.row);
    }
    wanted += truth.size();
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

std::vector<Node> links_of(const Graph& graph, Node node, int level) {
  std::vector<Node> links(graph.max_links(level));
  links.resize(graph.copy_links(node, level, links.data()));
  return links;
}

// What hnswlib's checkIntegrity asserts, and that a level is only linked where it exists.
void check_sound(const Graph& graph, Node count) {
  const Graph::Entry entry = graph.entry();
  CHECK_EQUAL(graph.level_of(entry.node), entry.level);
  for (Node node = 0; node < count; ++node) {
    if (!graph.contains(node)) continue;
    CHECK(graph.level_of(node) <= entry.level);
    for (int level = 0; level <= graph.level_of(node); ++level) {
      const std::vector<Node> links = links_of(graph, node, level);
      CHECK_EQUAL(links.size(), std::set<Node>(links.begin(), links.end()).size());
      for (const Node link : links) {
        CHECK(link != node && link < graph.capacity() && graph.level_of(link) >= level);
      }
    }
  }
}

void check_same(const Graph& expected, const Graph& actual, Node count) {
  CHECK_EQUAL(expected.count(), actual.count());
  CHECK_EQUAL(expected.entry().node, actual.entry().node);
  CHECK_EQUAL(expected.entry().level, actual.entry().level);
  for (Node node = 0; node < count; ++node) {
    CHECK_EQUAL(expected.row_of(node), actual.row_of(node));
    CHECK_EQUAL(expected.level_of(node), actual.level_of(node));
    for (int level = 0; level <= expected.level_of(node); ++level) CHECK(links_of(expected, node, level) == links_of(actual, node, level));
  }
}

TEST(graph_recall_against_brute_force_under_every_metric) {
  std::mt19937_64 random = seeded("recall", 41);
  const std::vector<float> rows = clustered_rows(random, 3000, kDim, 40);
  const std::vector<float> queries(rows.begin(), rows.begin() + 60 * kDim);
  for (const Metric metric : {Metric::cosine, Metric::dot, Metric::l2}) {
    Built built(rows, metric, 3000);
    built.insert(0, 3000);
    check_sound(built.graph, 3000);
    CHECK_EQUAL(3000U, built.graph.count());
    CHECK(recall(built.graph, built.vectors, rows, queries, 100, {nullptr, 3000}) >= 0.95);
  }
}

TEST(a_filtered_walk_finds_allowed_rows_only_and_most_of_the_nearest) {
  std::mt19937_64 random = seeded("filtered", 42);
  Built built(clustered_rows(random, 3000, kDim, 40), Metric::l2, 4000);
  built.insert(0, 3000);
  const std::vector<float> queries(built.rows.begin(), built.rows.begin() + 50 * kDim);
  std::vector<std::uint64_t> bits(3000 / 64 + 1);
  for (Row row = 0; row < 3000; row += 3) bits[row >> 6] |= std::uint64_t{1} << (row & 63);
  CHECK(recall(built.graph, built.vectors, built.rows, queries, 80, {bits.data(), 3000}) >= 0.95);
  CHECK(recall(built.graph, built.vectors, built.rows, queries, 80, {nullptr, 2000}) >= 0.95);
  CHECK_EQUAL(std::size_t{0}, nearest(built.graph, built.vectors, queries.data(), 5, 50, {nullptr, 0}).size());
}

TEST(a_score_from_the_graph_has_the_bits_of_a_score_from_the_scan) {
  std::mt19937_64 random = seeded("scores", 43);
  Built built(clustered_rows(random, 800, kDim, 10), Metric::cosine, 800);
  built.insert(0, 800);
  const std::vector<float> values = normal_values(random, kDim);
  const Query query(values.data(), kDim, Metric::cosine);
  for (const Candidate& hit : nearest(built.graph, built.vectors, values.data(), 20, 60, {nullptr, 800})) {
    Ranking ranking(1, built.vectors, nullptr);
    scan_list(built.vectors, query, &hit.row, 1, ranking);
    CHECK_EQUAL(ranking.take()[0].distance, hit.distance);
  }
}

TEST(equal_rows_come_in_the_order_of_the_tie_break) {
  std::mt19937_64 random = seeded("ties", 44);
  const std::vector<float> one = normal_values(random, kDim);
  std::vector<float> rows;
  for (int i = 0; i < 30; ++i) rows.insert(rows.end(), one.begin(), one.end());
  Built built(rows, Metric::l2, 30);
  built.insert(0, 30);
  struct EvenFirst : TieBreak {
    bool before(Row a, Row b) const override { return a % 2 != b % 2 ? a % 2 == 0 : a < b; }
  } ties;
  Scratch scratch;
  Ranking ranking(17, built.vectors, &ties);
  search_graph(built.graph, built.vectors, Query(one.data(), kDim, Metric::l2), {nullptr, 30}, 30, kNoLimit, scratch, ranking);
  const std::vector<Candidate> hits = ranking.take();
  CHECK_EQUAL(std::size_t{17}, hits.size());
  for (std::size_t i = 0; i < 15; ++i) CHECK_EQUAL(2 * i, std::size_t{hits[i].row});
  CHECK_EQUAL(1U, hits[15].row);
}

TEST(one_thread_and_one_seed_build_the_same_graph_twice) {
  std::mt19937_64 random = seeded("determinism", 45);
  const std::vector<float> rows = clustered_rows(random, 1000, kDim, 10);
  Built first(rows, Metric::cosine, 1000), second(rows, Metric::cosine, 2000), other(rows, Metric::cosine, 1000, {12, 80, 6});
  for (Built* built : {&first, &second, &other}) built->insert(0, 1000);
  check_same(first.graph, second.graph, 1000);
  Node different = 0;
  for (Node node = 0; node < 1000; ++node) different += first.graph.level_of(node) != other.graph.level_of(node) ? 1 : 0;
  CHECK(different > 50);
}

TEST(levels_decay_as_in_the_paper) {
  std::mt19937_64 random = seeded("levels", 46);
  Built built(normal_values(random, 4000 * kDim), Metric::l2, 4000, {4, 8, 1});
  built.insert(0, 4000);
  Node above = 0;
  for (Node node = 0; node < 4000; ++node) above += built.graph.level_of(node) > 0 ? 1 : 0;
  CHECK(above > 850 && above < 1150);  // a quarter for m = 4, within five standard deviations
}

THREADED_TEST(parallel_inserts_with_concurrent_searches_lose_no_recall) {
  std::mt19937_64 random = seeded("parallel", 47);
  const Node count = 2400, sure = 300;
  Built built(clustered_rows(random, count, kDim, 30), Metric::cosine, count);
  built.insert(0, sure);
  std::atomic<Node> next{sure};
  std::atomic<bool> is_done{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> writers, readers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&] {
      for (Node node = next++; node < count; node = next++) built.graph.insert(node, node);
    });
  }
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&, i] {
      Scratch scratch;
      for (Row row = static_cast<Row>(i); !is_done.load(); row = (row + 7) % sure) {
        Ranking ranking(1, built.vectors, nullptr);
        const Query query(built.vectors.row(row), kDim, Metric::cosine);
        search_graph(built.graph, built.vectors, query, {nullptr, sure}, 64, kNoLimit, scratch, ranking);
        const std::vector<Candidate> hits = ranking.take();
        if (hits.size() != 1 || hits[0].distance > -0.99F) ++wrong;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  is_done = true;
  for (std::thread& reader : readers) reader.join();
  CHECK_EQUAL(0, wrong.load());
  CHECK_EQUAL(count, built.graph.count());
  check_sound(built.graph, count);
  const std::vector<float> queries(built.rows.begin(), built.rows.begin() + 50 * kDim);
  CHECK(recall(built.graph, built.vectors, built.rows, queries, 80, {nullptr, count}) >= 0.95);
}

THREADED_TEST(threads_that_start_from_an_empty_graph_link_all_their_nodes) {
  std::mt19937_64 random = seeded("empty start", 48);
  for (int round = 0; round < 20; ++round) {
    Built built(normal_values(random, 8 * kDim), Metric::l2, 8, {8, 10, static_cast<std::uint64_t>(round)});
    std::vector<std::thread> writers;
    for (Node node = 0; node < 8; ++node) writers.emplace_back([&built, node] { built.graph.insert(node, node); });
    for (std::thread& writer : writers) writer.join();
    check_sound(built.graph, 8);
    CHECK_EQUAL(std::size_t{8}, nearest(built.graph, built.vectors, built.rows.data(), 8, 20, {nullptr, 8}).size());
  }
}

THREADED_TEST(a_grown_graph_equals_the_old_one_and_takes_more) {
  std::mt19937_64 random = seeded("grown", 49);
  Built built(clustered_rows(random, 1500, kDim, 15), Metric::l2, 700);
  built.insert(0, 700);
  CHECK_THROWS(Code::capacity, built.graph.insert(700, 700));
  CHECK_THROWS(Code::invalid_argument, built.graph.grown(699));
  std::atomic<bool> is_done{false};
  std::thread reader([&] {
    while (!is_done.load()) nearest(built.graph, built.vectors, built.rows.data(), 5, 30, {nullptr, 700});
  });
  const std::unique_ptr<Graph> grown = built.graph.grown(1500);
  is_done = true;
  reader.join();
  check_same(built.graph, *grown, 700);
  CHECK(grown->bytes() > built.graph.bytes());
  for (Node node = 700; node < 1500; ++node) grown->insert(node, node);
  const std::vector<float> queries(built.rows.begin(), built.rows.begin() + 50 * kDim);
  CHECK(recall(*grown, built.vectors, built.rows, queries, 80, {nullptr, 1500}) >= 0.95);
}

TEST(the_same_links_are_made_whether_they_take_16_bits_or_32) {
  std::mt19937_64 random = seeded("widths", 51);
  const std::vector<float> rows = clustered_rows(random, 900, kDim, 9);
  Built narrow(rows, Metric::cosine, 900);
  constexpr Node kMostNarrow = 65535;
  Built wide(rows, Metric::cosine, kMostNarrow + 1);
  narrow.insert(0, 900);
  wide.insert(0, 900);
  check_same(narrow.graph, wide.graph, 900);
  check_same(narrow.graph, *narrow.graph.grown(kMostNarrow), 900);
  check_same(narrow.graph, *narrow.graph.grown(kMostNarrow + 1), 900);
}

TEST(a_graph_restored_from_its_parts_is_the_same_and_goes_on_the_same) {
  std::mt19937_64 random = seeded("restore", 50);
  Built built(clustered_rows(random, 900, kDim, 9), Metric::dot, 900);
  built.insert(0, 800);
  Graph restored(built.vectors, kOptions, 900);
  for (Node node = 0; node < 800; ++node) restored.restore_node(node, built.graph.row_of(node), built.graph.level_of(node));
  for (Node node = 0; node < 800; ++node) {
    for (int level = 0; level <= built.graph.level_of(node); ++level) {
      const std::vector<Node> links = links_of(built.graph, node, level);
      restored.restore_links(node, level, links.data(), static_cast<std::uint32_t>(links.size()));
    }
  }
  restored.restore_entry(built.graph.entry());
  check_same(built.graph, restored, 800);
  for (Node node = 800; node < 900; ++node) {
    built.graph.insert(node, node);
    restored.insert(node, node);
  }
  check_same(built.graph, restored, 900);
}

TEST(restoring_refuses_parts_that_do_not_fit) {
  std::mt19937_64 random = seeded("hostile parts", 51);
  Built built(normal_values(random, 10 * kDim), Metric::l2, 10);
  Graph& graph = built.graph;
  graph.restore_node(0, 0, 1);
  graph.restore_node(1, 1, 0);
  CHECK_THROWS(Code::corruption, graph.restore_node(10, 0, 0));
  CHECK_THROWS(Code::corruption, graph.restore_node(1, 1, 0));
  CHECK_THROWS(Code::corruption, graph.restore_node(2, 10, 0));
  CHECK_THROWS(Code::corruption, graph.restore_node(2, 2, -1));
  CHECK_THROWS(Code::corruption, graph.restore_node(2, 2, 1000));
  const Node absent[] = {2}, far[] = {0xFFFFFFF0U}, self[] = {0}, low[] = {1};
  const std::vector<Node> many(100, 1);
  CHECK_THROWS(Code::corruption, graph.restore_links(0, 0, absent, 1));
  CHECK_THROWS(Code::corruption, graph.restore_links(0, 0, far, 1));
  CHECK_THROWS(Code::corruption, graph.restore_links(0, 0, self, 1));
  CHECK_THROWS(Code::corruption, graph.restore_links(0, 1, low, 1));
  CHECK_THROWS(Code::corruption, graph.restore_links(0, 2, low, 0));
  CHECK_THROWS(Code::corruption, graph.restore_links(0, 0, many.data(), 100));
  CHECK_THROWS(Code::corruption, graph.restore_entry({2, 0}));
  CHECK_THROWS(Code::corruption, graph.restore_entry({0, 0}));
  CHECK_EQUAL(-1, graph.entry().level);
}

TEST(an_updated_node_is_found_where_it_is_now) {
  std::mt19937_64 random = seeded("update", 52);
  for (const Metric metric : {Metric::cosine, Metric::l2}) {
    Built built(clustered_rows(random, 1200, kDim, 12), metric, 1200);
    built.insert(0, 1200);
    CHECK_THROWS(Code::capacity, built.graph.update(1200));
    for (Row row = 0; row < 200; ++row) {
      const std::vector<float> moved(built.rows.begin() + (1199 - row) * kDim, built.rows.begin() + (1200 - row) * kDim);
      std::copy(moved.begin(), moved.end(), built.rows.begin() + row * kDim);
      built.vectors.overwrite(row, moved.data());
      built.graph.update(row);
    }
    check_sound(built.graph, 1200);
    const std::vector<float> queries(built.rows.begin(), built.rows.begin() + 60 * kDim);
    CHECK(recall(built.graph, built.vectors, built.rows, queries, 100, {nullptr, 1200}) >= 0.9);
  }
}

TEST(a_single_node_is_found_updated_and_not_inserted_twice) {
  std::mt19937_64 random = seeded("single", 53);
  Built built(normal_values(random, 2 * kDim), Metric::l2, 2);
  CHECK_EQUAL(std::size_t{0}, nearest(built.graph, built.vectors, built.rows.data(), 3, 10, {nullptr, 2}).size());
  CHECK_THROWS(Code::not_found, built.graph.update(1));
  built.graph.insert(1, 0);
  built.graph.update(1);
  CHECK_THROWS(Code::invalid_argument, built.graph.insert(1, 0));
  const std::vector<Candidate> hits = nearest(built.graph, built.vectors, built.rows.data(), 3, 10, {nullptr, 2});
  CHECK_EQUAL(std::size_t{1}, hits.size());
  CHECK_EQUAL(0U, hits[0].row);
}

TEST(a_walk_gives_up_at_its_limit_of_distances) {
  std::mt19937_64 random = seeded("limit", 54);
  Built built(normal_values(random, 1000 * kDim), Metric::l2, 1000);
  built.insert(0, 1000);
  Scratch scratch;
  const Query query(built.rows.data(), kDim, Metric::l2);
  Ranking full(10, built.vectors, nullptr), cut(10, built.vectors, nullptr);
  const Walk whole = search_graph(built.graph, built.vectors, query, {nullptr, 1000}, 200, kNoLimit, scratch, full);
  const Walk limited = search_graph(built.graph, built.vectors, query, {nullptr, 1000}, 200, 100, scratch, cut);
  CHECK(!whole.exhausted && whole.hops > 50 && whole.distances > 300);
  CHECK(limited.exhausted);
  CHECK(limited.distances >= 100 && limited.distances < 100 + built.graph.max_links(0));
}

TEST(a_failed_insert_leaves_a_sound_graph_and_can_be_repeated) {
  std::mt19937_64 random = seeded("failed insert", 55);
  const std::uint32_t block = rows_per_block(kDim);
  const Row count = 2 * block;
  const std::vector<float> rows = clustered_rows(random, count, kDim, 20);
  char path[] = "/tmp/vecdb-test-XXXXXX";
  const int fd = mkstemp(path);
  unlink(path);
  CHECK_EQUAL(static_cast<ssize_t>(rows.size() * sizeof(float)), pwrite(fd, rows.data(), rows.size() * sizeof(float), 0));
  Vectors vectors(kDim, Metric::l2);
  vectors.map(fd, count);
  const std::vector<std::uint32_t> wrong(2, 12345);
  vectors.row(0);  // block 0 is trusted from here on, block 1 will fail
  vectors.expect_checksums(wrong.data(), 2);
  Graph graph(vectors, kOptions, count);
  for (Node node = 0; node < 300; ++node) graph.insert(node, node);
  for (Node node = 300; node < 310; ++node) CHECK_THROWS(Code::corruption, graph.insert(node, block + node));
  CHECK_EQUAL(300U, graph.count());
  check_sound(graph, 300);
  CHECK_EQUAL(std::size_t{300}, nearest(graph, vectors, rows.data(), 300, 400, {nullptr, count}).size());
  vectors.expect_checksums(nullptr, 0);
  for (Node node = 300; node < 310; ++node) graph.insert(node, block + node);
  CHECK_EQUAL(310U, graph.count());
  check_sound(graph, 310);
  const float* moved = &rows[(std::size_t{block} + 305) * kDim];
  CHECK_EQUAL(block + 305, nearest(graph, vectors, moved, 1, 50, {nullptr, count})[0].row);
  close(fd);
}

TEST(impossible_options_are_refused) {
  Vectors vectors(2, Metric::l2);
  CHECK_THROWS(Code::invalid_argument, Graph(vectors, {1, 10, 0}, 10));
  CHECK_THROWS(Code::invalid_argument, Graph(vectors, {100000, 10, 0}, 10));
  CHECK_THROWS(Code::invalid_argument, Graph(vectors, {16, 0, 0}, 10));
  CHECK_THROWS(Code::invalid_argument, Graph(vectors, {16, 10, 0}, 0));
  CHECK_THROWS(Code::invalid_argument, Vectors(0, Metric::l2));
  CHECK_THROWS(Code::invalid_argument, Vectors(kMaxDim + 1, Metric::l2));
}

}  // namespace
}  // namespace vecdb::test
