// Selections kept between writes: which leave, and that a change is never missed.

#include <memory>
#include <vector>

#include "check.hpp"
#include "index_world.hpp"
#include "selection_cache.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 4;

Program tag_program(const std::vector<std::uint64_t>& words) { return Program(words.data(), words.size(), Operands::all); }

std::shared_ptr<const RowSelection> selection_of(std::size_t rows) {
  const auto made = std::make_shared<RowSelection>();
  made->form = Selection::Form::list;
  made->list = std::vector<Row>(rows, 7);
  made->count = rows;
  return made;
}

TEST(a_selection_is_found_by_its_field_and_all_words_of_its_program) {
  SelectionCache cache;
  const std::vector<std::uint64_t> first = {VECDB_OP_TAG, 1}, second = {VECDB_OP_TAG, 2};
  const auto made = selection_of(3);
  cache.put(cache.epoch(), 0, tag_program(first), made);
  CHECK(cache.find(0, tag_program(first)) == made);
  CHECK(cache.find(1, tag_program(first)) == nullptr);
  CHECK(cache.find(0, tag_program(second)) == nullptr);
}

TEST(a_selection_of_an_earlier_epoch_is_not_taken) {
  SelectionCache cache;
  const std::vector<std::uint64_t> words = {VECDB_OP_TAG, 1};
  const SelectionCache::Epoch before = cache.epoch();
  cache.put(before, 0, tag_program(words), selection_of(3));
  cache.clear();
  CHECK(cache.find(0, tag_program(words)) == nullptr);
  cache.put(before, 0, tag_program(words), selection_of(3));
  CHECK(cache.find(0, tag_program(words)) == nullptr);
}

TEST(the_selection_that_was_not_used_for_longest_leaves_first) {
  SelectionCache cache;
  const std::vector<std::uint64_t> kept = {VECDB_OP_TAG, 1};
  cache.put(cache.epoch(), 0, tag_program(kept), selection_of(1));
  std::vector<std::vector<std::uint64_t>> others;
  for (std::uint64_t tag = 2; tag < 300; ++tag) {
    others.push_back({VECDB_OP_TAG, tag});
    cache.put(cache.epoch(), 0, tag_program(others.back()), selection_of(1));
    CHECK(cache.find(0, tag_program(kept)) != nullptr);
  }
  CHECK(cache.find(0, tag_program(others.front())) == nullptr);
  CHECK(cache.find(0, tag_program(others.back())) != nullptr);
}

TEST(selections_are_bounded_in_bytes_and_one_beyond_the_bound_is_not_kept) {
  SelectionCache cache;
  const std::vector<std::uint64_t> first = {VECDB_OP_TAG, 1}, second = {VECDB_OP_TAG, 2}, third = {VECDB_OP_TAG, 3};
  constexpr std::size_t kMany = std::size_t{40} << 18;  // rows of 40 MiB
  cache.put(cache.epoch(), 0, tag_program(first), selection_of(kMany));
  cache.put(cache.epoch(), 0, tag_program(third), selection_of(2 * kMany));
  CHECK(cache.find(0, tag_program(first)) != nullptr);
  CHECK(cache.find(0, tag_program(third)) == nullptr);
  cache.put(cache.epoch(), 0, tag_program(second), selection_of(kMany));
  CHECK(cache.find(0, tag_program(first)) == nullptr);
  CHECK(cache.find(0, tag_program(second)) != nullptr);
}

TEST(a_repeated_search_sees_every_change_of_tags_columns_and_points) {
  const vecdb_field field{kDim, VECDB_L2, 16, 100, 1, VECDB_EIGHT_BITS};
  std::mt19937_64 random(seeded("cached selections", 81));
  constexpr Offset kCount = 40;
  const auto index = filled_index(field, 0, whole_values(random, kCount * kDim), [](Offset offset) {
    return offset % 4 == 0 ? std::vector<std::uint64_t>{9} : std::vector<std::uint64_t>{};
  });
  Ask ask;
  ask.k = kCount;
  const std::vector<float> query = whole_values(random, kDim);
  const auto found = [&](const std::vector<std::uint64_t>& program) {
    ask.program = program;
    const std::size_t once = search(*index, query, kDim, ask).hits[0].size();
    CHECK_EQUAL(once, search(*index, query, kDim, ask).hits[0].size());
    return once;
  };
  const std::vector<std::uint64_t> tag = {VECDB_OP_TAG, 9}, range = {VECDB_OP_RANGE, 5, 0, 0, 0, 0, 0};
  CHECK_EQUAL(std::size_t{10}, found(tag));
  CHECK_EQUAL(std::size_t{0}, found(range));
  Change more;
  more.tag_offsets = {1, 2};
  more.tags = {9, 9};
  more.columns = {5};
  more.column_offsets = {3};
  more.values = {1.5};
  more.rests = {0};
  apply(*index, kCount, more);
  CHECK_EQUAL(std::size_t{12}, found(tag));
  CHECK_EQUAL(std::size_t{1}, found(range));
  Change fewer;
  fewer.tombstones = {0, 1};
  apply(*index, kCount, fewer);
  CHECK_EQUAL(std::size_t{10}, found(tag));
  index->drop_column(5);
  CHECK_EQUAL(std::size_t{0}, found(range));
  const std::uint64_t dropped = 9;
  index->drop_tags(&dropped, 1);
  CHECK_EQUAL(std::size_t{0}, found(tag));
}

}  // namespace
}  // namespace vecdb::test
