// Links of tags behind an index: who gets them, what they find, and that no acknowledged point is missed while they are made.

#include <atomic>
#include <chrono>
#include <thread>

#include "link_world.hpp"

namespace vecdb::test {
namespace {

using std::chrono::seconds;

constexpr Tag kMost = 1;   // every row but one in ten
constexpr Tag kHalf = 2;   // every other row
constexpr Tag kThird = 3;  // every third
constexpr Tag kRare = 4;   // one row in 500
constexpr Tag kFifth = 5;  // one in five
constexpr Tag kOther = 6;  // one in five, half of them have the former

std::vector<Tag> tags_of(Offset offset) {
  std::vector<Tag> tags;
  if (offset % 10 != 0) tags.push_back(kMost);
  if (offset % 2 == 0) tags.push_back(kHalf);
  if (offset % 3 == 0) tags.push_back(kThird);
  if (offset % 500 == 0) tags.push_back(kRare);
  if (offset % 5 == 1) tags.push_back(kFifth);
  if (offset % 10 == 1 || offset % 10 == 2) tags.push_back(kOther);
  return tags;
}

void link(Index& index, std::vector<Tag> tags) {
  index.link_tags(0, tags.data(), tags.size(), 8);
  CHECK(index.indexer().wait(seconds(300)));
}

}  // namespace

TEST(a_linked_tag_is_searched_over_its_own_links) {
  std::mt19937_64 random = seeded("linked tag", 61);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(0U, index->field_stats(0).linked_tags);
  link(*index, {kMost, kHalf, kThird, kRare, kFifth, kOther, 77});
  // On too many points, on too few, on none: no links.
  CHECK_EQUAL(4U, index->field_stats(0).linked_tags);
  CHECK_EQUAL(2000U + 1334U + 800U + 800U, index->field_stats(0).linked_rows);
  CHECK(index->field_stats(0).link_bytes > 0);
  const std::vector<float> queries = near(random, rows, 60);
  const std::vector<std::vector<std::uint64_t>> programs = {{VECDB_OP_TAG, kHalf},
                                                            {VECDB_OP_TAG, kThird},
                                                            {VECDB_OP_TAG, kThird, VECDB_OP_TAG, kRare, VECDB_OP_NOT, VECDB_OP_AND, 2},
                                                            {VECDB_OP_TAG, kMost, VECDB_OP_TAG, kFifth, VECDB_OP_AND, 2},
                                                            {VECDB_OP_ANY_TAG, 3, kFifth, kOther, 77}};
  for (const std::vector<std::uint64_t>& program : programs) {
    const Ask ask = asked_for(program);
    // What costs were measured decides where conditions come together; a tag alone is a clear case.
    if (program.size() == 2) CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, ask));
    const double found = share_found(*index, queries, ask);
    if (found < 0.9) fail(__FILE__, __LINE__, "recall is " + std::to_string(found));
  }
  CHECK(strategy(*index, asked_for({VECDB_OP_TAG, kRare})) != VECDB_PLAN_TAG);
  CHECK(strategy(*index, asked_for({VECDB_OP_TAG, kHalf, VECDB_OP_NOT})) != VECDB_PLAN_TAG);
  const Tag half = kHalf;
  index->unlink_tags(0, &half, 1);
  CHECK(strategy(*index, asked_for({VECDB_OP_TAG, kHalf})) != VECDB_PLAN_TAG);
  const Tag third = kThird;
  index->drop_tags(&third, 1);
  CHECK_EQUAL(2U, index->field_stats(0).linked_tags);
  CHECK_THROWS(Code::invalid_argument, index->link_tags(0, &half, 1, 1));
}

TEST(a_row_of_several_sets_comes_once_and_pending_ones_are_found_too) {
  std::mt19937_64 random = seeded("several sets", 67);
  constexpr std::uint32_t kDim = 12;
  constexpr Row kCount = 600;
  const std::vector<float> rows = clustered_rows(random, kCount, kDim, 20);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), kCount);
  LinkedRows links;
  const std::atomic<bool> never{false};
  for (const Row step : {2U, 3U}) {
    const auto set = std::make_shared<LinkedSet>(vectors, GraphOptions{8, 60, 1});
    std::vector<Row> members;
    for (Row row = 0; row < kCount; row += step) members.push_back(row);
    const std::vector<Row> late(members.end() - 20, members.end());
    members.resize(members.size() - 20);
    set->join(members);
    while (set->advance(never) > 0) {
    }
    set->join(late);
    CHECK_EQUAL(20U, set->unclaimed());
    links.cover.sets.push_back(LinkedSet::view(set));
    links.pending.insert(links.pending.end(), late.begin(), late.end());
  }
  std::sort(links.pending.begin(), links.pending.end());
  links.pending.erase(std::unique(links.pending.begin(), links.pending.end()), links.pending.end());
  const auto matches = [](Row row) { return row % 2 == 0 || row % 3 == 0; };
  Bitset bits(kCount);
  for (Row row = 0; row < kCount; ++row) {
    if (matches(row)) bits.set(row);
  }
  Plan plan;
  plan.strategy = Strategy::tag;
  plan.reach = 300;
  plan.effort = Effort(kNoLimit);
  Scratch scratch;
  for (int i = 0; i < 50; ++i) {
    const std::vector<float> query = normal_values(random, kDim);
    Ranking found(15, vectors, nullptr);
    CHECK(search_links(links, vectors, Query(query.data(), kDim, Metric::l2), {bits.words(), kCount}, plan, scratch, found));
    std::vector<Row> hits;
    for (const Candidate& hit : found.take()) hits.push_back(hit.row);
    CHECK(plain_nearest(Metric::l2, query.data(), rows.data(), kCount, kDim, 15, matches) == hits);
  }
  plan.effort = Effort(10);
  Ranking found(15, vectors, nullptr);
  CHECK(!search_links(links, vectors, Query(rows.data(), kDim, Metric::l2), {bits.words(), kCount}, plan, scratch, found));
}

TEST(links_are_given_to_a_tag_that_searches_ask_for_often) {
  std::mt19937_64 random = seeded("demand", 62);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  const Ask third = asked_for({VECDB_OP_TAG, kThird});
  const std::vector<float> queries = near(random, rows, 8);
  search_each(*index, std::vector<float>(queries.begin(), queries.begin() + 7 * kWide), kWide, third);
  for (int i = 0; i < 3; ++i) search_each(*index, queries, kWide, asked_for({VECDB_OP_TAG, kMost}));
  for (int i = 0; i < 3; ++i) search_each(*index, queries, kWide, asked_for({VECDB_OP_TAG, kRare}));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(0U, index->field_stats(0).linked_tags);
  search(*index, std::vector<float>(queries.begin(), queries.begin() + kWide), kWide, third);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1U, index->field_stats(0).linked_tags);
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, third));
  CHECK(index->field_stats(0).link_bytes < std::uint64_t{256} * kRows);
}

TEST(automatic_links_keep_to_their_memory_and_idle_ones_make_room) {
  std::mt19937_64 random = seeded("budget of links", 66);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  constexpr Tag kFirst = 20;
  constexpr Tag kEnd = 32;
  const auto index = filled_index(kCheapGraph, 0, rows, [](Offset offset) {
    std::vector<Tag> tags;
    for (Tag tag = kFirst; tag < kEnd && offset % 3 == 0; ++tag) tags.push_back(tag);
    return tags;
  });
  CHECK(index->indexer().wait(seconds(300)));
  const std::vector<float> queries = near(random, rows, 8);
  const auto search_for = [&](Tag tag) { search_and_settle(*index, queries, asked_for({VECDB_OP_TAG, tag})); };
  const auto is_linked = [&](Tag tag) { return strategy(*index, asked_for({VECDB_OP_TAG, tag})) == VECDB_PLAN_TAG; };
  for (Tag tag = kFirst; tag < kEnd; ++tag) search_for(tag);
  const std::uint64_t most = index->field_stats(0).linked_tags;
  CHECK(most > 0 && most < kEnd - kFirst);
  CHECK(index->field_stats(0).link_bytes <= std::uint64_t{256} * kRows);
  CHECK(is_linked(kFirst) && is_linked(kFirst + 3) && !is_linked(kEnd - 2) && !is_linked(kEnd - 1));
  // While all are in use none leaves; a tag that is dropped leaves its room to another at once.
  const Tag dropped = kFirst + 3;
  index->drop_tags(&dropped, 1);
  search_for(kEnd - 1);
  CHECK(is_linked(kEnd - 1));
  // Those that were not used for a thousand searches leave.
  for (int i = 0; i < 140; ++i) search_for(kFirst);
  search_for(kEnd - 2);
  CHECK(is_linked(kFirst) && is_linked(kEnd - 2) && !is_linked(kFirst + 1));
  CHECK_EQUAL(most, index->field_stats(0).linked_tags);
  // What is asked for has no such limit.
  std::vector<Tag> others;
  for (Tag tag = kFirst; tag < kEnd; ++tag) {
    if (tag != dropped) others.push_back(tag);
  }
  link(*index, others);
  CHECK_EQUAL(kEnd - kFirst - 1, index->field_stats(0).linked_tags);
}

TEST(a_point_tagged_a_moment_ago_is_found_before_it_is_linked) {
  std::mt19937_64 random = seeded("pending", 63);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  link(*index, {kThird});
  index->indexer().set_threads(0);
  Offset end = kRows;
  for (Offset round = 0; round < 30; ++round) {
    // One point gets the tag, one is new with it, one loses it and has it again, one loses it.
    const Offset tagged = 3 * round + 1;
    const Offset again = 3 * round;
    const Offset untagged = 3 * round + 300;
    const std::vector<float> added = near(random, rows, 1);
    index->append_rows(0, added.data(), 1);
    Change change = change_of_one_field();
    change.present[0] = {1};
    change.add_int(end);
    change.tag_offsets = {tagged, end, again, end};
    change.tags = {kThird, kThird, kThird, kThird};
    change.untag_offsets = {again, untagged};
    change.untags = {kThird, kThird};
    apply(*index, end, change);
    Ask ask = asked_for({VECDB_OP_TAG, kThird});
    ask.k = 1;
    CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, ask));
    std::vector<float> queries(rows.begin() + tagged * kWide, rows.begin() + (tagged + 1) * kWide);
    queries.insert(queries.end(), added.begin(), added.end());
    queries.insert(queries.end(), rows.begin() + again * kWide, rows.begin() + (again + 1) * kWide);
    queries.insert(queries.end(), rows.begin() + untagged * kWide, rows.begin() + (untagged + 1) * kWide);
    const Answer answer = search(*index, queries, kWide, ask);
    CHECK_EQUAL(tagged, answer.hits[0][0].offset);
    CHECK_EQUAL(end, answer.hits[1][0].offset);
    CHECK_EQUAL(again, answer.hits[2][0].offset);
    CHECK(answer.hits[3][0].offset != untagged);
    CHECK_EQUAL(static_cast<std::uint64_t>(2 * (round + 1)), answer.plan.tail);
    ++end;
  }
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1334U + 60U, index->field_stats(0).linked_rows);
  CHECK_EQUAL(0U, search(*index, rows, kWide, asked_for({VECDB_OP_TAG, kThird})).plan.tail);
}

TEST(links_full_of_rows_that_are_members_no_more_are_made_anew) {
  std::mt19937_64 random = seeded("churn of links", 64);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  link(*index, {kHalf});
  Change change = change_of_one_field();
  for (Offset offset = 0; offset < 1000; offset += 2) change.tombstones.push_back(offset);
  for (Offset offset = 1000; offset < 1400; offset += 2) {
    change.untag_offsets.push_back(offset);
    change.untags.push_back(kHalf);
  }
  apply(*index, kRows, change);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1300U, index->field_stats(0).linked_rows);
  const Ask ask = asked_for({VECDB_OP_TAG, kHalf});
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, ask));
  CHECK(share_found(*index, near(random, rows, 40), ask) > 0.9);
  // Those that lost the tag and have it again are members like any other.
  std::swap(change.untag_offsets, change.tag_offsets);
  std::swap(change.untags, change.tags);
  change.tombstones.clear();
  apply(*index, kRows, change);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(1500U, index->field_stats(0).linked_rows);
  CHECK(share_found(*index, near(random, rows, 40), ask) > 0.9);
}

THREADED_TEST(links_follow_every_change_while_searches_run) {
  std::mt19937_64 random = seeded("links beside changes", 65);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 2, rows, tags_of);
  const std::vector<Tag> linked = {kHalf, kThird};
  index->link_tags(0, linked.data(), linked.size(), 8);
  std::vector<std::set<Tag>> tags(kRows);
  for (Offset offset = 0; offset < kRows; ++offset) {
    for (const Tag tag : tags_of(offset)) tags[offset].insert(tag);
  }
  std::vector<bool> lives(kRows, true);
  std::atomic<bool> is_done{false};
  std::vector<std::string> failures(2);
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 mine(static_cast<std::uint64_t>(reader));
      while (!is_done) {
        const std::vector<float> queries = near(mine, rows, 2);
        for (const std::vector<std::uint64_t>& program :
             {std::vector<std::uint64_t>{VECDB_OP_TAG, kThird}, {VECDB_OP_ANY_TAG, 2, kHalf, kThird}}) {
          const Answer answer = search(*index, queries, kWide, asked_for(program));
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
  Ask last = asked_for({VECDB_OP_TAG, kThird});
  last.k = 1;
  std::vector<float> all = rows;
  for (int round = 0; round < (kSanitized ? 25 : 60); ++round) {
    const auto end = static_cast<Offset>(tags.size());
    Change change = change_of_one_field();
    std::set<Offset> touched;
    for (int i = 0; i < 20; ++i) {
      const auto offset = static_cast<Offset>(random() % end);
      if (!lives[offset] || !touched.insert(offset).second) continue;
      if (i == 0) {
        change.tombstones.push_back(offset);
        lives[offset] = false;
      } else if (tags[offset].erase(kThird) != 0) {
        change.untag_offsets.push_back(offset);
        change.untags.push_back(kThird);
      } else {
        tags[offset].insert(kThird);
        change.tag_offsets.push_back(offset);
        change.tags.push_back(kThird);
      }
    }
    const std::vector<float> added = near(random, rows, 4);
    for (Offset i = 0; i < 4; ++i) {
      change.add_int(end + i);
      change.present[0].push_back(1);
      change.tag_offsets.push_back(end + i);
      change.tags.push_back(i % 2 == 0 ? kThird : kHalf);
      tags.push_back({change.tags.back()});
      lives.push_back(true);
    }
    all.insert(all.end(), added.begin(), added.end());
    index->append_rows(0, added.data(), 4);
    apply(*index, end, change);
    // The newest of the tagged ones is found at once, wherever the links are.
    const Offset newest = change.tag_offsets.size() > 4 ? change.tag_offsets[0] : end;
    const std::vector<float> query(all.begin() + newest * kWide, all.begin() + (newest + 1) * kWide);
    const Answer answer = search(*index, query, kWide, last);
    CHECK_EQUAL(0.0F, answer.hits[0][0].score);
  }
  is_done = true;
  for (std::thread& reader : readers) reader.join();
  for (const std::string& failure : failures) CHECK_EQUAL(std::string(), failure);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(2U, index->field_stats(0).linked_tags);
  std::uint64_t expected = 0;
  for (std::size_t offset = 0; offset < tags.size(); ++offset) expected += lives[offset] && tags[offset].count(kThird) != 0 ? 1 : 0;
  const Answer answer = search(*index, near(random, rows, 1), kWide, asked_for({VECDB_OP_TAG, kThird}));
  CHECK_EQUAL(expected, answer.plan.cardinality);
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), answer.plan.strategy);
  CHECK(share_found(*index, near(random, rows, 60), asked_for({VECDB_OP_TAG, kThird})) > 0.9);
  CHECK(share_found(*index, near(random, rows, 60), asked_for({VECDB_OP_ANY_TAG, 2, kHalf, kThird})) > 0.9);
}

}  // namespace vecdb::test
