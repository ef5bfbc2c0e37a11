// An Index together with a plain model of what it must hold, for the tests of index*.cpp. Vectors are small whole numbers, so that
// distances are exact and ties frequent.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "index.hpp"
#include "samples.hpp"
#include "vecdb.h"

namespace vecdb::test {

constexpr std::uint64_t kPlaceShift = 16;

// The arrays of one vecdb_changes.
struct Change {
  std::vector<std::uint64_t> ids;
  std::vector<std::uint8_t> kinds;
  std::string text;
  std::vector<std::vector<std::uint8_t>> present;  // by field
  std::vector<Offset> tombstones;
  std::vector<Offset> tag_offsets;
  std::vector<std::uint64_t> tags;
  std::vector<Offset> untag_offsets;
  std::vector<std::uint64_t> untags;
  std::vector<std::uint32_t> columns;
  std::vector<Offset> column_offsets;
  std::vector<double> values;
  std::vector<std::int32_t> rests;
  std::vector<std::uint32_t> left_columns;
  std::vector<Offset> left_offsets;
  std::vector<double> left_values;
  std::vector<std::int32_t> left_rests;
  std::vector<std::uint32_t> geo_columns;
  std::vector<Offset> geo_offsets;
  std::vector<double> lats;
  std::vector<double> lons;

  void add_int(std::uint64_t id) {
    ids.push_back(id);
    kinds.push_back(0);
  }
  void add_value(std::uint32_t column, Offset offset, double value) {
    columns.push_back(column);
    column_offsets.push_back(offset);
    values.push_back(value);
    rests.push_back(0);
  }
  void remove_value(std::uint32_t column, Offset offset, double value) {
    left_columns.push_back(column);
    left_offsets.push_back(offset);
    left_values.push_back(value);
    left_rests.push_back(0);
  }
  void add_point(std::uint32_t column, Offset offset, double lat, double lon) {
    geo_columns.push_back(column);
    geo_offsets.push_back(offset);
    lats.push_back(lat);
    lons.push_back(lon);
  }
  void add_text(const std::string& id) {
    ids.push_back(text.size() << kPlaceShift | id.size());
    kinds.push_back(1);
    text += id;
  }
};

inline std::uint64_t apply(Index& index, Offset first, const Change& change) {
  std::vector<std::uint8_t> present;
  for (const std::vector<std::uint8_t>& field : change.present) present.insert(present.end(), field.begin(), field.end());
  vecdb_changes c{};
  c.first_offset = first;
  c.count = static_cast<std::uint32_t>(change.ids.size());
  c.ids = change.ids.data();
  c.id_kinds = change.kinds.data();
  c.id_bytes = change.text.data();
  c.id_bytes_size = change.text.size();
  c.present = present.data();
  c.tombstones = change.tombstones.data();
  c.tombstone_count = change.tombstones.size();
  c.tag_added_offsets = change.tag_offsets.data();
  c.tag_added = change.tags.data();
  c.tag_added_count = change.tags.size();
  c.tag_removed_offsets = change.untag_offsets.data();
  c.tag_removed = change.untags.data();
  c.tag_removed_count = change.untags.size();
  c.column_added = change.columns.data();
  c.column_added_offsets = change.column_offsets.data();
  c.column_added_values = change.values.data();
  c.column_added_rests = change.rests.data();
  c.column_added_count = change.columns.size();
  c.column_removed = change.left_columns.data();
  c.column_removed_offsets = change.left_offsets.data();
  c.column_removed_values = change.left_values.data();
  c.column_removed_rests = change.left_rests.data();
  c.column_removed_count = change.left_columns.size();
  c.geo_added = change.geo_columns.data();
  c.geo_added_offsets = change.geo_offsets.data();
  c.geo_added_lats = change.lats.data();
  c.geo_added_lons = change.lons.data();
  c.geo_added_count = change.geo_columns.size();
  return index.apply(c);
}

struct Hit {
  Offset offset;
  float score;
  std::uint64_t id;
};

struct Answer {
  vecdb_plan plan;
  std::vector<std::vector<Hit>> hits;  // by query
};

struct Ask {
  std::uint32_t field = 0;
  std::uint32_t k = 10;
  std::uint32_t ef = 0;
  bool exact = false;
  std::uint32_t threads = 1;
  std::vector<std::uint64_t> program;
};

inline Answer search(Index& index, const std::vector<float>& queries, std::size_t dim, const Ask& ask) {
  const std::size_t count = queries.size() / dim;
  std::vector<std::uint32_t> offsets(count * ask.k), counts(count);
  std::vector<std::uint64_t> ids(count * ask.k);
  std::vector<std::uint8_t> kinds(count * ask.k);
  std::vector<float> scores(count * ask.k);
  const vecdb_search asked{ask.field,         ask.k, ask.ef, ask.exact ? 1U : 0U, ask.threads, queries.data(), count, ask.program.data(),
                           ask.program.size()};
  Answer answer{index.search(asked, {offsets.data(), ids.data(), kinds.data(), scores.data(), counts.data()}), {}};
  for (std::size_t q = 0; q < count; ++q) {
    answer.hits.emplace_back();
    for (std::size_t i = q * ask.k; i < q * ask.k + counts[q]; ++i) answer.hits.back().push_back({offsets[i], scores[i], ids[i]});
  }
  return answer;
}

inline std::vector<float> whole_values(std::mt19937_64& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(static_cast<int>(random() % 5) - 2);
  return values;
}

// What the index must hold, and the k best of it by plain arithmetic: the score, then the id (ints before strs).
class Model {
 public:
  struct Point {
    bool lives = true;
    int kind = 0;
    std::uint64_t number = 0;
    std::string text;
    std::set<std::uint64_t> tags;
    std::map<std::uint32_t, std::vector<float>> rows;  // by field
  };

  explicit Model(std::vector<Metric> metrics) : metrics_(std::move(metrics)) {}

  std::vector<Point> points;

  std::vector<Offset> best(std::uint32_t field, const float* query, std::size_t k, const std::function<bool(const Point&)>& fits) const {
    std::vector<std::pair<std::pair<float, std::pair<int, std::pair<std::uint64_t, std::string>>>, Offset>> all;
    for (Offset offset = 0; offset < points.size(); ++offset) {
      const Point& point = points[offset];
      const auto row = point.rows.find(field);
      if (!point.lives || row == point.rows.end() || !fits(point)) continue;
      const double distance = plain_distance(metrics_[field], query, row->second.data(), row->second.size());
      all.push_back({{static_cast<float>(distance), {point.kind, {point.number, point.text}}}, offset});
    }
    std::sort(all.begin(), all.end());
    std::vector<Offset> found;
    for (std::size_t i = 0; i < std::min(k, all.size()); ++i) found.push_back(all[i].second);
    return found;
  }

 private:
  std::vector<Metric> metrics_;
};

inline std::vector<Offset> offsets_of(const std::vector<Hit>& hits) {
  std::vector<Offset> offsets;
  for (const Hit& hit : hits) offsets.push_back(hit.offset);
  return offsets;
}

// One field of dim dimensions whose graph is cheap to build, filled with rows; every offset o has id o and the tags that tags_of gives.
inline std::unique_ptr<Index> filled_index(const vecdb_field& field, std::uint32_t threads, const std::vector<float>& rows,
                                           const std::function<std::vector<std::uint64_t>(Offset)>& tags_of) {
  auto index = std::make_unique<Index>(&field, 1, threads);
  const auto count = static_cast<Offset>(rows.size() / field.dim);
  index->append_rows(0, rows.data(), count);
  Change change;
  change.present.emplace_back(count, 1);
  for (Offset offset = 0; offset < count; ++offset) {
    change.add_int(offset);
    for (const std::uint64_t tag : tags_of(offset)) {
      change.tag_offsets.push_back(offset);
      change.tags.push_back(tag);
    }
  }
  apply(*index, 0, change);
  return index;
}

// One query a call: those of a batch share a scan, which links may not gain on.
inline void search_each(Index& index, const std::vector<float>& queries, std::uint32_t dim, const Ask& ask) {
  for (std::size_t q = 0; q < queries.size() / dim; ++q) {
    search(index, std::vector<float>(&queries[q * dim], &queries[q * dim] + dim), dim, ask);
  }
}

}  // namespace vecdb::test
