// Links of several tags together: who gets them, what they find while points come, change and go, and who makes room for whom.

#include <atomic>
#include <chrono>
#include <thread>

#include "link_key.hpp"
#include "link_world.hpp"

namespace vecdb::test {
namespace {

using std::chrono::seconds;

constexpr Tag kHalf = 2;
constexpr Tag kThird = 3;
constexpr Tag kFifth = 5;

std::vector<Tag> tags_of(Offset offset) {
  std::vector<Tag> tags;
  for (const Tag tag : {kHalf, kThird, kFifth}) {
    if (offset % tag == 0) tags.push_back(tag);
  }
  return tags;
}

std::vector<std::uint64_t> all_of(const std::vector<Tag>& tags) {
  std::vector<std::uint64_t> program;
  for (const Tag tag : tags) program.insert(program.end(), {VECDB_OP_TAG, tag});
  program.insert(program.end(), {VECDB_OP_AND, tags.size()});
  return program;
}

}  // namespace

TEST(a_key_of_several_tags_is_covered_by_those_of_fewer_of_them) {
  const LinkKey joint = LinkTags{{2, 3, 5}};
  CHECK(joint.covers(joint));
  CHECK(LinkKey(LinkTags{{2, 5}}).covers(joint));
  CHECK(LinkKey(Tag{3}).covers(joint));
  CHECK(!joint.covers(LinkTags{{2, 5}}));
  CHECK(!joint.covers(Tag{3}));
  CHECK(!LinkKey(Tag{4}).covers(joint));
  CHECK(!LinkKey(LinkTags{{2, 4}}).covers(joint));
  CHECK(!LinkKey(LinkWindow{0, {}}).covers(joint));
  CHECK(!joint.covers(LinkWindow{0, {}}));
  CHECK(LinkKey(Tag{9}) < joint && joint < LinkKey(LinkWindow{0, {}}));
  CHECK(joint.mark() != LinkKey(LinkTags{{2, 3}}).mark() && joint.mark() != LinkKey(Tag{2}).mark());
}

TEST(tags_that_are_asked_for_together_again_and_again_get_links_together) {
  std::mt19937_64 random = seeded("joint links", 71);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  const std::vector<float> queries = near(random, rows, 8);
  const Ask both = asked_for(all_of({kHalf, kThird}));
  search_and_settle(*index, queries, both);
  CHECK_EQUAL(1U, index->field_stats(0).linked_tags);
  CHECK_EQUAL((kRows + 5U) / 6U, index->field_stats(0).linked_rows);
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, both));
  CHECK(share_found(*index, near(random, rows, 60), both) >= 0.95);
  // They serve who asks for more, not who asks for less.
  CHECK(share_found(*index, near(random, rows, 60), asked_for(all_of({kHalf, kThird, kFifth}))) >= 0.95);
  CHECK(strategy(*index, asked_for({VECDB_OP_TAG, kThird})) != VECDB_PLAN_TAG);
  const Tag third = kThird;
  index->drop_tags(&third, 1);
  CHECK_EQUAL(0U, index->field_stats(0).linked_tags);
  CHECK_EQUAL(std::size_t{0}, search(*index, queries, kWide, both).hits[0].size());
}

TEST(tags_that_are_asked_for_in_ever_other_company_get_links_of_their_own) {
  std::mt19937_64 random = seeded("company", 72);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  constexpr Tag kOthers = 100;
  const auto index = filled_index(kCheapGraph, 0, rows, [](Offset offset) {
    std::vector<Tag> tags;
    if (offset % 3 == 0) tags.push_back(kThird);
    for (Tag other = 0; other < 72; ++other) {
      if ((offset / 3 + other) % 2 == 0) tags.push_back(kOthers + other);
    }
    return tags;
  });
  CHECK(index->indexer().wait(seconds(300)));
  const std::vector<float> query = near(random, rows, 1);
  for (Tag other = 0; other < 72; ++other) search(*index, query, kWide, asked_for(all_of({kThird, kOthers + other})));
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, asked_for({VECDB_OP_TAG, kThird})));
}

TEST(a_point_belongs_to_tags_together_from_when_it_has_the_last_of_them) {
  std::mt19937_64 random = seeded("joint changes", 73);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 0, rows, tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  Ask both = asked_for(all_of({kHalf, kThird}));
  search_and_settle(*index, near(random, rows, 8), both);
  const std::uint64_t linked = index->field_stats(0).linked_rows;
  index->indexer().set_threads(0);
  both.k = 1;
  Offset end = kRows;
  for (Offset round = 0; round < 30; ++round) {
    const Offset second = 6 * round + 2;      // has the first tag
    const Offset first = 6 * round + 3;       // has the second
    const Offset neither = 6 * round + 1;     // gets both in one change
    const Offset loses = 6 * round + 6 * 40;  // had both
    const Offset dies = 6 * round + 6 * 80;
    const std::vector<float> added = near(random, rows, 1);
    index->append_rows(0, added.data(), 1);
    Change change = change_of_one_field();
    change.present[0] = {1};
    change.add_int(end);
    change.tag_offsets = {second, first, neither, neither, end, end};
    change.tags = {kThird, kHalf, kThird, kHalf, kHalf, kThird};
    change.untag_offsets = {loses};
    change.untags = {round % 2 == 0 ? kHalf : kThird};
    change.tombstones = {dies};
    apply(*index, end, change);
    CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, both));
    const auto nearest_to = [&](Offset offset) { return search(*index, row_at(rows, offset), kWide, both).hits[0].at(0).offset; };
    CHECK_EQUAL(second, nearest_to(second));
    CHECK_EQUAL(first, nearest_to(first));
    CHECK_EQUAL(neither, nearest_to(neither));
    CHECK(nearest_to(loses) != loses);
    CHECK(nearest_to(dies) != dies);
    CHECK_EQUAL(end, search(*index, added, kWide, both).hits[0].at(0).offset);
    ++end;
  }
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(linked + 4U * 30U, index->field_stats(0).linked_rows);
  CHECK(share_found(*index, near(random, rows, 40), asked_for(all_of({kThird, kHalf}))) >= 0.9);
}

THREADED_TEST(links_of_tags_together_follow_every_change_while_searches_run) {
  std::mt19937_64 random = seeded("joint links beside changes", 75);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  const auto index = filled_index(kCheapGraph, 2, rows, tags_of);
  CHECK(index->indexer().wait(seconds(300)));
  Ask both = asked_for(all_of({kHalf, kThird}));
  std::atomic<bool> is_done{false};
  std::atomic<bool> is_whole{true};
  std::vector<std::thread> readers;
  for (std::uint64_t reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader, ask = both] {
      std::mt19937_64 mine(reader);
      while (!is_done) {
        const Answer answer = search(*index, near(mine, rows, 1), kWide, ask);
        std::set<Offset> once;
        for (const Hit& hit : answer.hits[0]) once.insert(hit.offset);
        if (once.size() != std::min<std::uint64_t>(10, answer.plan.cardinality) || once.size() != answer.hits[0].size()) is_whole = false;
      }
    });
  }
  both.k = 1;
  for (Offset round = 0; round < (kSanitized ? 25 : 100); ++round) {
    const Offset tagged = 6 * round + 2;
    Change change = change_of_one_field();
    change.tag_offsets = {tagged};
    change.tags = {kThird};
    change.untag_offsets = {6 * round};
    change.untags = {kHalf};
    apply(*index, kRows, change);
    CHECK_EQUAL(tagged, search(*index, row_at(rows, tagged), kWide, both).hits[0].at(0).offset);
  }
  is_done = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(is_whole);
  CHECK(index->indexer().wait(seconds(300)));
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_TAG), strategy(*index, both));
}

TEST(a_set_in_use_makes_room_only_for_one_whose_bytes_serve_more_searches) {
  std::mt19937_64 random = seeded("room for joint links", 74);
  const std::vector<float> rows = clustered_rows(random, kRows, kWide, 40);
  constexpr Tag kFirst = 20;
  constexpr Tag kEnd = 30;
  const auto index = filled_index(kCheapGraph, 0, rows, [](Offset offset) {
    std::vector<Tag> tags;
    for (Tag tag = kFirst; tag < kEnd; ++tag) {
      if (offset % 2 == 0) tags.push_back(tag);
    }
    for (const Tag tag : {kThird, kFifth}) {
      if (offset % tag == 1) tags.push_back(tag);
    }
    return tags;
  });
  CHECK(index->indexer().wait(seconds(300)));
  const std::vector<float> query = near(random, rows, 1);
  const auto is_linked = [&](const Ask& ask) { return strategy(*index, ask) == VECDB_PLAN_TAG; };
  const auto linked_singles = [&] {
    std::set<Tag> linked;
    for (Tag tag = kFirst; tag < kEnd; ++tag) {
      if (is_linked(asked_for({VECDB_OP_TAG, tag}))) linked.insert(tag);
    }
    return linked;
  };
  const Ask both = asked_for(all_of({kThird, kFifth}));
  const auto search_in_turn = [&](int rounds, bool with_joint) {
    for (int round = 0; round < rounds; ++round) {
      for (Tag tag = kFirst; tag < kEnd; ++tag) search_and_settle(*index, query, asked_for({VECDB_OP_TAG, tag}));
      if (with_joint) search_and_settle(*index, query, both);
    }
  };
  // As many as there is room for get links, and keep them from others of their size that are asked for as often.
  search_in_turn(9, false);
  const std::set<Tag> singles = linked_singles();
  CHECK(!singles.empty() && singles.size() < kEnd - kFirst);
  search_in_turn(240, false);
  CHECK(singles == linked_singles());
  search_in_turn(110, true);
  CHECK(is_linked(both));
  CHECK(!linked_singles().empty());
  CHECK(index->field_stats(0).link_bytes <= std::uint64_t{256} * kRows);
}

}  // namespace vecdb::test
