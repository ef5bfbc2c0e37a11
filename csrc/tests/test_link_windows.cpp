// Links of windows and cells behind an index: who gets them, what they find, and that values which change are neither missed nor kept.

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "link_world.hpp"

namespace vecdb::test {
namespace {

using std::chrono::seconds;

constexpr std::uint32_t kNumbers = 3;
constexpr std::uint32_t kPlaces = 5;

std::uint64_t word_of(double value) {
  std::uint64_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

// Spread over [0, 1000), the same for the same offset, and no near ones for near offsets.
double value_of(Offset offset) { return static_cast<double>(offset * 7919 % kRows) / 4; }

std::vector<std::uint64_t> between(double low, double high) {
  return {VECDB_OP_RANGE, kNumbers, VECDB_BOUND_GTE | VECDB_BOUND_LT, word_of(low), 0, word_of(high), 0};
}

std::vector<std::uint64_t> around(double lat, double lon, double metres) {
  return {VECDB_OP_GEO, kPlaces, VECDB_GEO_RADIUS, 3, word_of(lat), word_of(lon), word_of(metres)};
}

std::vector<float> row_of(const std::vector<float>& rows, Offset offset) {
  return {rows.begin() + std::ptrdiff_t{offset} * kWide, rows.begin() + (std::ptrdiff_t{offset} + 1) * kWide};
}

std::vector<std::uint64_t> in_box(double top, double left, double bottom, double right) {
  return {VECDB_OP_GEO, kPlaces, VECDB_GEO_BOX, 4, word_of(top), word_of(left), word_of(bottom), word_of(right)};
}

// Every offset has its value and another beyond all that are searched for, and a place on a grid of 40 by 100 tenths of a degree.
std::unique_ptr<Index> made_index(std::uint32_t threads, const std::vector<float>& rows) {
  auto index = filled_index(kCheapGraph, threads, rows, [](Offset) { return std::vector<Tag>(); });
  Change change = change_of_one_field();
  for (Offset offset = 0; offset < kRows; ++offset) {
    change.add_value(kNumbers, offset, value_of(offset));
    change.add_value(kNumbers, offset, 2000 + value_of(offset));
    const Offset place = offset * 7919 % kRows;
    change.add_point(kPlaces, offset, 40 + static_cast<double>(place / 100) / 10, 5 + static_cast<double>(place % 100) / 10);
  }
  apply(*index, kRows, change);
  CHECK(index->indexer().wait(seconds(300)));
  return index;
}

bool walks_links(Index& index, const Ask& ask) { return strategy(index, ask) == VECDB_PLAN_TAG; }

std::uint64_t linked(Index& index) { return index.field_stats(0).linked_tags; }

}  // namespace

TEST(a_range_that_searches_ask_for_often_gets_links_of_its_window) {
  std::mt19937_64 random = seeded("recurring range", 81);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = made_index(0, rows);
  const Ask third = asked_for(between(200, 533));
  const std::vector<float> queries = near(random, rows, 60);
  search_each(*index, std::vector<float>(queries.begin(), queries.begin() + 7 * kWide), kWide, third);
  search_each(*index, queries, kWide, asked_for(between(0, 950)));
  search_each(*index, queries, kWide, asked_for(between(400, 401)));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(0U, linked(*index));
  search(*index, row_of(queries, 7), kWide, third);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1U, linked(*index));
  CHECK_EQUAL(1332U, index->field_stats(0).linked_rows);
  CHECK(index->field_stats(0).link_bytes > 0);
  CHECK(walks_links(*index, third));
  CHECK(share_found(*index, queries, third) > 0.9);
  // What lies in the window is searched over its links as well, alone or with other conditions; what leaves it is not.
  std::vector<std::uint64_t> both = between(230, 530);
  const std::vector<std::uint64_t> rest = {VECDB_OP_TAG, 4, VECDB_OP_NOT, VECDB_OP_AND, 2};
  both.insert(both.end(), rest.begin(), rest.end());
  for (const std::vector<std::uint64_t>& program : {between(230, 530), both}) {
    CHECK(walks_links(*index, asked_for(program)));
    CHECK(share_found(*index, queries, asked_for(program)) > 0.9);
  }
  CHECK(!walks_links(*index, asked_for(between(199.9, 533))));
  index->drop_column(kNumbers);
  CHECK_EQUAL(0U, linked(*index));
}

TEST(ranges_of_which_none_comes_again_share_a_window) {
  std::mt19937_64 random = seeded("moving ranges", 82);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = made_index(0, rows);
  index->link_column(0, kNumbers, 8);
  const auto moving = [](int step) { return asked_for(between(300 + step, 600 + step)); };
  for (int step = 0; step < 8; ++step) search(*index, near(random, rows, 1), kWide, moving(step));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1U, linked(*index));
  CHECK(index->field_stats(0).linked_rows > 1250 && index->field_stats(0).linked_rows < 2400);
  for (int step = 0; step < 8; ++step) CHECK(walks_links(*index, moving(step)));
  CHECK(share_found(*index, near(random, rows, 60), moving(3)) > 0.9);
  for (int step = 0; step < 8; ++step) search(*index, near(random, rows, 8), kWide, moving(step));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1U, linked(*index));
}

TEST(a_column_that_links_are_asked_for_gets_them_at_the_first_search_that_gains) {
  std::mt19937_64 random = seeded("asked column", 83);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = made_index(0, rows);
  index->link_column(0, kNumbers, 8);
  index->link_column(0, kPlaces, 8);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(0U, linked(*index));
  search(*index, near(random, rows, 1), kWide, asked_for(between(100, 400)));
  search(*index, near(random, rows, 1), kWide, asked_for(between(100, 101)));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1U, linked(*index));
  CHECK(walks_links(*index, asked_for(between(100, 400))));
  index->unlink_column(0, kNumbers);
  CHECK_EQUAL(0U, linked(*index));
  search(*index, near(random, rows, 1), kWide, asked_for(between(100, 400)));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(0U, linked(*index));
  CHECK_THROWS(Code::invalid_argument, index->link_column(0, kNumbers, 1));
}

TEST(an_area_that_searches_ask_for_often_gets_links_of_its_cell) {
  std::mt19937_64 random = seeded("recurring area", 84);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = made_index(0, rows);
  const Ask box = asked_for(in_box(43.05, 6.95, 40.45, 12.05));
  const std::vector<float> queries = near(random, rows, 60);
  for (int i = 0; i < 8; ++i) search(*index, row_of(queries, static_cast<Offset>(i)), kWide, box);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1U, linked(*index));
  // An area in it is searched over the same links, one that reaches out of it is not.
  for (const Ask& ask : {box, asked_for(in_box(43, 7, 40.55, 11.95)), asked_for(around(41.75, 9.5, 143000))}) {
    CHECK(walks_links(*index, ask));
    CHECK(share_found(*index, queries, ask) > 0.9);
  }
  CHECK(!walks_links(*index, asked_for(in_box(43.05, 6.95, 40.35, 12.05))));
  // Of a circle a cell holds more than it needs: where links were asked for that is worth it on any machine.
  const Ask circle = asked_for(around(42, 10, 200000));
  index->link_column(0, kPlaces, 8);
  for (int i = 0; i < 8; ++i) search(*index, row_of(queries, static_cast<Offset>(i)), kWide, circle);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK(linked(*index) >= 2U);  // a second cell for it may seem worth it, too, where scans are slow
  CHECK(walks_links(*index, circle));
  CHECK(share_found(*index, queries, circle) > 0.9);
}

TEST(a_point_whose_value_enters_or_leaves_a_window_is_found_or_gone_at_once) {
  std::mt19937_64 random = seeded("moving values", 85);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = made_index(0, rows);
  const Ask ask = asked_for(between(200, 533), 1);
  for (int i = 0; i < 8; ++i) search(*index, near(random, rows, 1), kWide, asked_for(between(200, 533)));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1332U, index->field_stats(0).linked_rows);
  std::vector<Offset> inside, outside;
  for (Offset offset = 0; offset < kRows; ++offset) {
    (value_of(offset) >= 200 && value_of(offset) < 533 ? inside : outside).push_back(offset);
  }
  Offset end = kRows;
  std::vector<std::vector<float>> added;
  for (std::size_t round = 0; round < 20; ++round) {
    // One comes in, one leaves, one stays by another value, one has two values of which one goes, one is new.
    const Offset comes = outside[round];
    const Offset leaves = inside[2 * round];
    const Offset stays = inside[2 * round + 1];
    const Offset twice = inside[100 + round];
    added.push_back(near(random, rows, 1));
    index->append_rows(0, added.back().data(), 1);
    Change change = change_of_one_field();
    change.present[0] = {1};
    change.add_int(end);
    for (const Offset moved : {comes, leaves, stays}) change.remove_value(kNumbers, moved, value_of(moved));
    change.add_value(kNumbers, comes, 250.5);
    change.add_value(kNumbers, leaves, 100);
    change.add_value(kNumbers, stays, 300.5);
    change.add_value(kNumbers, twice, 400.5);
    change.add_value(kNumbers, twice, 50);
    change.add_value(kNumbers, end, 532);
    apply(*index, end, change);
    Change second = change_of_one_field();
    second.remove_value(kNumbers, twice, value_of(twice));
    apply(*index, ++end, second);
    CHECK(walks_links(*index, ask));
    for (const Offset expected : {comes, stays, twice}) {
      CHECK_EQUAL(expected, search(*index, row_of(rows, expected), kWide, ask).hits[0][0].offset);
    }
    CHECK_EQUAL(end - 1, search(*index, added.back(), kWide, ask).hits[0][0].offset);
    CHECK(search(*index, row_of(rows, leaves), kWide, ask).hits[0][0].offset != leaves);
    CHECK_EQUAL(2 * (round + 1), search(*index, added.back(), kWide, ask).plan.tail);
  }
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1332U + 40U, index->field_stats(0).linked_rows);
  CHECK(share_found(*index, near(random, rows, 40), asked_for(between(200, 533))) > 0.9);
  // When too many have left, the window is made anew.
  Change change = change_of_one_field();
  for (std::size_t i = 200; i < 700; ++i) change.remove_value(kNumbers, inside[i], value_of(inside[i]));
  apply(*index, end, change);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1332U + 20U - 500U, index->field_stats(0).linked_rows);
  CHECK(share_found(*index, near(random, rows, 40), asked_for(between(200, 533))) > 0.9);
}

THREADED_TEST(windows_follow_every_change_while_searches_run) {
  std::mt19937_64 random = seeded("windows beside changes", 86);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = made_index(2, rows);
  std::vector<double> values(kRows);
  for (Offset offset = 0; offset < kRows; ++offset) values[offset] = value_of(offset);
  const Ask third = asked_for(between(200, 533));
  std::atomic<bool> is_done{false};
  std::vector<std::string> failures(2);
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 mine(static_cast<std::uint64_t>(reader));
      while (!is_done) {
        const double low = 200 + static_cast<double>(mine() % 20);
        for (const std::vector<std::uint64_t>& program : {between(200, 533), between(low, low + 330), in_box(43.05, 6.95, 40.45, 12.05)}) {
          const Answer answer = search(*index, near(mine, rows, 2), kWide, asked_for(program));
          for (const std::vector<Hit>& hits : answer.hits) {
            std::set<Offset> once;
            for (const Hit& hit : hits) once.insert(hit.offset);
            const bool is_whole = once.size() == hits.size() && hits.size() == std::min<std::uint64_t>(10, answer.plan.cardinality);
            if (!is_whole) failures[static_cast<std::size_t>(reader)] = "hits are missing or come twice";
          }
        }
      }
    });
  }
  const Ask nearest = asked_for(between(200, 533), 1);
  std::vector<float> all = rows;
  for (int round = 0; round < (kSanitized ? 25 : 60); ++round) {
    const auto end = static_cast<Offset>(values.size());
    Change change = change_of_one_field();
    std::set<Offset> touched;
    for (int i = 0; i < 20; ++i) {
      const auto offset = static_cast<Offset>(random() % end);
      if (!touched.insert(offset).second) continue;
      change.remove_value(kNumbers, offset, values[offset]);
      values[offset] = static_cast<double>(random() % 4000) / 4;
      change.add_value(kNumbers, offset, values[offset]);
    }
    const std::vector<float> added = near(random, rows, 2);
    for (Offset i = 0; i < 2; ++i) {
      change.add_int(end + i);
      change.present[0].push_back(1);
      values.push_back(i == 0 ? 300.25 : 800);
      change.add_value(kNumbers, end + i, values.back());
    }
    all.insert(all.end(), added.begin(), added.end());
    index->append_rows(0, added.data(), 2);
    apply(*index, end, change);
    for (const Offset offset : {end, *touched.begin()}) {
      const Answer answer = search(*index, row_of(all, offset), kWide, nearest);
      const bool is_in = values[offset] >= 200 && values[offset] < 533;
      // What is new is found at once; what was there may be missed by a walk, but not found in the wrong place.
      const bool is_missed = offset == end && answer.hits[0][0].score != 0.0F;
      if (is_missed || (!is_in && answer.hits[0][0].offset == offset)) failures.emplace_back("a new value is missed, or an old one found");
    }
  }
  is_done = true;
  for (std::thread& reader : readers) reader.join();
  for (const std::string& failure : failures) CHECK_EQUAL(std::string(), failure);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK(linked(*index) > 0);
  const Answer answer = search(*index, near(random, rows, 1), kWide, third);
  const auto is_in = [](double value) { return value >= 200 && value < 533; };
  CHECK_EQUAL(static_cast<std::uint64_t>(std::count_if(values.begin(), values.end(), is_in)), answer.plan.cardinality);
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), answer.plan.strategy);
  CHECK(share_found(*index, near(random, rows, 60), third) > 0.9);
}

}  // namespace vecdb::test
