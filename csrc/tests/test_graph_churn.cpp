// Graphs whose points come and go: repairs, nodes that no path leads to, renumbering.

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "bitset.hpp"
#include "check.hpp"
#include "graph.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 16;
constexpr GraphOptions kOptions{8, 60, 3};
constexpr std::uint32_t kHits = 10;
constexpr std::uint32_t kBeam = 16;
const std::atomic<bool> never{false};

// Rows that lie around some centres, a graph in which node == row, and which of them live.
class World {
 public:
  explicit World(std::mt19937_64& random, Metric metric = Metric::cosine, Coding coding = Coding::eight_bits)
      : random_(random),
        vectors_(kDim, metric, coding),
        graph_(vectors_, kOptions, kCapacity),
        centres_(normal_values(random, kCentres * kDim)) {}

  void add(std::size_t count, std::size_t centre_count = kCentres, std::size_t first_centre = 0) {
    std::vector<float> rows = normal_values(random_, count * kDim);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t centre = first_centre + random_() % centre_count;
      for (std::size_t j = 0; j < kDim; ++j) rows[i * kDim + j] = centres_[centre * kDim + j] + 0.5F * rows[i * kDim + j];
      centre_of_.push_back(centre);
    }
    const Row first = vectors_.rows();
    vectors_.append(rows.data(), count);
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    live_.resize(vectors_.rows());
    live_.set_range(first, vectors_.rows());
    for (Node node = first; node < vectors_.rows(); ++node) graph_.insert(node, node, live());
  }

  template <class Goes>
  void bury(const Goes& goes) {
    for (Row row = 0; row < vectors_.rows(); ++row) {
      if (live_.contains(row) && goes(row)) live_.reset(row);
    }
  }

  // What a field does after a change.
  void keep_up() {
    for (Node first = 0; first < graph_.capacity(); first += 100) graph_.repair(first, first + 100, live());
    graph_.remove_dead(live());
    graph_.connect_unreachable(live(), never);
  }

  LiveNodes live() const { return {live_.words(), live_.size()}; }
  bool lives(Row row) const { return live_.contains(row); }
  std::size_t centre_of(Row row) const { return centre_of_[row]; }
  Graph& graph() { return graph_; }
  const Vectors& vectors() const { return vectors_; }
  std::vector<Row> live_rows() const {
    std::vector<Row> rows;
    live_.for_each([&](Row row) { rows.push_back(row); });
    return rows;
  }

  double recall_of(const Graph& graph) const {
    std::mt19937_64 random(77);
    std::vector<float> queries = normal_values(random, 300 * kDim);
    const std::vector<Row> rows = live_rows();
    double found = 0;
    Scratch scratch;
    for (std::size_t q = 0; q < queries.size(); q += kDim) {
      const Row near = rows[random() % rows.size()];
      for (std::size_t j = 0; j < kDim; ++j) queries[q + j] = rows_[std::size_t{near} * kDim + j] + 0.4F * queries[q + j];
      const std::vector<Row> truth =
          plain_nearest(vectors_.metric(), &queries[q], rows_.data(), vectors_.rows(), kDim, kHits, [this](Row row) { return lives(row); });
      Ranking ranking(kHits, vectors_, nullptr);
      search_graph(graph, vectors_, Query(&queries[q], kDim, vectors_.metric()), {live_.words(), live_.size()}, kBeam, kNoLimit, scratch,
                   ranking);
      for (const Candidate& hit : ranking.take()) found += std::count(truth.begin(), truth.end(), hit.row) != 0 ? 1 : 0;
    }
    return found / (300.0 * kHits);
  }

  double fresh_recall() const {
    Graph fresh(vectors_, kOptions, vectors_.rows());
    for (const Row row : live_rows()) fresh.insert(row, row);
    return recall_of(fresh);
  }

 private:
  static constexpr Node kCapacity = 9000;
  static constexpr std::size_t kCentres = 30;

  std::mt19937_64& random_;
  Vectors vectors_;
  Graph graph_;
  std::vector<float> centres_;
  std::vector<float> rows_;
  std::vector<std::size_t> centre_of_;
  Bitset live_;
};

std::vector<Node> links_of(const Graph& graph, Node node, int level) {
  std::vector<Node> links(graph.max_links(level));
  links.resize(graph.copy_links(node, level, links.data()));
  return links;
}

void check_whole(World& world) {
  const Graph& graph = world.graph();
  const Graph::Reach reach = graph.reach(world.live());
  CHECK_EQUAL(world.live_rows().size(), std::size_t{reach.nodes});
  CHECK_EQUAL(0U, reach.dead);
  CHECK_EQUAL(0U, reach.unreachable);
  CHECK_EQUAL(0U, reach.unreachable_above);
  CHECK_EQUAL(reach.nodes, graph.count());
  CHECK(world.lives(graph.entry().node));
  for (const Row row : world.live_rows()) {
    CHECK(graph.level_of(row) <= graph.entry().level);
    for (int level = 0; level <= graph.level_of(row); ++level) {
      const std::vector<Node> links = links_of(graph, row, level);
      CHECK_EQUAL(links.size(), std::set<Node>(links.begin(), links.end()).size());
      for (const Node link : links) CHECK(link != row && world.lives(link) && graph.level_of(link) >= level);
    }
  }
}

void check_recall(World& world, const char* what) {
  const double now = world.recall_of(world.graph());
  const double fresh = world.fresh_recall();
  std::printf("        recall %s: %.4f, of a fresh graph %.4f\n", what, now, fresh);
  CHECK(now >= fresh - 0.005);
  CHECK(fresh > 0.9);
}

}  // namespace

TEST(ten_rounds_of_replacing_a_fifth_cost_no_recall_and_leave_no_node_without_a_path) {
  std::mt19937_64 random = seeded("replaced at random", 101);
  World world(random);
  world.add(2000);
  for (int round = 0; round < 10; ++round) {
    world.bury([&](Row) { return random() % 5 == 0; });
    world.add(2000 - world.live_rows().size());
    world.keep_up();
    check_whole(world);
  }
  check_recall(world, "after ten fifths");
}

TEST(ten_rounds_of_one_cluster_for_another_cost_no_recall_and_leave_no_node_without_a_path) {
  std::mt19937_64 random = seeded("replaced clusters", 102);
  for (const Coding coding : {Coding::eight_bits, Coding::none}) {
    World world(random, Metric::l2, coding);
    world.add(2000, 20);
    for (std::size_t round = 0; round < 10; ++round) {
      world.bury([&](Row row) { return world.centre_of(row) == round; });
      world.add(2000 - world.live_rows().size(), 1, 20 + round);
      world.keep_up();
      check_whole(world);
    }
    check_recall(world, "after ten clusters");
  }
}

TEST(an_insertion_links_to_no_dead_node_even_where_all_around_are_dead) {
  std::mt19937_64 random = seeded("among the dead", 103);
  World world(random);
  world.add(1500);
  world.bury([&](Row row) { return world.centre_of(row) < 3; });
  const Row before = world.vectors().rows();
  world.add(100, 3);
  for (Row row = before; row < world.vectors().rows(); ++row) {
    const std::vector<Node> links = links_of(world.graph(), row, 0);
    CHECK(!links.empty());
    for (const Node link : links) CHECK(world.lives(link));
  }
  CHECK(world.recall_of(world.graph()) > 0.9);
}

THREADED_TEST(repairs_run_beside_insertions_and_searches) {
  std::mt19937_64 random = seeded("repairs in parallel", 104);
  World world(random);
  world.add(1500);
  world.bury([&](Row row) { return row % 4 == 0; });
  const LiveNodes live = world.live();
  std::vector<float> more = normal_values(random, 300 * kDim);
  // Appended first, so that the threads below share nothing but the graph.
  const_cast<Vectors&>(world.vectors()).append(more.data(), 300);
  std::atomic<Node> next{0};
  std::atomic<bool> is_done{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (Node first = next.fetch_add(50); first < 1500; first = next.fetch_add(50)) world.graph().repair(first, first + 50, live);
    });
  }
  threads.emplace_back([&] {
    for (Node node = 1500; node < 1800; ++node) world.graph().insert(node, node, live);
  });
  std::thread reader([&] {
    while (!is_done) world.recall_of(world.graph());
  });
  for (std::thread& thread : threads) thread.join();
  for (Node node = 0; node < 1800; ++node) {
    if (!live.contains(node)) continue;
    for (int level = 0; level <= world.graph().level_of(node); ++level) {
      for (const Node link : links_of(world.graph(), node, level)) CHECK(live.contains(link));
    }
  }
  world.graph().remove_dead(live);
  is_done = true;
  reader.join();
  world.graph().connect_unreachable(live, never);
  CHECK_EQUAL(0U, world.graph().reach(live).unreachable);
  CHECK_EQUAL(1425U, world.graph().count());
}

TEST(nodes_without_a_path_are_counted_and_get_one) {
  std::mt19937_64 random = seeded("islands", 105);
  const std::vector<float> rows = clustered_rows(random, 400, kDim, 6);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), 400);
  // Rings of 20: only the ring of the entry is reachable, at two levels in the first of them.
  Graph graph(vectors, {4, 30, 1}, 400);
  for (Node node = 0; node < 400; ++node) graph.restore_node(node, node, node % 20 == 0 ? 1 : 0);
  for (Node node = 0; node < 400; ++node) {
    const Node next = node / 20 * 20 + (node + 1) % 20;
    graph.restore_links(node, 0, &next, 1);
  }
  graph.restore_entry({40, 1});
  const Graph::Reach before = graph.reach({});
  CHECK_EQUAL(400U, before.nodes);
  CHECK_EQUAL(380U, before.unreachable);
  CHECK_EQUAL(19U, before.unreachable_above);
  graph.connect_unreachable({}, never);
  CHECK_EQUAL(0U, graph.reach({}).unreachable);
  CHECK_EQUAL(0U, graph.reach({}).unreachable_above);
}

TEST(a_path_is_found_where_every_list_is_full) {
  std::mt19937_64 random = seeded("full lists", 106);
  const std::vector<float> rows = clustered_rows(random, 60, kDim, 2);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), 60);
  Graph graph(vectors, {2, 30, 1}, 60);
  for (Node node = 0; node < 60; ++node) graph.restore_node(node, node, 0);
  for (Node node = 0; node < 60; ++node) {
    // Six islands of ten, in which everyone has its four links.
    std::vector<Node> links;
    for (Node i = 1; i <= 4; ++i) links.push_back(node / 10 * 10 + (node + i) % 10);
    graph.restore_links(node, 0, links.data(), 4);
  }
  graph.restore_entry({0, 0});
  CHECK_EQUAL(50U, graph.reach({}).unreachable);
  graph.connect_unreachable({}, never);
  CHECK_EQUAL(0U, graph.reach({}).unreachable);
}

TEST(an_update_leaves_no_node_without_a_link_that_leads_to_it) {
  std::mt19937_64 random = seeded("updates", 107);
  const std::vector<float> rows = clustered_rows(random, 1000, kDim, 10);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), 1000);
  Graph graph(vectors, {6, 40, 1}, 1000);
  for (Node node = 0; node < 1000; ++node) graph.insert(node, node);
  for (int i = 0; i < 3000; ++i) {
    const Node node = static_cast<Node>(random() % 1000);
    vectors.overwrite(node, &rows[(random() % 1000) * kDim]);
    graph.update(node);
  }
  std::vector<int> in_links(1000);
  for (Node node = 0; node < 1000; ++node) {
    const std::vector<Node> links = links_of(graph, node, 0);
    CHECK_EQUAL(links.size(), std::set<Node>(links.begin(), links.end()).size());
    for (const Node link : links) ++in_links[link];
  }
  CHECK_EQUAL(0, std::count(in_links.begin(), in_links.end(), 0));
}

TEST(a_renumbered_graph_has_the_same_links_without_those_left_out) {
  std::mt19937_64 random = seeded("renumbered", 108);
  World world(random);
  world.add(800);
  world.bury([](Row row) { return row % 3 == 1; });
  world.keep_up();
  std::vector<Node> new_of_old(800, kNoNode);
  const std::vector<Row> kept = world.live_rows();
  for (std::size_t i = 0; i < kept.size(); ++i) new_of_old[kept[i]] = static_cast<Node>(i);
  const std::unique_ptr<Graph> compact = world.graph().renumbered(new_of_old, static_cast<Node>(kept.size()));
  CHECK_EQUAL(kept.size(), std::size_t{compact->count()});
  CHECK_EQUAL(new_of_old[world.graph().entry().node], compact->entry().node);
  CHECK_EQUAL(0U, compact->reach({}).unreachable);
  for (const Row row : kept) {
    CHECK_EQUAL(world.graph().level_of(row), compact->level_of(new_of_old[row]));
    for (int level = 0; level <= world.graph().level_of(row); ++level) {
      std::vector<Node> expected = links_of(world.graph(), row, level);
      for (Node& link : expected) link = new_of_old[link];
      CHECK(expected == links_of(*compact, new_of_old[row], level));
    }
  }
  // The entry and others may be left out too.
  for (Node node = 0; node < 800; node += 2) new_of_old[node] = kNoNode;
  new_of_old[world.graph().entry().node] = kNoNode;
  const std::unique_ptr<Graph> rest = world.graph().renumbered(new_of_old, 800);
  CHECK(rest->contains(rest->entry().node));
  CHECK_EQUAL(rest->level_of(rest->entry().node), rest->entry().level);
  CHECK_EQUAL(std::size_t{0}, world.graph().renumbered({}, 1)->count() + std::size_t{0});
}

}  // namespace vecdb::test
