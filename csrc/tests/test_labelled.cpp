// The labelled index: labels, places, tags and their links against brute force; its files; and everything at once in threads.

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "labelled.hpp"
#include "labelled_file.hpp"
#include "labelled_samples.hpp"
#include "samples.hpp"
#include "vecdb.h"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 8;

LabelledOptions options_for(std::uint64_t max_elements, DeletedPlaces places = DeletedPlaces::kept) {
  LabelledOptions options;
  options.dim = kDim;
  options.metric = Metric::l2;
  options.m = 8;
  options.ef_construction = 60;
  options.seed = 7;
  options.max_elements = max_elements;
  options.deleted_places = places;
  return options;
}

std::vector<Label> labels_from(Label first, std::size_t count) {
  std::vector<Label> labels(count);
  for (std::size_t i = 0; i < count; ++i) labels[i] = first + i;
  return labels;
}

std::vector<Label> found(const LabelledIndex& index, const float* query, std::uint32_t k, const std::vector<std::uint64_t>& words = {}) {
  const Program program(words.data(), words.size(), Operands::tags_only);
  LabelledQuery request{program};
  request.queries = query;
  request.query_count = 1;
  request.k = k;
  request.ef = 100;
  std::vector<Label> labels(k);
  std::vector<float> distances(k);
  std::uint32_t count = 0;
  index.search(request, {labels.data(), distances.data(), &count});
  labels.resize(count);
  return labels;
}

std::vector<Label> expected(const std::vector<float>& rows, const float* query, std::size_t k, const std::function<bool(Row)>& allowed) {
  std::vector<Label> labels;
  for (const Row row : plain_nearest(Metric::l2, query, rows.data(), rows.size() / kDim, kDim, k, allowed)) labels.push_back(row);
  return labels;
}

// Share of the expected labels that were found.
double recall(const std::vector<Label>& wanted, const std::vector<Label>& got) {
  const std::set<Label> all(got.begin(), got.end());
  double hits = 0;
  for (const Label label : wanted) hits += static_cast<double>(all.count(label));
  return wanted.empty() ? 1.0 : hits / static_cast<double>(wanted.size());
}

TEST(a_full_index_refuses_the_next_label_and_keeps_the_rows_before) {
  LabelledIndex index(make_content(options_for(3)));
  const std::vector<float> rows(5 * kDim, 1.0F);
  CHECK_THROWS(Code::capacity, index.add(rows.data(), labels_from(0, 5).data(), 5, 1, Places::fresh));
  CHECK_EQUAL(3U, index.stats().count);
  index.resize(5);
  index.add(rows.data(), labels_from(0, 5).data(), 5, 1, Places::fresh);
  CHECK_EQUAL(5U, index.stats().count);
}

THREADED_TEST(the_later_of_two_rows_with_one_label_stands) {
  LabelledIndex index(make_content(options_for(4)));
  std::vector<float> rows(2 * kDim, 0.0F);
  rows[kDim] = 5.0F;
  const std::vector<Label> labels{9, 9};
  index.add(rows.data(), labels.data(), 2, 2, Places::fresh);
  std::vector<float> out(kDim);
  index.copy_rows(labels.data(), 1, out.data());
  CHECK_EQUAL(5.0F, out[0]);
  CHECK_EQUAL(1U, index.stats().count);
}

TEST(a_deleted_place_is_reused_without_its_label_and_tags) {
  LabelledIndex index(make_content(options_for(2, DeletedPlaces::reused)));
  std::mt19937_64 random = seeded("rows", 3);
  const std::vector<float> rows = normal_values(random, 3 * kDim);
  const std::vector<Label> labels = labels_from(0, 3);
  index.add(rows.data(), labels.data(), 2, 1, Places::fresh);
  index.add_tags(labels.data(), 2, 5);
  index.mark_deleted(0);
  index.add(rows.data() + 2 * kDim, labels.data() + 2, 1, 1, Places::deleted_first);
  CHECK_EQUAL(2U, index.stats().count);
  CHECK_EQUAL(0U, index.stats().deleted);
  CHECK(index.tags_of(2).empty());
  CHECK_THROWS(Code::not_found, index.tags_of(0));
  CHECK(found(index, rows.data(), 3) == (std::vector<Label>{1, 2}) || found(index, rows.data(), 3) == (std::vector<Label>{2, 1}));
  CHECK(found(index, rows.data(), 3, {VECDB_OP_TAG, 5}) == std::vector<Label>{1});
}

THREADED_TEST(links_of_a_tag_follow_every_change_of_tags_and_vectors) {
  const std::size_t count = 1500;
  std::mt19937_64 random = seeded("links", 11);
  std::vector<float> rows = clustered_rows(random, count, kDim, 20);
  LabelledIndex index(make_content(options_for(count, DeletedPlaces::reused)));
  const std::vector<Label> labels = labels_from(0, count);
  index.add(rows.data(), labels.data(), count, 2, Places::fresh);
  std::vector<bool> tagged(count, false);
  const auto tag = [&](Label first, Label last) {
    for (Label label = first; label < last; ++label) tagged[label] = true;
    index.add_tags(labels.data() + first, last - first, 42);
  };
  tag(0, 400);
  index.link_tags({42}, 0, 2);
  tag(400, 1000);
  index.remove_tags(labels.data() + 100, 50, 42);
  for (Label label = 100; label < 150; ++label) tagged[label] = false;
  const std::vector<float> moved = clustered_rows(random, 100, kDim, 5);
  std::copy(moved.begin(), moved.end(), rows.begin() + 200 * kDim);
  index.add(moved.data(), labels.data() + 200, 100, 2, Places::fresh);
  for (Label label = 500; label < 520; ++label) {
    index.mark_deleted(label);
    tagged[label] = false;
  }
  double total = 0;
  const std::size_t queries = 50;
  for (std::size_t i = 0; i < queries; ++i) {
    const std::vector<float> query = clustered_rows(random, 1, kDim, 1);
    const std::vector<Label> wanted = expected(rows, query.data(), 10, [&](Row row) { return tagged[row]; });
    const std::vector<Label> got = found(index, query.data(), 10, {VECDB_OP_TAG, 42});
    CHECK_EQUAL(wanted.size(), got.size());
    for (const Label label : got) CHECK(tagged[label]);
    total += recall(wanted, got);
  }
  CHECK(total / queries > 0.95);
}

TEST(links_alone_find_what_they_are_for_however_they_grew) {
  const Row count = 1200;
  std::mt19937_64 random = seeded("sub-graph", 12);
  std::vector<float> rows = clustered_rows(random, count, kDim, 20);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), count);
  TagLinks links(vectors, {8, 3, 8}, {8, 60, 1}, 0);
  CHECK(links.tags() == (std::vector<Tag>{3, 8}));
  CHECK(links.covers({8}) && links.covers({3, 8}) && !links.covers({3, 4}));
  const std::shared_ptr<const Graph> before = links.graph();
  for (Row row = 1; row < count; row += 2) links.insert(row);
  links.insert(1);
  CHECK_EQUAL(count / 2, links.members());
  CHECK(before != links.graph());
  const std::vector<float> moved = clustered_rows(random, 1, kDim, 1);
  for (Row row = 0; row < 100; ++row) {
    std::copy(moved.begin(), moved.end(), rows.begin() + row * kDim);
    rows[row * kDim] += static_cast<float>(row);
    vectors.overwrite(row, rows.data() + row * kDim);
    links.update(row);
  }
  Bitset gate(count);
  for (Row row = 0; row < count; ++row) {
    if (row % 3 != 0) gate.set(row);
  }
  Scratch scratch;
  double total = 0;
  const int queries = 100;
  for (int i = 0; i < queries; ++i) {
    const std::vector<float> query = clustered_rows(random, 1, kDim, 1);
    Ranking ranking(10, vectors, nullptr);
    search_graph(*links.graph(), vectors, Query(query.data(), kDim, Metric::l2), {gate.words(), count}, 60, kNoLimit, scratch, ranking);
    std::vector<Label> got;
    for (const Candidate& candidate : ranking.take()) {
      CHECK(candidate.row % 2 == 1 && candidate.row % 3 != 0);
      got.push_back(candidate.row);
    }
    CHECK_EQUAL(10U, got.size());
    total += recall(expected(rows, query.data(), 10, [](Row row) { return row % 2 == 1 && row % 3 != 0; }), got);
  }
  CHECK(total / queries > 0.95);
}

TEST(a_program_promises_the_unions_that_all_its_matches_are_in) {
  const auto unions = [](const std::vector<std::uint64_t>& words) {
    return required_unions(Program(words.data(), words.size(), Operands::all));
  };
  using Unions = std::vector<std::vector<Tag>>;
  CHECK(unions({}) == Unions{});
  CHECK(unions({VECDB_OP_TAG, 4}) == (Unions{{4}}));
  CHECK(unions({VECDB_OP_TAG, 4, VECDB_OP_NOT}) == Unions{});
  CHECK(unions({VECDB_OP_TAG, 4, VECDB_OP_TAG, 5, VECDB_OP_OR, 2}) == (Unions{{4, 5}}));
  CHECK(unions({VECDB_OP_TAG, 4, VECDB_OP_TAG, 5, VECDB_OP_NOT, VECDB_OP_OR, 2}) == Unions{});
  CHECK(unions({VECDB_OP_ANY_TAG, 2, 1, 2, VECDB_OP_TAG, 5, VECDB_OP_AND, 2}) == (Unions{{1, 2}, {5}}));
  CHECK(unions({VECDB_OP_TAG, 1, VECDB_OP_TAG, 2, VECDB_OP_AT_LEAST, 2, 1}) == Unions{});
  CHECK(unions({VECDB_OP_ALL}) == Unions{});
  // Operands that look like operations are passed over.
  const std::vector<std::uint64_t> wide[] = {
      {VECDB_OP_RANGE, 3, 0, 3, 3, 3, 3}, {VECDB_OP_OFFSETS, 3, 3, 4, 7}, {VECDB_OP_GEO, 3, VECDB_GEO_BOX, 4, 3, 4, 7, 8}, {VECDB_OP_NONE}};
  for (std::vector<std::uint64_t> words : wide) {
    words.insert(words.end(), {VECDB_OP_TAG, 9, VECDB_OP_AND, 2});
    CHECK(unions(words) == (Unions{{9}}));
  }
}

TEST(a_saved_main_file_loads_to_the_same_bytes) {
  std::mt19937_64 random = seeded("file", 5);
  const std::size_t count = 300;
  const std::vector<float> rows = clustered_rows(random, count, kDim, 10);
  LabelledIndex index(make_content(options_for(400)));
  index.add(rows.data(), labels_from(1000, count).data(), count, 1, Places::fresh);
  index.mark_deleted(1007);
  const std::vector<std::uint8_t> bytes = main_file(index);
  const LabelledIndex loaded(read_main_file(options_for(0), bytes.data(), bytes.size()));
  CHECK(bytes == main_file(loaded));
  CHECK_EQUAL(400U, loaded.stats().options.max_elements);
  CHECK_EQUAL(1U, loaded.stats().deleted);
}

TEST(no_cut_and_no_flipped_bit_of_a_main_file_does_harm) {
  std::mt19937_64 random = seeded("damage", 6);
  const std::size_t count = 20;
  const std::vector<float> rows = clustered_rows(random, count, kDim, 4);
  LabelledIndex index(make_content(options_for(count)));
  index.add(rows.data(), labels_from(0, count).data(), count, 1, Places::fresh);
  const std::vector<std::uint8_t> bytes = main_file(index);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK_THROWS(Code::corruption, read_main_file(options_for(0), bytes.data(), size));
  }
  // The format has no checksum: a flip is refused, or gives an index that works.
  constexpr std::size_t kHeaderBits = 96 * 8;
  for (std::size_t bit = 0; bit < bytes.size() * 8; bit += bit < kHeaderBits ? 1 : 61) {
    std::vector<std::uint8_t> flipped = bytes;
    flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ (1U << (bit % 8)));
    try {
      const LabelledIndex loaded(read_main_file(options_for(0), flipped.data(), flipped.size()));
      CHECK(found(loaded, rows.data(), 3).size() == 3);
    } catch (const Error& error) {
      CHECK_EQUAL(static_cast<int>(Code::corruption), static_cast<int>(error.code()));
    }
  }
}

template <class Body>
void unless_gone(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
  }
}

// Each thread owns some labels, so that it knows what must be there; searches check what they find against all that may be.
THREADED_TEST(adding_searching_deleting_replacing_and_tagging_may_run_at_once) {
  constexpr std::size_t kWriters = 3;
  constexpr std::size_t kEach = 60;
  constexpr int kRounds = 3;
  std::mt19937_64 random = seeded("threads", 21);
  const std::vector<float> rows = clustered_rows(random, kWriters * kEach, kDim, 10);
  LabelledIndex index(make_content(options_for(4 * kWriters * kEach, DeletedPlaces::reused)));
  const float origin[kDim] = {};
  const Label first_label = 0;
  index.add(origin, &first_label, 1, 1, Places::fresh);
  index.add_tags(&first_label, 1, 1);
  index.link_tags({1}, 0, 1);
  std::atomic<bool> done{false};
  std::atomic<int> failures{0};
  const auto writer = [&](std::size_t number) {
    const std::vector<Label> labels = labels_from(1 + number * kEach, kEach);
    const float* const own = rows.data() + number * kEach * kDim;
    for (int round = 0; round < kRounds; ++round) {
      index.add(own, labels.data(), kEach, 2, Places::deleted_first);
      index.add_tags(labels.data(), kEach, 1);
      for (std::size_t i = 0; i < kEach; i += 2) index.mark_deleted(labels[i]);
      // Another writer may have taken a deleted point's place: its label is gone then.
      for (std::size_t i = 0; i < kEach; i += 4) unless_gone([&] { index.unmark_deleted(labels[i]); });
      for (std::size_t i = 0; i < kEach / 2; ++i) unless_gone([&] { index.remove_tags(labels.data() + i, 1, 1); });
    }
    // What is deleted may be replaced by the others, so it is added again.
    index.add(own, labels.data(), kEach, 1, Places::deleted_first);
  };
  const auto searcher = [&] {
    while (!done) {
      const std::vector<Label> all = found(index, rows.data(), 5);
      const std::vector<Label> tagged = found(index, rows.data(), 5, {VECDB_OP_TAG, 1});
      if (all.empty() || tagged.empty() || std::set<Label>(all.begin(), all.end()).size() != all.size()) ++failures;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) threads.emplace_back(searcher);
  std::vector<std::thread> writers;
  for (std::size_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([&, i] {
      try {
        writer(i);
      } catch (const std::exception& error) {
        std::printf("        %s\n", error.what());
        ++failures;
      }
    });
  }
  index.resize(5 * kWriters * kEach);
  for (std::thread& thread : writers) thread.join();
  done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(0, failures.load());
  for (std::size_t i = 0; i < kWriters * kEach; ++i) {
    std::vector<float> out(kDim);
    const Label label = 1 + i;
    index.copy_rows(&label, 1, out.data());
    CHECK(std::equal(out.begin(), out.end(), rows.begin() + static_cast<std::ptrdiff_t>(i * kDim)));
  }
}

}  // namespace
}  // namespace vecdb::test
