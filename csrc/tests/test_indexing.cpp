// Graphs behind an index: recall, tails, background threads, and searches beside writes.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "crc32c.hpp"
#include "index_world.hpp"

namespace vecdb::test {
namespace {

using std::chrono::seconds;

constexpr std::uint32_t kWide = 400;  // so wide that a graph is made from 3,000 rows on
constexpr vecdb_field kCheapGraph{kWide, VECDB_L2, 6, 24, 7, VECDB_NO_CODES};

std::vector<std::uint64_t> tags_of(Offset offset) {
  std::vector<std::uint64_t> tags{offset % 2, 10 + offset % 10};
  if (offset % 500 == 0) tags.push_back(99);
  return tags;
}

double recall(Index& index, const std::vector<float>& queries, std::uint32_t dim, Ask ask, std::uint32_t* strategy) {
  ask.exact = true;
  const Answer truth = search(index, queries, dim, ask);
  ask.exact = false;
  double found = 0, wanted = 0;
  for (std::size_t q = 0; q < truth.hits.size(); ++q) {
    // One by one: those of a batch might share a scan.
    const std::vector<float> query(&queries[q * dim], &queries[q * dim] + dim);
    const Answer answer = search(index, query, dim, ask);
    if (strategy != nullptr) *strategy = answer.plan.strategy;
    CHECK_EQUAL(truth.hits[q].size(), answer.hits[0].size());
    const std::vector<Offset> expected = offsets_of(truth.hits[q]);
    for (const Hit& hit : answer.hits[0]) found += std::count(expected.begin(), expected.end(), hit.offset) != 0 ? 1 : 0;
    wanted += static_cast<double>(expected.size());
  }
  return found / wanted;
}

}  // namespace

TEST(recall_is_at_least_0_95_at_default_settings_under_any_filter) {
  std::mt19937_64 random = seeded("recall", 41);
  constexpr std::uint32_t kDim = 24;
  const std::vector<float> rows = clustered_rows(random, 24000, kDim, 60);
  const vecdb_field field{kDim, VECDB_COSINE, 16, 100, 5, VECDB_EIGHT_BITS};
  // Tag 50 is a half-space: what matches lies on one side of the queries.
  const auto index = filled_index(field, 0, rows, [&](Offset offset) {
    std::vector<std::uint64_t> tags = tags_of(offset);
    if (rows[offset * kDim] > 0) tags.push_back(50);
    return tags;
  });
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(24000U, index->field_stats(0).indexed_rows);
  std::vector<float> queries = rows;
  queries.resize(150 * kDim);
  for (float& value : queries) value += 0.2F * std::normal_distribution<float>()(random);

  bool has_walked = false;
  bool has_swept = false;
  const std::vector<std::vector<std::uint64_t>> programs = {{},
                                                            {VECDB_OP_TAG, 0},
                                                            {VECDB_OP_TAG, 13},
                                                            {VECDB_OP_TAG, 99},
                                                            {VECDB_OP_TAG, 50},
                                                            {VECDB_OP_TAG, 50, VECDB_OP_NOT},
                                                            {VECDB_OP_TAG, 13, VECDB_OP_NOT},
                                                            {VECDB_OP_TAG, 0, VECDB_OP_TAG, 14, VECDB_OP_AND, 2}};
  for (const std::vector<std::uint64_t>& program : programs) {
    for (const std::uint32_t k : {1U, 10U, 60U}) {
      Ask ask;
      ask.k = k;
      ask.program = program;
      std::uint32_t strategy = 0;
      const double reached = recall(*index, queries, kDim, ask, &strategy);
      has_walked = has_walked || strategy == VECDB_PLAN_GRAPH;
      has_swept = has_swept || strategy == VECDB_PLAN_SWEEP;
      if (reached < 0.95)
        fail(__FILE__, __LINE__,
             "recall is " + std::to_string(reached) + " at k " + std::to_string(k) + " with strategy " + std::to_string(strategy) +
                 ", program of " + std::to_string(program.size()) + " words, tag " + std::to_string(program.size() > 1 ? program[1] : 0));
    }
  }
  CHECK(has_walked);
  CHECK(has_swept);
}

TEST(a_search_finds_min_k_s_hits_whatever_ef_and_filter) {
  std::mt19937_64 random = seeded("hit counts", 42);
  const auto index = filled_index(kCheapGraph, 0, whole_values(random, 3600 * kWide), tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  Change change;
  change.present.resize(1);
  for (Offset offset = 0; offset < 3600; offset += 3) change.tombstones.push_back(offset);
  apply(*index, 3600, change);
  const std::vector<std::vector<std::uint64_t>> programs = {{}, {VECDB_OP_TAG, 1}, {VECDB_OP_TAG, 12}, {VECDB_OP_TAG, 99}};
  bool has_walked = false;
  for (const std::vector<std::uint64_t>& program : programs) {
    for (const std::uint32_t k : {1U, 100U, 700U, 5000U}) {
      Ask ask;
      ask.k = k;
      ask.ef = 1;
      ask.program = program;
      const Answer answer = search(*index, whole_values(random, 2 * kWide), kWide, ask);
      for (const std::vector<Hit>& hits : answer.hits) {
        CHECK_EQUAL(std::min<std::uint64_t>(k, answer.plan.cardinality), hits.size());
        std::set<Offset> once;
        for (const Hit& hit : hits) {
          CHECK(hit.offset % 3 != 0);
          CHECK(once.insert(hit.offset).second);
        }
      }
      has_walked = has_walked || answer.plan.strategy == VECDB_PLAN_GRAPH || answer.plan.strategy == VECDB_PLAN_SWEEP;
    }
  }
  CHECK(has_walked);
}

TEST(a_walk_that_gives_up_is_followed_by_an_exact_scan) {
  std::mt19937_64 random = seeded("budget", 47);
  const std::vector<float> rows = whole_values(random, 3600 * kWide);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  const Field::Snapshot snapshot = index->field(0).snapshot();
  ScratchPool scratches;
  Ids ids;
  std::vector<std::uint64_t> numbers(3600);
  std::vector<std::uint8_t> kinds(3600, 0);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = i;
  ids.append({numbers.data(), kinds.data(), 3600, nullptr, 0});
  constexpr std::uint32_t kHits = 12;
  const std::vector<float> query = whole_values(random, kWide);
  const auto found = [&](Strategy strategy, std::uint64_t max_distances, std::uint32_t ef) {
    Plan plan;
    plan.strategy = strategy;
    plan.reach = Reach(ef);
    plan.effort = Effort(max_distances);
    const auto all = std::make_shared<RowSelection>();
    all->count = 3600;
    std::vector<Offset> offsets(kHits);
    std::vector<std::uint64_t> out_ids(kHits);
    std::vector<std::uint8_t> out_kinds(kHits);
    std::vector<float> scores(kHits);
    std::uint32_t count = 0;
    Searcher({index->field(0).vectors(), ids, snapshot, scratches}, all, plan, kHits, Accuracy::approximate)
        .run(query.data(), 0, 1, {offsets.data(), out_ids.data(), out_kinds.data(), scores.data(), &count});
    CHECK_EQUAL(kHits, count);
    return offsets;
  };
  const std::vector<Offset> truth = found(Strategy::exact, 0, 0);
  CHECK(truth == found(Strategy::graph, 5, 100));       // out of budget
  CHECK(truth == found(Strategy::graph, kNoLimit, 3));  // three hits of the twelve
  CHECK(truth != found(Strategy::graph, kNoLimit, kHits));
}

TEST(rows_of_the_tail_are_found_at_once) {
  std::mt19937_64 random = seeded("tail", 43);
  const auto index = filled_index(kCheapGraph, 0, whole_values(random, 3200 * kWide), tags_of);
  CHECK(index->indexer().wait(seconds(300)));  // without threads the waiting one works
  for (Offset first = 3200; first < 3300; first += 10) {
    const std::vector<float> rows = whole_values(random, 10 * kWide);
    index->append_rows(0, rows.data(), 10);
    Change change;
    change.present.emplace_back(10, 1);
    for (Offset i = 0; i < 10; ++i) change.add_int(first + i);
    apply(*index, first, change);
    Ask ask;
    ask.k = 1;
    ask.ef = 20;
    const Answer answer = search(*index, rows, kWide, ask);
    for (Offset i = 0; i < 10; ++i) {
      CHECK_EQUAL(first + i, answer.hits[i][0].offset);
      CHECK_EQUAL(0.0F, answer.hits[i][0].score);
    }
  }
  CHECK_EQUAL(3200U, index->field_stats(0).indexed_rows);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(3300U, index->field_stats(0).indexed_rows);
}

TEST(a_writer_that_helps_brings_the_tail_below_its_bound) {
  std::mt19937_64 random = seeded("help", 44);
  const std::vector<float> rows = whole_values(random, 3300 * kWide);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  const Row bound = tail_bound(kWide);
  CHECK_EQUAL(3000U, bound);
  CHECK_EQUAL(0U, index->indexer().help(100));  // nobody searches
  Ask ask;
  ask.k = 1;
  search(*index, {rows.begin(), rows.begin() + kWide}, kWide, ask);
  CHECK_EQUAL(100U, index->indexer().help(100));
  CHECK_EQUAL(200U, index->indexer().help(100) + index->indexer().help(100));
  CHECK_EQUAL(0U, index->indexer().help(100));
  CHECK_EQUAL(300U, index->field_stats(0).indexed_rows);
}

TEST(a_writer_helps_though_nobody_searches_once_the_tail_is_32_times_its_bound) {
  constexpr Row kRepeats = 8;  // of the same rows: only their number matters here
  constexpr Row kAllowed = 96000;
  CHECK_EQUAL(kAllowed, 32 * tail_bound(kWide));
  std::mt19937_64 random = seeded("unsearched", 45);
  const std::vector<float> some = whole_values(random, (kAllowed / kRepeats) * kWide);
  std::vector<float> rows;
  rows.reserve(some.size() * kRepeats + 64 * kWide);
  for (Row i = 0; i < kRepeats; ++i) rows.insert(rows.end(), some.begin(), some.end());
  rows.insert(rows.end(), some.begin(), some.begin() + 64 * kWide);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  CHECK_EQUAL(32U, index->indexer().help(32));
  CHECK_EQUAL(32U, index->indexer().help(1000));
  CHECK_EQUAL(0U, index->indexer().help(1000));
  CHECK_EQUAL(64U, index->field_stats(0).indexed_rows);
}

THREADED_TEST(damaged_rows_are_reported_by_whoever_waits_and_whoever_searches) {
  constexpr Row kRows = 3200;
  std::mt19937_64 random = seeded("damage", 48);
  const std::vector<float> rows = whole_values(random, kRows * kWide);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  CHECK(file != nullptr);
  CHECK_EQUAL(rows.size(), std::fwrite(rows.data(), sizeof(float), rows.size(), file.get()));
  CHECK_EQUAL(0, std::fflush(file.get()));
  Index index(&kCheapGraph, 1, 1);
  index.map_rows(0, fileno(file.get()), kRows);
  const std::uint32_t per_block = rows_per_block(kWide);
  std::vector<std::uint32_t> crcs;
  for (Row first = 0; first + per_block <= kRows; first += per_block) {
    crcs.push_back(crc32c(0, rows.data() + std::size_t{first} * kWide, std::size_t{per_block} * kWide * sizeof(float)));
  }
  crcs[3] ^= 1;
  index.expect_checksums(0, crcs.data(), crcs.size());
  Change change;
  change.present.emplace_back(kRows, 1);
  for (Offset offset = 0; offset < kRows; ++offset) change.add_int(offset);
  apply(index, 0, change);
  CHECK_THROWS(Code::corruption, index.indexer().wait(seconds(300)));
  CHECK_THROWS(Code::corruption, search(index, whole_values(random, kWide), kWide, Ask{}));
  CHECK(index.field_stats(0).indexed_rows <= 3 * per_block);
}

THREADED_TEST(an_index_is_destroyed_promptly_while_its_threads_work) {
  std::mt19937_64 random = seeded("destroy", 45);
  const std::vector<float> rows = whole_values(random, 4000 * kWide);
  for (int round = 0; round < 5; ++round) {
    const auto index = filled_index(kCheapGraph, 2, rows, tags_of);
    std::this_thread::sleep_for(std::chrono::milliseconds(3 * round));
  }
}

THREADED_TEST(a_search_beside_writes_sees_all_of_a_change_or_nothing) {
  // Every change adds 8 points with one tag of their own and buries the 8 of the change before: exactly 8 live ones of the newest tags.
  std::mt19937_64 random = seeded("atomic changes", 46);
  constexpr Offset kStep = 8;
  const std::vector<float> rows = whole_values(random, 3100 * kWide);
  const auto index = filled_index(kCheapGraph, 1, rows, [](Offset) { return std::vector<std::uint64_t>{5}; });
  std::atomic<bool> is_done{false};
  std::atomic<int> searched{0};
  std::vector<std::string> failures(2);
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 mine(static_cast<std::uint64_t>(reader));
      while (!is_done) {
        Ask ask;
        ask.k = 20;
        ask.ef = 30;
        ask.program = {VECDB_OP_TAG, 5, VECDB_OP_NOT};
        const Answer answer = search(*index, whole_values(mine, kWide), kWide, ask);
        // The version counts the changes: the first filled the index, each later one left 8 points without tag 5.
        const std::size_t expected = answer.plan.version == 1 ? 0 : kStep;
        std::set<std::uint64_t> generations;
        for (const Hit& hit : answer.hits[0]) generations.insert(hit.id);
        const bool is_one = generations.size() <= 1 && (generations.empty() || *generations.begin() == answer.plan.version);
        if (answer.hits[0].size() != expected || !is_one) failures[static_cast<std::size_t>(reader)] = "a change was seen in part";
        ask.program.clear();
        if (search(*index, whole_values(mine, kWide), kWide, ask).hits[0].size() != 20) failures[0] = "too few hits";
        ++searched;
      }
    });
  }
  Offset next = 3100;
  for (std::uint64_t version = 2; version < (kSanitized ? 25 : 60) || searched < 20; ++version) {
    const std::vector<float> added = whole_values(random, kStep * kWide);
    index->append_rows(0, added.data(), kStep);
    Change change;
    change.present.emplace_back(kStep, 1);
    for (Offset i = 0; i < kStep; ++i) {
      change.add_int(version);
      if (version > 2) change.tombstones.push_back(next - kStep + i);
    }
    apply(*index, next, change);
    next += kStep;
    index->indexer().help(4);
  }
  is_done = true;
  for (std::thread& reader : readers) reader.join();
  for (const std::string& failure : failures) CHECK_EQUAL(std::string(), failure);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(static_cast<std::uint64_t>(next), index->field_stats(0).indexed_rows);
}

}  // namespace vecdb::test
