// Keys of links against what their words say: who belongs, what covers what, and the grids that ranges and areas share.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.hpp"
#include "link_key.hpp"
#include "samples.hpp"
#include "vecdb.h"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kColumn = 3;
constexpr std::uint32_t kPlaces = 4;
constexpr Offset kCount = 5000;

std::uint64_t word_of(double value) {
  std::uint64_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

double uniform(std::mt19937_64& random, double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }

struct World {
  Tags tags;
  Columns columns;
  GeoColumns points;
  CopyOnWrite<Bitset> live;
  Attributes attributes{tags, columns, points, live};
  std::vector<ColumnEntry> entries;
  std::vector<GeoEntry> places;

  explicit World(std::mt19937_64& random) {
    live.writable().resize(kCount);
    for (Offset offset = 0; offset < kCount; ++offset) {
      // Few different values, so that many bounds fall on them.
      const double value = random() % 2 == 0 ? static_cast<double>(random() % 50) : uniform(random, 0, 50);
      entries.push_back({value, 0, offset});
      const bool is_off_globe = offset % 100 == 0;
      places.push_back(GeoEntry::of({uniform(random, -90, 90), is_off_globe ? 400.0 : uniform(random, -180, 180)}, offset));
    }
    columns.at(kColumn).add(entries);
    points.at(kPlaces).add(places);
  }
};

ColumnRange random_range(std::mt19937_64& random) {
  ColumnRange range;
  range.low_kind = static_cast<BoundKind>(random() % 3);
  range.high_kind = static_cast<BoundKind>(random() % 3);
  const double a = static_cast<double>(random() % 50);
  const double b = random() % 2 == 0 ? static_cast<double>(random() % 50) : uniform(random, 0, 50);
  if (range.low_kind != BoundKind::open) range.low = {std::min(a, b), 0};
  if (range.high_kind != BoundKind::open) range.high = {std::max(a, b), 0};
  return range;
}

std::vector<Offset> listed(const LinkKey& key, const Attributes& attributes) {
  std::vector<Offset> offsets;
  offsets_with(key, attributes).for_each_listed([&](Offset offset) { offsets.push_back(offset); });
  return offsets;
}

}  // namespace

TEST(a_window_has_the_values_in_it_and_covers_those_that_have_fewer) {
  std::mt19937_64 random = seeded("windows", 71);
  const World world(random);
  std::size_t covering = 0;
  for (int round = 0; round < 400; ++round) {
    const LinkWindow window{kColumn, random_range(random)};
    std::vector<Offset> expected;
    for (const ColumnEntry& entry : world.entries) {
      if (window.has(entry)) expected.push_back(entry.offset);
    }
    CHECK(expected == listed(window, world.attributes));
    CHECK_EQUAL(expected.size(), count_about(window, world.attributes));
    const LinkWindow other{kColumn, random_range(random)};
    if (!LinkKey(window).covers(other)) continue;
    ++covering;
    for (const ColumnEntry& entry : world.entries) CHECK(window.has(entry) || !other.has(entry));
  }
  CHECK(covering > 20);
  CHECK(!LinkKey(LinkWindow{kColumn, {}}).covers(LinkWindow{kColumn + 1, {}}));
  CHECK(LinkKey(7).covers(7) && !LinkKey(7).covers(8) && !LinkKey(7).covers(LinkWindow{kColumn, {}}));
}

TEST(an_area_lies_in_its_frame_with_whatever_is_off_the_globe) {
  std::mt19937_64 random = seeded("frames", 72);
  const World world(random);
  int framed = 0;
  for (int round = 0; round < 200; ++round) {
    const double lat = uniform(random, -90, 90);
    const double lon = uniform(random, -180, 180);
    const std::vector<std::uint64_t> radius = {word_of(lat), word_of(lon), word_of(std::pow(10, uniform(random, 3, 7)))};
    const std::vector<std::uint64_t> box = {word_of(std::min(90.0, lat + 5)), word_of(lon), word_of(lat),
                                            word_of(std::min(180.0, lon + 20))};
    const std::vector<std::uint64_t> triangle = {
        4, word_of(lat), word_of(lon), word_of(lat / 2), word_of(lon), word_of(lat), word_of(lon / 3), word_of(lat), word_of(lon)};
    for (const auto& [shape, words] : {std::pair{VECDB_GEO_RADIUS, radius}, {VECDB_GEO_BOX, box}, {VECDB_GEO_POLYGON, triangle}}) {
      std::vector<std::uint64_t> program = {VECDB_OP_GEO, kPlaces, static_cast<std::uint64_t>(shape), words.size()};
      program.insert(program.end(), words.begin(), words.end());
      const GeoArea area(static_cast<std::uint64_t>(shape), words.data(), words.size());
      const std::vector<LinkKey> keys = required_areas(Program(program.data(), program.size(), Operands::all));
      if (keys.empty()) continue;
      ++framed;
      const LinkKey& key = keys.front();
      std::vector<Offset> expected;
      for (const GeoEntry& entry : world.places) {
        CHECK(key.cell()->has(entry) || !area.contains(entry.point));
        if (key.cell()->has(entry)) expected.push_back(entry.offset);
      }
      CHECK(expected == listed(key, world.attributes));
      const double about = static_cast<double>(count_about(key, world.attributes));
      CHECK(std::abs(about - static_cast<double>(expected.size())) < 0.03 * kCount);
      const std::optional<SharedKey> shared = shared_key(key, world.attributes);
      if (!shared) continue;
      CHECK(shared->key.covers(key));
      const GeoFrame& narrow = key.cell()->frame;
      const GeoFrame& wide = shared->key.cell()->frame;
      CHECK(wide.north - wide.south <= std::max(2 * (narrow.north - narrow.south), 1e-3));
      CHECK(wide.east - wide.west <= std::max(2 * (narrow.east - narrow.west), 1e-3));
    }
  }
  CHECK(framed > 200);
}

TEST(a_shared_window_covers_the_narrow_one_and_is_at_most_twice_as_wide) {
  std::mt19937_64 random = seeded("shared windows", 73);
  World world(random);
  std::size_t found = 0;
  for (int round = 0; round < 400; ++round) {
    const LinkWindow narrow{kColumn, random_range(random)};
    const std::optional<SharedKey> shared = shared_key(narrow, world.attributes);
    if (!shared) continue;
    ++found;
    CHECK(shared->key.covers(narrow));
    const std::uint64_t few = count_about(narrow, world.attributes);
    // Values that many have are in it with all who have them.
    CHECK(count_about(shared->key, world.attributes) <= std::max<std::uint64_t>(2 * few, 64) + 2 * kCount / 50);
  }
  CHECK(found > 100);
  // Ranges that are nearly the same share one, also when values come below it.
  LinkWindow first{kColumn, {BoundKind::inclusive, {20, 0}, BoundKind::exclusive, {30, 0}}};
  LinkWindow second{kColumn, {BoundKind::inclusive, {20.2, 0}, BoundKind::exclusive, {30.2, 0}}};
  const std::uint64_t mark = shared_key(first, world.attributes)->mark;
  CHECK_EQUAL(mark, shared_key(second, world.attributes)->mark);
  world.columns.at(kColumn).add({{1.5, 0, 1}, {2.5, 0, 2}});
  CHECK_EQUAL(mark, shared_key(first, world.attributes)->mark);
}

TEST(only_what_every_match_must_have_is_required) {
  const auto range = [](double low) {
    return std::vector<std::uint64_t>{VECDB_OP_RANGE, kColumn, VECDB_BOUND_GTE, word_of(low), 0, word_of(std::nan("")), 0};
  };
  const auto required = [](const std::vector<std::vector<std::uint64_t>>& parts) {
    std::vector<std::uint64_t> words;
    for (const std::vector<std::uint64_t>& part : parts) words.insert(words.end(), part.begin(), part.end());
    return required_areas(Program(words.data(), words.size(), Operands::all)).size();
  };
  const std::vector<std::uint64_t> tag = {VECDB_OP_TAG, 9};
  CHECK_EQUAL(1U, required({range(1)}));
  CHECK_EQUAL(2U, required({range(1), tag, {VECDB_OP_AND, 2}, range(2), {VECDB_OP_AND, 2}}));
  CHECK_EQUAL(0U, required({range(1), range(2), {VECDB_OP_OR, 2}}));
  CHECK_EQUAL(1U, required({range(1), {VECDB_OP_OR, 1}}));
  CHECK_EQUAL(0U, required({range(1), {VECDB_OP_NOT}}));
  CHECK_EQUAL(0U, required({range(1), range(2), {VECDB_OP_AT_LEAST, 2, 1}}));
  CHECK_EQUAL(0U, required({tag}));
  CHECK_EQUAL(0U, required({}));
}

}  // namespace vecdb::test
