// Bitsets, postings, tags, columns and ids, each against a std::set that does the same.

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "bitset.hpp"
#include "check.hpp"
#include "columns.hpp"
#include "copy_on_write.hpp"
#include "ids.hpp"
#include "postings.hpp"
#include "row_map.hpp"
#include "samples.hpp"
#include "stable_array.hpp"
#include "tags.hpp"

namespace vecdb::test {
namespace {

std::vector<Offset> members(const Posting& posting) {
  std::vector<Offset> found;
  if (posting.is_dense()) {
    posting.dense().for_each([&](Offset offset) { found.push_back(offset); });
  } else {
    found.assign(posting.sorted(), posting.sorted() + posting.count());
  }
  return found;
}

std::vector<Offset> sorted_sample(std::mt19937_64& random, std::size_t count, Offset end) {
  std::set<Offset> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.insert(static_cast<Offset>(random() % end));
  return {chosen.begin(), chosen.end()};
}

}  // namespace

TEST(bitset_set_range_and_count_agree_with_single_bits) {
  std::mt19937_64 random = seeded("bitset ranges", 11);
  for (int round = 0; round < 200; ++round) {
    const auto size = static_cast<std::uint32_t>(1 + random() % 300);
    const auto first = static_cast<std::uint32_t>(random() % size);
    const auto last = static_cast<std::uint32_t>(first + random() % (size - first + 1));
    Bitset ranged(size);
    ranged.set_range(first, last);
    CHECK_EQUAL(last - first, ranged.count());
    for (std::uint32_t i = 0; i < size + 70; ++i) CHECK_EQUAL(i >= first && i < last, ranged.contains(i));
    ranged.resize(first);
    ranged.resize(size);
    CHECK_EQUAL(0U, ranged.count());
  }
}

TEST(every_counter_of_bits_agrees_with_single_bits) {
  std::mt19937_64 random = seeded("counters", 16);
  for (std::size_t count = 0; count < 70; ++count) {
    std::vector<std::uint64_t> a(count), b(count);
    std::uint64_t ones = 0, both = 0, first = 0;
    for (std::size_t i = 0; i < count * 64; ++i) {
      const bool in_a = random() % 3 == 0, in_b = random() % 2 == 0;
      a[i / 64] |= static_cast<std::uint64_t>(in_a) << (i % 64);
      b[i / 64] |= static_cast<std::uint64_t>(in_b) << (i % 64);
      ones += in_a ? 1 : 0;
      both += in_a && in_b ? 1 : 0;
      first += in_a && !in_b ? 1 : 0;
    }
    for (const bits::Counters& counters : bits::available_counters()) {
      CHECK_EQUAL(ones, counters.words(a.data(), count));
      CHECK_EQUAL(both, counters.in_both(a.data(), b.data(), count));
      CHECK_EQUAL(first, counters.in_first(a.data(), b.data(), count));
    }
  }
}

TEST(posting_equals_a_set_under_random_additions_and_removals) {
  std::mt19937_64 random = seeded("posting", 12);
  bool was_dense = false;
  bool was_sparse_again = false;
  for (int round = 0; round < 30; ++round) {
    Posting posting;
    std::set<Offset> model;
    const auto end = static_cast<Offset>(50 + random() % 5000);
    for (int step = 0; step < 40; ++step) {
      const std::vector<Offset> offsets = sorted_sample(random, random() % 400, end);
      const bool dense_before = posting.is_dense();
      if (random() % 2 == 0) {
        posting.add(offsets.data(), static_cast<std::uint32_t>(offsets.size()));
        model.insert(offsets.begin(), offsets.end());
      } else {
        posting.remove(offsets.data(), static_cast<std::uint32_t>(offsets.size()));
        for (const Offset offset : offsets) model.erase(offset);
      }
      was_dense = was_dense || posting.is_dense();
      was_sparse_again = was_sparse_again || (dense_before && !posting.is_dense());
      CHECK_EQUAL(model.size(), std::size_t{posting.count()});
      CHECK(members(posting) == std::vector<Offset>(model.begin(), model.end()));
      const auto probe = static_cast<Offset>(random() % end);
      CHECK_EQUAL(model.count(probe) == 1, posting.contains(probe));
    }
    const std::vector<Offset> all(model.begin(), model.end());
    posting.remove(all.data(), static_cast<std::uint32_t>(all.size()));
    CHECK_EQUAL(0U, posting.count());
    was_sparse_again = was_sparse_again || !posting.is_dense();
  }
  CHECK(was_dense);
  CHECK(was_sparse_again);
}

TEST(posting_of_distant_offsets_does_not_become_a_bitset) {
  Posting posting;
  const Offset near[] = {0, 1, 2};
  posting.add(near, 3);
  const Offset far[] = {4000000000U};
  posting.add(far, 1);
  CHECK(!posting.is_dense());
  CHECK(posting.contains(4000000000U));
  CHECK(posting.bytes() < 1000);
}

TEST(tags_forget_a_tag_whose_last_offset_went) {
  Tags tags;
  tags.add({{7, 3}, {7, 1}, {9, 1}, {7, 3}});
  CHECK_EQUAL(2U, tags.find(7)->count());
  tags.remove({{7, 3}, {7, 1}, {8, 1}});
  CHECK(tags.find(7) == nullptr);
  CHECK_EQUAL(1U, tags.size());
  tags.drop(9);
  CHECK_EQUAL(0U, tags.size());
}

TEST(tag_lists_tell_the_tags_of_an_offset) {
  TagLists lists;
  lists.add(5, 30);
  lists.add(5, 10);
  lists.add(5, 30);
  CHECK((std::vector<Tag>{10, 30} == lists.of(5)));
  CHECK(lists.contains(5, 10));
  lists.remove(5, 10);
  CHECK((std::vector<Tag>{30} == lists.of(5)));
  CHECK((std::vector<Tag>{30} == lists.take(5)));
  CHECK(lists.of(5).empty());
}

TEST(column_equals_a_set_of_entries_in_every_range) {
  using Key = std::tuple<double, std::int64_t, Offset>;
  std::mt19937_64 random = seeded("column", 13);
  for (int round = 0; round < 6; ++round) {
    Column column;
    std::set<Key> model;
    for (int step = 0; step < 30; ++step) {
      std::vector<ColumnEntry> entries;
      const std::size_t count = random() % 4 == 0 ? 1 : random() % 2500;
      for (std::size_t i = 0; i < count; ++i) {
        const auto offset = static_cast<Offset>(random() % 500);
        entries.push_back({static_cast<double>(random() % 40), static_cast<std::int32_t>(random() % 3) - 1, offset});
      }
      const bool adds = random() % 3 != 0;
      for (const ColumnEntry& entry : entries) {
        if (adds)
          model.insert({entry.value, entry.rest, entry.offset});
        else
          model.erase({entry.value, entry.rest, entry.offset});
      }
      adds ? column.add(entries) : column.remove(entries);

      ColumnRange range;
      range.low_kind = static_cast<BoundKind>(random() % 3);
      range.high_kind = static_cast<BoundKind>(random() % 3);
      range.low = {static_cast<double>(random() % 42) - 1, static_cast<std::int64_t>(random() % 5) - 2};
      range.high = {static_cast<double>(random() % 42) - 1, static_cast<std::int64_t>(random() % 5) - 2};
      std::multiset<Offset> expected;
      for (const auto& [value, rest, offset] : model) {
        const std::pair<double, std::int64_t> key{value, rest};
        const std::pair<double, std::int64_t> low{range.low.value, range.low.rest};
        const std::pair<double, std::int64_t> high{range.high.value, range.high.rest};
        const bool above = range.low_kind == BoundKind::open || (range.low_kind == BoundKind::inclusive ? key >= low : key > low);
        const bool below = range.high_kind == BoundKind::open || (range.high_kind == BoundKind::inclusive ? key <= high : key < high);
        if (above && below) expected.insert(offset);
      }
      std::multiset<Offset> found;
      column.for_each(range, [&](Offset offset) { found.insert(offset); });
      // An entry that was added again while it stood in the first run may be visited twice.
      CHECK(std::set<Offset>(expected.begin(), expected.end()) == std::set<Offset>(found.begin(), found.end()));
      CHECK(found.size() <= column.count_at_most(range));
    }
  }
}

TEST(column_orders_integers_beyond_two_to_the_53_exactly) {
  Column column;
  const double big = 9007199254740992.0;  // 2^53; the integer above it has rest 1
  column.add({{big, 0, 1}, {big, 1, 2}, {big, -1, 0}});
  ColumnRange range;
  range.low_kind = BoundKind::exclusive;
  range.low = {big, 0};
  std::vector<Offset> found;
  column.for_each(range, [&](Offset offset) { found.push_back(offset); });
  CHECK((std::vector<Offset>{2} == found));
}

TEST(ids_keep_ints_and_texts_and_order_them) {
  std::mt19937_64 random = seeded("ids", 14);
  Ids ids;
  std::vector<std::pair<int, std::string>> model;  // kind, number as fixed-width text or text
  std::vector<std::uint64_t> numbers;
  for (int batch = 0; batch < 40; ++batch) {
    std::string text;
    std::vector<std::uint64_t> values;
    std::vector<std::uint8_t> kinds;
    for (int i = 0; i < 50; ++i) {
      if (random() % 2 == 0) {
        values.push_back(random());
        kinds.push_back(0);
        char padded[24];
        std::snprintf(padded, sizeof(padded), "%020llu", static_cast<unsigned long long>(values.back()));
        model.emplace_back(0, padded);
      } else {
        std::string one(random() % 20 == 0 ? random() % 60000 : random() % 6, 'x');
        for (char& c : one) c = static_cast<char>(random() % 256);
        values.push_back(text.size() << 16 | one.size());
        kinds.push_back(1);
        text += one;
        model.emplace_back(1, one);
      }
    }
    ids.append({values.data(), kinds.data(), static_cast<std::uint32_t>(values.size()), text.data(), text.size()});
  }
  CHECK_EQUAL(model.size(), std::size_t{ids.count()});
  for (Offset offset = 0; offset < ids.count(); ++offset) {
    CHECK_EQUAL(model[offset].first, static_cast<int>(ids.kind(offset)));
    if (ids.kind(offset) == IdKind::text) CHECK_EQUAL(model[offset].second, std::string(ids.text(ids.value(offset))));
  }
  for (int i = 0; i < 3000; ++i) {
    const auto a = static_cast<Offset>(random() % ids.count());
    const auto b = static_cast<Offset>(random() % ids.count());
    CHECK_EQUAL(model[a] < model[b], ids.before(a, b));
  }
}

TEST(ids_refuse_places_outside_their_text) {
  const std::uint64_t beyond[] = {2 << 16 | 3};
  const std::uint8_t text_kind[] = {1};
  CHECK_THROWS(Code::invalid_argument, Ids::check({beyond, text_kind, 1, "abcd", 4}));
  const std::uint8_t unknown_kind[] = {2};
  CHECK_THROWS(Code::invalid_argument, Ids::check({beyond, unknown_kind, 1, "abcd", 4}));
  Ids ids;
  CHECK_THROWS(Code::invalid_argument, ids.text(std::uint64_t{1} << 40));
}

TEST(row_map_translates_sets_in_both_directions) {
  std::mt19937_64 random = seeded("row map", 15);
  for (int round = 0; round < 60; ++round) {
    RowMap map;
    std::vector<Offset> offset_of;
    Offset end = 0;
    for (int batch = 0; batch < 5; ++batch) {
      // Runs of presence and absence, so that rows lie side by side for a while.
      std::vector<std::uint8_t> present(random() % 400);
      std::uint8_t value = batch == 0 ? 1 : static_cast<std::uint8_t>(random() % 2);
      for (std::uint8_t& one : present) {
        if (round % 3 != 0 && random() % 90 == 0) value ^= 1;
        one = round % 3 == 0 ? 1 : value;
      }
      for (std::size_t i = 0; i < present.size(); ++i) {
        if (present[i] != 0) offset_of.push_back(end + static_cast<Offset>(i));
      }
      map.reserve(static_cast<Row>(present.size()));
      map.append(end, static_cast<std::uint32_t>(present.size()), present.data());
      end += static_cast<Offset>(present.size());
    }
    const RowMap::View view = map.view();
    CHECK_EQUAL(offset_of.size(), std::size_t{view.rows()});
    CHECK_EQUAL(offset_of.size() == end, view.is_identity() && view.rows() == end);
    Bitset chosen(end);
    std::vector<Offset> listed;
    for (Offset offset = 0; offset < end; ++offset) {
      const auto found = std::lower_bound(offset_of.begin(), offset_of.end(), offset);
      const bool has_row = found != offset_of.end() && *found == offset;
      CHECK_EQUAL(has_row, view.row_of(offset).has_value());
      if (has_row) CHECK_EQUAL(offset, view.offset_of(*view.row_of(offset)));
      if (random() % 3 == 0) {
        chosen.set(offset);
        listed.push_back(offset);
      }
    }
    const Bitset rows = view.rows_of(chosen);
    std::vector<Row> expected;
    for (Row row = 0; row < view.rows(); ++row) {
      CHECK_EQUAL(chosen.contains(offset_of[row]), rows.contains(row));
      if (chosen.contains(offset_of[row])) expected.push_back(row);
    }
    CHECK(expected == view.rows_of(listed));
  }
}

TEST(stable_array_never_moves_an_element) {
  StableArray<int, 16> array;
  array.reserve(1);
  array[0] = 42;
  const int* first = &array[0];
  for (int i = 1; i < 5000; ++i) {
    array.reserve(static_cast<std::uint64_t>(i) + 1);
    array[static_cast<std::uint64_t>(i)] = i;
  }
  CHECK(first == &array[0]);
  CHECK_EQUAL(42, array[0]);
  for (int i = 1; i < 5000; ++i) CHECK_EQUAL(i, array[static_cast<std::uint64_t>(i)]);
  CHECK_EQUAL(16U, array.contiguous_from(0));
  CHECK_EQUAL(1U, array.contiguous_from(15));
  CHECK_EQUAL(32U, array.contiguous_from(16));
}

TEST(copy_on_write_copies_only_what_is_on_lease) {
  CopyOnWrite<std::vector<int>> value;
  value.writable().push_back(1);
  const int* place = value.value().data();
  value.writable()[0] = 2;
  CHECK(place == value.value().data());
  auto lease = value.lease();
  value.writable()[0] = 3;
  CHECK_EQUAL(2, (*lease)[0]);
  CHECK_EQUAL(3, value.value()[0]);
}

}  // namespace vecdb::test
