// Filter programs: what is refused, and what the others select, against a plain evaluator over std::set.

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "check.hpp"
#include "condition.hpp"
#include "samples.hpp"
#include "vecdb.h"

namespace vecdb::test {
namespace {

using Words = std::vector<std::uint64_t>;
using Set = std::set<Offset>;

std::uint64_t bits_of(double value) {
  std::uint64_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

// A small world with tags of every density and a column with several values a point.
struct World {
  Offset end;
  Tags tags;
  Columns columns;
  GeoColumns points;
  Bitset live;
  std::map<Tag, Set> tagged;
  std::map<double, Set> valued;
  std::vector<std::pair<GeoPoint, Offset>> placed;

  World(std::mt19937_64& random, Offset size) : end(size), live(size) {
    std::vector<TagEntry> entries;
    std::vector<ColumnEntry> values;
    const bool has_dead = random() % 4 != 0;
    for (Offset offset = 0; offset < end; ++offset) {
      if (!has_dead || random() % 10 != 0) live.set(offset);
      for (Tag tag = 0; tag < 12; ++tag) {
        if (random() % (std::uint64_t{1} << tag) == 0) {
          entries.push_back({tag, offset});
          tagged[tag].insert(offset);
        }
      }
      for (std::uint64_t i = random() % 3; i > 0; --i) {
        const auto value = static_cast<double>(random() % 50);
        values.push_back({value, 0, offset});
        valued[value].insert(offset);
      }
      for (std::uint64_t i = random() % 3; i > 0; --i) {
        placed.push_back({{static_cast<double>(random() % 9), static_cast<double>(random() % 9)}, offset});
      }
    }
    tags.add(entries);
    columns.at(3).add(values);
    std::vector<GeoEntry> places;
    for (const auto& [point, offset] : placed) places.push_back(GeoEntry::of(point, offset));
    points.at(4).add(places);
  }

  Catalogue catalogue() const { return {tags, &columns, &points, live, live.count()}; }
  Set everything() const {
    Set all;
    live.for_each([&](Offset offset) { all.insert(offset); });
    return all;
  }
};

Set live_only(const World& world, const Set& set) {
  Set left;
  for (const Offset offset : set) {
    if (world.live.contains(offset)) left.insert(offset);
  }
  return left;
}

// Appends a random expression to words and returns the live offsets that satisfy it.
Set random_expression(std::mt19937_64& random, const World& world, int depth, Words& words) {
  const auto leaf = [&]() -> Set {
    switch (random() % 7) {
      case 0:
        words.push_back(VECDB_OP_ALL);
        return world.everything();
      case 1:
        words.push_back(VECDB_OP_NONE);
        return {};
      case 2: {
        const Tag tag = random() % 14;
        words.insert(words.end(), {VECDB_OP_TAG, tag});
        const auto found = world.tagged.find(tag);
        return found == world.tagged.end() ? Set{} : live_only(world, found->second);
      }
      case 3: {
        const std::uint64_t count = random() % 4;
        words.insert(words.end(), {VECDB_OP_ANY_TAG, count});
        Set joined;
        for (std::uint64_t i = 0; i < count; ++i) {
          const Tag tag = random() % 14;
          words.push_back(tag);
          const auto found = world.tagged.find(tag);
          if (found != world.tagged.end()) joined.insert(found->second.begin(), found->second.end());
        }
        return live_only(world, joined);
      }
      case 4: {
        const std::uint64_t bounds = random() % 16;
        const auto low = static_cast<double>(random() % 50);
        const auto high = static_cast<double>(random() % 50);
        words.insert(words.end(), {VECDB_OP_RANGE, 3, bounds, bits_of(low), 0, bits_of(high), 0});
        Set joined;
        for (const auto& [value, offsets] : world.valued) {
          const bool fits = ((bounds & VECDB_BOUND_GT) == 0 || value > low) && ((bounds & VECDB_BOUND_GTE) == 0 || value >= low) &&
                            ((bounds & VECDB_BOUND_LT) == 0 || value < high) && ((bounds & VECDB_BOUND_LTE) == 0 || value <= high);
          if (fits) joined.insert(offsets.begin(), offsets.end());
        }
        return live_only(world, joined);
      }
      case 5: {
        const auto degree = [&] { return static_cast<double>(random() % 11) - 1; };
        const double top = degree(), left = degree(), bottom = degree(), right = degree();
        words.insert(words.end(), {VECDB_OP_GEO, 4, VECDB_GEO_BOX, 4, bits_of(top), bits_of(left), bits_of(bottom), bits_of(right)});
        Set inside;
        for (const auto& [point, offset] : world.placed) {
          const bool is_between = left > right ? point.lon > left || point.lon < right : point.lon > left && point.lon < right;
          if (is_between && point.lat < top && point.lat > bottom) inside.insert(offset);
        }
        return live_only(world, inside);
      }
      default: {
        Set chosen;
        for (std::uint64_t i = random() % 20; i > 0; --i) chosen.insert(static_cast<Offset>(random() % (world.end + 20)));
        words.insert(words.end(), {VECDB_OP_OFFSETS, chosen.size()});
        words.insert(words.end(), chosen.begin(), chosen.end());
        return live_only(world, chosen);
      }
    }
  };
  if (depth == 0 || random() % 5 == 0) return leaf();
  if (random() % 4 == 0) {
    const Set inner = random_expression(random, world, depth - 1, words);
    words.push_back(VECDB_OP_NOT);
    Set rest;
    for (const Offset offset : world.everything()) {
      if (inner.count(offset) == 0) rest.insert(offset);
    }
    return rest;
  }
  const std::uint64_t count = random() % 5;
  std::map<Offset, std::uint64_t> votes;
  for (std::uint64_t i = 0; i < count; ++i) {
    for (const Offset offset : random_expression(random, world, depth - 1, words)) ++votes[offset];
  }
  std::uint64_t needed = 0;
  switch (random() % 3) {
    case 0:
      words.insert(words.end(), {VECDB_OP_AND, count});
      needed = count;
      break;
    case 1:
      words.insert(words.end(), {VECDB_OP_OR, count});
      needed = 1;
      break;
    default:
      needed = random() % 5;
      words.insert(words.end(), {VECDB_OP_AT_LEAST, count, needed});
  }
  Set enough;
  for (const Offset offset : world.everything()) {
    const auto found = votes.find(offset);
    if ((found == votes.end() ? 0 : found->second) >= needed) enough.insert(offset);
  }
  return enough;
}

Set selected(const World& world, const Selection& selection) {
  if (selection.form == Selection::Form::all) return world.everything();
  if (selection.form == Selection::Form::list) return {selection.list.begin(), selection.list.end()};
  Set found;
  selection.bits.for_each([&](Offset offset) { found.insert(offset); });
  return found;
}

std::string refusal(const Words& words) { return CHECK_THROWS(Code::invalid_argument, Program(words.data(), words.size(), Operands::all)); }

Selection evaluated(const World& world, const Words& words) {
  return evaluate(Program(words.data(), words.size(), Operands::all), world.catalogue());
}

}  // namespace

TEST(random_programs_select_what_a_set_evaluator_selects) {
  std::mt19937_64 random = seeded("programs", 21);
  int forms[3] = {0, 0, 0};
  for (int round = 0; round < 8; ++round) {
    const World world(random, static_cast<Offset>(round == 0 ? 0 : random() % 4000));
    for (int i = 0; i < 150; ++i) {
      Words words;
      const Set expected = random_expression(random, world, static_cast<int>(random() % 4), words);
      const Selection selection = evaluated(world, words);
      CHECK_EQUAL(expected.size(), count_matches(Program(words.data(), words.size(), Operands::all), world.catalogue()));
      if (expected != selected(world, selection) || expected.size() != selection.count) {
        std::ostringstream text;
        for (const std::uint64_t word : words) text << ' ' << word;
        fail(__FILE__, __LINE__,
             "the program" + text.str() + " selects " + std::to_string(selection.count) + " offsets, expected " +
                 std::to_string(expected.size()));
      }
      ++forms[static_cast<int>(selection.form)];
    }
  }
  for (const int count : forms) CHECK(count > 0);
}

TEST(an_empty_program_selects_all_live_offsets) {
  std::mt19937_64 random = seeded("empty program", 22);
  const World world(random, 500);
  const Selection selection = evaluate(Program(nullptr, 0, Operands::all), world.catalogue());
  CHECK(selection.form == Selection::Form::all);
  CHECK_EQUAL(world.live.count(), selection.count);
}

TEST(a_short_list_stays_a_list_under_and_and_not) {
  std::mt19937_64 random = seeded("short lists", 23);
  const World world(random, 4000);
  // 5 offsets, of tag 0 (which all have), not of tag 1 (which half have), in a wide range.
  const Words words = {
      VECDB_OP_OFFSETS, 5, 1, 2, 3, 4, 5, VECDB_OP_TAG, 0, VECDB_OP_TAG, 1, VECDB_OP_NOT, VECDB_OP_RANGE, 3, 0, 0, 0, 0, 0, VECDB_OP_NOT,
      VECDB_OP_AND,     4};
  CHECK(evaluated(world, words).form == Selection::Form::list);
}

TEST(a_program_is_refused_with_the_word_that_is_wrong) {
  CHECK(refusal({99}).find("word 0: operation 99 is unknown") != std::string::npos);
  CHECK(refusal({VECDB_OP_ALL, VECDB_OP_TAG}).find("word 1: the program ends where a tag is expected") != std::string::npos);
  CHECK(refusal({VECDB_OP_ALL, VECDB_OP_ALL}).find("leaves 2 sets") != std::string::npos);
  CHECK(refusal({VECDB_OP_ALL, VECDB_OP_AND, 2}).find("needs 2 sets, 1 are on the stack") != std::string::npos);
  CHECK(refusal({VECDB_OP_NOT}).find("needs 1 sets") != std::string::npos);
  CHECK(refusal({VECDB_OP_ANY_TAG, std::numeric_limits<std::uint64_t>::max(), 1}).find("tags are announced") != std::string::npos);
  CHECK(refusal({VECDB_OP_OFFSETS, 2, 5, 5}).find("expected ascending") != std::string::npos);
  CHECK(refusal({VECDB_OP_OFFSETS, 1, std::uint64_t{1} << 32}).find("beyond 32 bits") != std::string::npos);
  CHECK(refusal({VECDB_OP_RANGE, 1, 16, 0, 0, 0, 0}).find("bounds 16") != std::string::npos);
  CHECK(refusal({VECDB_OP_RANGE, 1, VECDB_BOUND_GT, bits_of(std::numeric_limits<double>::quiet_NaN()), 0, 0, 0}).find("NaN") !=
        std::string::npos);
  CHECK(refusal({VECDB_OP_RANGE, 1, 0, 0}).find("operands of RANGE") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, 1, 9, 0}).find("operands of the area are announced") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, 7, 0}).find("shape 7 is unknown") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, VECDB_GEO_RADIUS, 1, 0}).find("expected 3: lat, lon, metres") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, VECDB_GEO_RADIUS, 3, 0, 0, bits_of(-1)}).find("0 or more") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, VECDB_GEO_BOX, 4, bits_of(91), 0, 0, 0}).find("expected a latitude in [-90, 90]") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, VECDB_GEO_POLYGON, 0}).find("no ring") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, VECDB_GEO_POLYGON, 3, 9, 0, 0}).find("a ring of 9 points is announced") != std::string::npos);
  CHECK(refusal({VECDB_OP_GEO, 1, VECDB_GEO_POLYGON, 9, 4, 0, 0, 0, 0, 0, 0, bits_of(1), 0}).find("is not its first") != std::string::npos);
  CHECK(refusal({VECDB_OP_AT_LEAST, 1}).find("a minimum") != std::string::npos);
}

TEST(random_words_are_refused_or_evaluated_but_never_read_past_their_end) {
  std::mt19937_64 random = seeded("random words", 24);
  const World world(random, 300);
  int evaluated_count = 0;
  for (int i = 0; i < 20000; ++i) {
    Words words(random() % 9);
    for (std::uint64_t& word : words) word = random() % 12;
    try {
      evaluate(Program(words.data(), words.size(), Operands::all), world.catalogue());
      ++evaluated_count;
    } catch (const Error& error) {
      CHECK_EQUAL(static_cast<int>(Code::invalid_argument), static_cast<int>(error.code()));
    }
  }
  CHECK(evaluated_count > 100);
}

TEST(an_index_of_tags_only_refuses_ranges_areas_and_offsets) {
  const Words range = {VECDB_OP_RANGE, 1, 0, 0, 0, 0, 0};
  const Words offsets = {VECDB_OP_OFFSETS, 0};
  const Words tag = {VECDB_OP_TAG, 1};
  CHECK_THROWS(Code::invalid_argument, Program(range.data(), range.size(), Operands::tags_only));
  const Words area = {VECDB_OP_GEO, 1, VECDB_GEO_RADIUS, 3, 0, 0, 0};
  CHECK_THROWS(Code::invalid_argument, Program(area.data(), area.size(), Operands::tags_only));
  CHECK_THROWS(Code::invalid_argument, Program(offsets.data(), offsets.size(), Operands::tags_only));
  CHECK_EQUAL(2U, Program(tag.data(), tag.size(), Operands::tags_only).size());
}

}  // namespace vecdb::test
