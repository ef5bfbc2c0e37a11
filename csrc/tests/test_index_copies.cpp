// What tags and columns hold, copied out to be saved, against sets that take the same changes.

#include <tuple>

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

TEST(the_offsets_of_tags_are_copied_as_far_as_there_is_room) {
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
  CHECK_EQUAL(std::uint64_t{1504}, index->copy_tags(tags, 4, counts, nullptr, 0));
  std::vector<Offset> offsets(1503, 5000);
  CHECK_EQUAL(std::uint64_t{1504}, index->copy_tags(tags, 4, counts, offsets.data(), offsets.size()));
  CHECK_EQUAL(std::uint32_t{1500}, counts[0]);
  CHECK_EQUAL(std::uint32_t{3}, counts[1]);
  CHECK_EQUAL(std::uint32_t{0}, counts[2]);
  CHECK_EQUAL(std::uint32_t{1}, counts[3]);
  for (Offset i = 0; i < 1500; ++i) CHECK_EQUAL(2 * i, offsets[i]);
  CHECK_EQUAL(expected[2][2], offsets[1502]);
  offsets.assign(1504, 5000);
  index->copy_tags(tags, 4, counts, offsets.data(), offsets.size());
  CHECK_EQUAL(Offset{7}, offsets[1503]);
}

TEST(the_entries_of_columns_are_copied_once_each_in_their_order) {
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
    std::vector<Offset> offsets(numbers.size() + 1);
    std::vector<double> values(offsets.size());
    std::vector<std::int32_t> rests(offsets.size());
    const ColumnCopy out{offsets.data(), values.data(), rests.data()};
    CHECK_EQUAL(std::uint64_t{numbers.size()}, index->copy_column(kNumbers, out, 0));
    CHECK_EQUAL(std::uint64_t{numbers.size()}, index->copy_column(kNumbers, out, offsets.size()));
    std::size_t at = 0;
    for (const auto& [value, rest, offset] : numbers) {
      CHECK_EQUAL(value, values[at]);
      CHECK_EQUAL(rest, rests[at]);
      CHECK_EQUAL(offset, offsets[at++]);
    }
    std::vector<Offset> there(places.size());
    std::vector<double> lats(there.size());
    std::vector<double> lons(there.size());
    CHECK_EQUAL(std::uint64_t{places.size()}, index->copy_points(kPoints, {there.data(), lats.data(), lons.data()}, there.size()));
    std::set<std::tuple<Offset, double, double>> found;
    for (std::size_t i = 0; i < there.size(); ++i) found.insert({there[i], lats[i], lons[i]});
    CHECK(places == found);
  }
  CHECK_EQUAL(std::uint64_t{0}, index->copy_column(kPoints, {nullptr, nullptr, nullptr}, 0));
  CHECK_EQUAL(std::uint64_t{0}, index->copy_points(77, {nullptr, nullptr, nullptr}, 0));
}

}  // namespace
}  // namespace vecdb::test
