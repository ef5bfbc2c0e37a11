// What tags and columns hold, copied out to be saved, against sets that take the same changes.

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "index_world.hpp"

namespace vecdb::test {
namespace {

constexpr Offset kCount = 3000;
constexpr std::uint32_t kNumbers = 2;
constexpr std::uint32_t kPoints = 3;

std::unique_ptr<Index> make() {
  const vecdb_field field{2, VECDB_L2, 16, 100, 1, VECDB_NO_CODES};
  auto index = std::make_unique<Index>(&field, 1, 0);
  Change change;
  change.present.emplace_back(kCount, std::uint8_t{0});
  for (Offset i = 0; i < kCount; ++i) change.add_int(i);
  apply(*index, 0, change);
  return index;
}

TEST(the_offsets_of_tags_are_copied_if_there_is_room_for_all) {
  const auto index = make();
  const std::vector<std::vector<Offset>> expected = {{7}, {}, {1, 2, 2999}, {}};  // dense ones follow
  Change change;
  for (std::size_t tag = 0; tag < expected.size(); ++tag) {
    for (const Offset offset : expected[tag]) {
      change.tag_offsets.push_back(offset);
      change.tags.push_back(tag);
    }
  }
  for (Offset i = 0; i < kCount; i += 2) {
    change.tag_offsets.push_back(i);
    change.tags.push_back(9);
  }
  apply(*index, kCount, change);
  const Tag tags[] = {9, 2, 1, 0};
  std::uint32_t counts[4];
  CHECK_EQUAL(std::uint64_t{1504}, index->copy_tags(tags, 4, 0, kCount, counts, nullptr, 0));
  std::vector<Offset> offsets(1504, 5000);
  CHECK_EQUAL(std::uint64_t{1504}, index->copy_tags(tags, 4, 0, kCount, counts, offsets.data(), 1503));
  CHECK_EQUAL(Offset{5000}, offsets[0]);
  CHECK_EQUAL(std::uint32_t{1500}, counts[0]);
  CHECK_EQUAL(std::uint32_t{3}, counts[1]);
  CHECK_EQUAL(std::uint32_t{0}, counts[2]);
  CHECK_EQUAL(std::uint32_t{1}, counts[3]);
  CHECK_EQUAL(std::uint64_t{1504}, index->copy_tags(tags, 4, 0, kCount, counts, offsets.data(), offsets.size()));
  for (Offset i = 0; i < 1500; ++i) CHECK_EQUAL(2 * i, offsets[i]);
  CHECK_EQUAL(expected[2][2], offsets[1502]);
  CHECK_EQUAL(Offset{7}, offsets[1503]);
}

TEST(the_offsets_of_tags_are_copied_from_any_range) {
  std::mt19937_64 random = seeded("copied ranges", 35);
  const auto index = make();
  const Tag tags[] = {3, 4, 5};
  std::map<Tag, std::set<Offset>> expected;
  Change change;
  for (const auto& [tag, share] : std::map<Tag, std::uint64_t>{{3, 1}, {4, 3}, {5, 200}}) {
    for (Offset i = 0; i < kCount; ++i) {
      if (random() % share != 0) continue;
      change.tag_offsets.push_back(i);
      change.tags.push_back(tag);
      expected[tag].insert(i);
    }
  }
  apply(*index, kCount, change);
  for (int round = 0; round < 300; ++round) {
    const auto first = static_cast<Offset>(random() % (kCount + 80));
    const auto last = static_cast<Offset>(round % 3 == 0 ? first + random() % 70 : random() % (kCount + 80));
    std::vector<Offset> wanted;
    std::uint32_t counts[3];
    std::vector<Offset> offsets(3 * kCount);
    offsets.resize(index->copy_tags(tags, 3, first, last, counts, offsets.data(), offsets.size()));
    for (std::size_t i = 0; i < 3; ++i) {
      std::uint32_t count = 0;
      for (const Offset offset : expected[tags[i]]) {
        if (offset < first || offset >= last) continue;
        wanted.push_back(offset);
        ++count;
      }
      CHECK_EQUAL(count, counts[i]);
    }
    CHECK(wanted == offsets);
  }
}

TEST(the_entries_of_columns_are_copied_once_each_in_their_order_in_any_pieces) {
  std::mt19937_64 random = seeded("copied columns", 34);
  const auto index = make();
  std::set<std::tuple<double, std::int32_t, Offset>> numbers;
  std::set<std::tuple<Offset, double, double>> places;
  for (int round = 0; round < 12; ++round) {
    Change change;
    for (const auto& [value, rest, offset] : std::set<std::tuple<double, std::int32_t, Offset>>(numbers)) {
      if (random() % 8 != 0) continue;
      change.remove_value(kNumbers, offset, value);
      numbers.erase({value, rest, offset});
    }
    // Few at last, so that some stay in the second run; some of them were removed a moment ago.
    for (std::uint64_t i = round < 8 ? 3000 : 5; i > 0; --i) {
      const auto offset = static_cast<Offset>(random() % kCount);
      const double value = static_cast<double>(random() % 50);
      change.add_value(kNumbers, offset, value);
      numbers.insert({value, 0, offset});
      change.add_point(kPoints, offset, value, -value);
      places.insert({offset, value, -value});
    }
    apply(*index, kCount, change);
    // Pieces of any length, the last one is short.
    std::vector<std::tuple<double, std::int32_t, Offset>> copied;
    for (std::optional<ColumnEntry> after;;) {
      const std::uint64_t room = 1 + random() % 2000;
      std::vector<Offset> offsets(room);
      std::vector<double> values(room);
      std::vector<std::int32_t> rests(room);
      const std::uint64_t got =
          index->copy_column(kNumbers, after ? &*after : nullptr, {offsets.data(), values.data(), rests.data()}, room);
      for (std::uint64_t i = 0; i < got; ++i) copied.emplace_back(values[i], rests[i], offsets[i]);
      if (got < room) break;
      after = ColumnEntry{values[got - 1], rests[got - 1], offsets[got - 1]};
    }
    CHECK((copied == std::vector<std::tuple<double, std::int32_t, Offset>>(numbers.begin(), numbers.end())));
    std::vector<std::tuple<Offset, double, double>> found;
    for (std::optional<GeoEntry> after;;) {
      const std::uint64_t room = 1 + random() % 2000;
      std::vector<Offset> there(room);
      std::vector<double> lats(room);
      std::vector<double> lons(room);
      const std::uint64_t got = index->copy_points(kPoints, after ? &*after : nullptr, {there.data(), lats.data(), lons.data()}, room);
      for (std::uint64_t i = 0; i < got; ++i) found.emplace_back(there[i], lats[i], lons[i]);
      if (got < room) break;
      after = GeoEntry::of({lats[got - 1], lons[got - 1]}, there[got - 1]);
    }
    std::sort(found.begin(), found.end());
    CHECK((found == std::vector<std::tuple<Offset, double, double>>(places.begin(), places.end())));
  }
  CHECK_EQUAL(std::uint64_t{0}, index->copy_column(kPoints, nullptr, {nullptr, nullptr, nullptr}, 0));
  CHECK_EQUAL(std::uint64_t{0}, index->copy_points(77, nullptr, {nullptr, nullptr, nullptr}, 0));
}

}  // namespace
}  // namespace vecdb::test
