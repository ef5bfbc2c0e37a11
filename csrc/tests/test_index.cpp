// The index of a collection against a plain model: what a search gives, what a change does, what is refused.

#include <limits>

#include "index_world.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 4;

bool every(const Model::Point&) { return true; }

// A random change applied to both.
class World {
 public:
  explicit World(std::mt19937_64& random) : random_(random), model({Metric::l2, Metric::dot}), index(make()) {}

  void step() {
    Change change;
    change.present.resize(2);
    std::vector<float> rows[2];
    const std::uint32_t count = static_cast<std::uint32_t>(random_() % 60);
    const Offset first = static_cast<Offset>(model.points.size());
    for (std::uint32_t i = 0; i < count; ++i) {
      Model::Point point;
      if (random_() % 2 == 0) {
        point.number = next_number_++;
        change.add_int(point.number);
      } else {
        point.kind = 1;
        point.text = "key " + std::to_string(random_() % 1000) + "-" + std::to_string(model.points.size());
        change.add_text(point.text);
      }
      for (std::uint32_t field = 0; field < 2; ++field) {
        // Field 0 is always there for the first changes, field 1 often is not.
        const bool is_there = field == 0 ? first < 200 || random_() % 10 != 0 : random_() % 3 == 0;
        change.present[field].push_back(is_there ? 1 : 0);
        if (!is_there) continue;
        const std::vector<float> row = whole_values(random_, kDim);
        rows[field].insert(rows[field].end(), row.begin(), row.end());
        point.rows[field] = row;
      }
      for (std::uint64_t tag = 0; tag < 5; ++tag) {
        if (random_() % (tag + 2) != 0) continue;
        point.tags.insert(tag);
        change.tag_offsets.push_back(first + i);
        change.tags.push_back(tag);
      }
      model.points.push_back(point);
    }
    for (std::uint64_t i = random_() % 20; i > 0 && !model.points.empty(); --i) {
      const auto offset = static_cast<Offset>(random_() % model.points.size());
      change.tombstones.push_back(offset);
      model.points[offset].lives = false;
    }
    for (std::uint64_t i = random_() % 20; i > 0 && first > 0; --i) {
      const auto offset = static_cast<Offset>(random_() % first);
      change.untag_offsets.push_back(offset);
      change.untags.push_back(1);
      model.points[offset].tags.erase(1);
    }
    for (std::uint32_t field = 0; field < 2; ++field) index->append_rows(field, rows[field].data(), rows[field].size() / kDim);
    CHECK_EQUAL(++version_, apply(*index, first, change));
  }

  std::uint64_t version() const { return version_; }

 private:
  static std::unique_ptr<Index> make() {
    const vecdb_field fields[] = {{kDim, VECDB_L2, 16, 100, 1, VECDB_EIGHT_BITS}, {kDim, VECDB_DOT, 16, 100, 1, VECDB_EIGHT_BITS}};
    return std::make_unique<Index>(fields, 2, 0);
  }

  std::mt19937_64& random_;
  std::uint64_t next_number_ = 5;
  std::uint64_t version_ = 0;

 public:
  Model model;
  std::unique_ptr<Index> index;
};

Index& small_index(std::unique_ptr<Index>& owner) {
  const vecdb_field field{kDim, VECDB_L2, 16, 100, 1, VECDB_EIGHT_BITS};
  std::mt19937_64 random(3);
  owner = filled_index(field, 0, whole_values(random, 50 * kDim), [](Offset) { return std::vector<std::uint64_t>{}; });
  return *owner;
}

}  // namespace

THREADED_TEST(search_gives_the_true_neighbours_in_the_order_of_score_and_id) {
  std::mt19937_64 random = seeded("index model", 31);
  constexpr std::size_t kQueries = 13;  // more than are compared at once, and a few that are not worth it
  for (int round = 0; round < 6; ++round) {
    World world(random);
    for (int step = 0; step < 25; ++step) {
      world.step();
      const std::uint32_t field = static_cast<std::uint32_t>(random() % 2);
      const std::uint64_t tag = random() % 6;
      const std::vector<float> queries = whole_values(random, kQueries * kDim);
      Ask ask;
      ask.field = field;
      ask.k = static_cast<std::uint32_t>(1 + random() % 30);
      ask.exact = random() % 2 == 0;
      ask.threads = static_cast<std::uint32_t>(random() % 3);
      std::function<bool(const Model::Point&)> fits = every;
      if (random() % 3 != 0) {
        const bool negated = random() % 2 == 0;
        ask.program = {VECDB_OP_TAG, tag};
        if (negated) ask.program.push_back(VECDB_OP_NOT);
        fits = [=](const Model::Point& point) { return (point.tags.count(tag) == 1) != negated; };
      }
      const Answer answer = search(*world.index, queries, kDim, ask);
      for (std::size_t q = 0; q < kQueries; ++q) {
        const std::vector<Offset> expected = world.model.best(field, queries.data() + q * kDim, ask.k, fits);
        CHECK(expected == offsets_of(answer.hits[q]));
        for (const Hit& hit : answer.hits[q]) {
          const Model::Point& point = world.model.points[hit.offset];
          if (point.kind == 0)
            CHECK_EQUAL(point.number, hit.id);
          else
            CHECK_EQUAL(point.text, std::string(world.index->id_text(hit.id)));
          const Metric metric = field == 0 ? Metric::l2 : Metric::dot;
          const double distance = plain_distance(metric, queries.data() + q * kDim, point.rows.at(field).data(), kDim);
          CHECK_EQUAL(static_cast<float>(field == 0 ? std::sqrt(distance) : -distance), hit.score);
        }
      }
      std::uint64_t total = 0, matching = 0;
      for (const Model::Point& point : world.model.points) {
        if (!point.lives || point.rows.count(field) == 0) continue;
        ++total;
        matching += fits(point) ? 1 : 0;
      }
      CHECK_EQUAL(total, answer.plan.total);
      CHECK_EQUAL(matching, answer.plan.cardinality);
      CHECK_EQUAL(world.version(), answer.plan.version);
    }
  }
}

TEST(count_select_rows_and_ids_agree_with_the_model) {
  std::mt19937_64 random = seeded("index look-ups", 32);
  World world(random);
  for (int step = 0; step < 12; ++step) world.step();
  const std::vector<std::uint64_t> words = {VECDB_OP_TAG, 2};
  const Program program(words.data(), words.size(), Operands::all);
  std::vector<Offset> expected;
  std::vector<Offset> all;
  for (Offset offset = 0; offset < world.model.points.size(); ++offset) {
    all.push_back(offset);
    if (world.model.points[offset].lives && world.model.points[offset].tags.count(2) == 1) expected.push_back(offset);
  }
  CHECK_EQUAL(expected.size(), world.index->count(program).count);
  CHECK(expected == world.index->select(program).offsets);
  CHECK_EQUAL(world.version(), world.index->select(program).version);

  std::vector<float> rows(all.size() * kDim);
  std::vector<std::uint8_t> present(all.size());
  world.index->get_rows(1, all.data(), all.size(), rows.data(), present.data());
  for (const Offset offset : all) {
    const auto row = world.model.points[offset].rows.find(1);
    const std::vector<float> expected_row = row == world.model.points[offset].rows.end() ? std::vector<float>(kDim, 0.0F) : row->second;
    CHECK_EQUAL(row != world.model.points[offset].rows.end(), present[offset] == 1);
    CHECK(std::equal(expected_row.begin(), expected_row.end(), rows.begin() + offset * kDim));
  }
  const vecdb_index_stats stats = world.index->stats();
  CHECK_EQUAL(world.model.points.size(), stats.offsets);
  CHECK_EQUAL(static_cast<std::uint64_t>(std::count_if(all.begin(), all.end(), [&](Offset o) { return world.model.points[o].lives; })),
              stats.live);
}

TEST(dropped_tags_and_columns_select_nothing) {
  std::mt19937_64 random(33);
  const vecdb_field field{kDim, VECDB_L2, 16, 100, 1, VECDB_EIGHT_BITS};
  const auto index = filled_index(field, 0, whole_values(random, 20 * kDim), [](Offset) { return std::vector<std::uint64_t>{8}; });
  Change change;
  change.present.resize(1);
  change.columns = {4, 4};
  change.column_offsets = {3, 5};
  change.values = {1.5, 2.5};
  change.rests = {0, 0};
  apply(*index, 20, change);
  const std::vector<std::uint64_t> tag = {VECDB_OP_TAG, 8};
  const std::vector<std::uint64_t> range = {VECDB_OP_RANGE, 4, 0, 0, 0, 0, 0};
  CHECK_EQUAL(20U, index->count(Program(tag.data(), tag.size(), Operands::all)).count);
  CHECK_EQUAL(2U, index->count(Program(range.data(), range.size(), Operands::all)).count);
  const std::uint64_t dropped[] = {8};
  index->drop_tags(dropped, 1);
  index->drop_column(4);
  CHECK_EQUAL(0U, index->count(Program(tag.data(), tag.size(), Operands::all)).count);
  CHECK_EQUAL(0U, index->count(Program(range.data(), range.size(), Operands::all)).count);
}

TEST(a_wrong_change_is_refused_and_changes_nothing) {
  std::unique_ptr<Index> owner;
  Index& index = small_index(owner);
  const vecdb_index_stats before = index.stats();
  const auto refused = [&](const char* part, Offset first, const Change& change) {
    const std::string message = CHECK_THROWS(Code::invalid_argument, apply(index, first, change));
    if (message.find(part) == std::string::npos) fail(__FILE__, __LINE__, message);
  };
  Change empty;
  empty.present.resize(1);
  refused("first_offset is 49, expected 50", 49, empty);

  Change unstored = empty;
  unstored.add_int(1);
  unstored.present[0].push_back(1);
  refused("50 rows are stored, this change needs 51", 50, unstored);

  Change tombstone = empty;
  tombstone.tombstones = {50};
  refused("tombstones[0] is offset 50", 50, tombstone);

  Change tag = empty;
  tag.tag_offsets = {0, 77};
  tag.tags = {1, 1};
  refused("is offset 77", 50, tag);

  Change not_a_number = empty;
  not_a_number.columns = {0};
  not_a_number.column_offsets = {0};
  not_a_number.values = {std::numeric_limits<double>::quiet_NaN()};
  not_a_number.rests = {0};
  refused("NaN", 50, not_a_number);

  Change bad_text = empty;
  bad_text.add_text("abc");
  bad_text.text = "a";
  bad_text.present[0].push_back(0);
  refused("its text is bytes", 50, bad_text);

  const vecdb_index_stats after = index.stats();
  CHECK_EQUAL(before.version, after.version);
  CHECK_EQUAL(before.offsets, after.offsets);
  CHECK_EQUAL(before.tag_bytes, after.tag_bytes);
}

TEST(a_wrong_search_is_refused) {
  std::unique_ptr<Index> owner;
  Index& index = small_index(owner);
  const std::vector<float> query(kDim, 0.0F);
  Ask no_k;
  no_k.k = 0;
  CHECK_THROWS(Code::invalid_argument, search(index, query, kDim, no_k));
  Ask no_field;
  no_field.field = 1;
  CHECK_THROWS(Code::invalid_argument, search(index, query, kDim, no_field));
  Ask no_program;
  no_program.program = {77};
  CHECK_THROWS(Code::invalid_argument, search(index, query, kDim, no_program));
  const std::vector<float> infinite(kDim, std::numeric_limits<float>::infinity());
  const std::string message = CHECK_THROWS(Code::invalid_argument, search(index, infinite, kDim, Ask{}));
  CHECK(message.find("query 0") != std::string::npos);
}

TEST(wrong_fields_are_refused) {
  const auto refused = [](vecdb_field field) { CHECK_THROWS(Code::invalid_argument, Index(&field, 1, 0)); };
  refused({0, VECDB_L2, 16, 100, 1, VECDB_EIGHT_BITS});
  refused({4, 3, 16, 100, 1, VECDB_EIGHT_BITS});
  refused({4, VECDB_L2, 1, 100, 1, VECDB_EIGHT_BITS});
  refused({4, VECDB_L2, 16, 0, 1, VECDB_EIGHT_BITS});
  refused({4, VECDB_L2, 16, 100, 1, 2});
}

TEST(a_small_collection_has_no_graph_and_nothing_to_wait_for) {
  std::unique_ptr<Index> owner;
  Index& index = small_index(owner);
  CHECK(index.indexer().wait(std::chrono::milliseconds(0)));
  CHECK_EQUAL(0U, index.indexer().help(1000));
  const vecdb_field_stats stats = index.field_stats(0);
  CHECK_EQUAL(50U, stats.rows);
  CHECK_EQUAL(0U, stats.indexed_rows);
  CHECK_EQUAL(0U, stats.graph_bytes);
  const Answer answer = search(index, std::vector<float>(kDim, 0.0F), kDim, Ask{});
  CHECK_EQUAL(static_cast<std::uint32_t>(VECDB_PLAN_EXACT), answer.plan.strategy);
}

}  // namespace vecdb::test
