// Checks the arrays of a change one by one, and sorts them by tag and by column.

#include "changes.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "error.hpp"

namespace vecdb {

namespace {

void need(const void* array, std::uint64_t count, const char* name) {
  if (array == nullptr && count != 0) {
    throw Error(Code::invalid_argument, std::string(name) + " is NULL, expected " + std::to_string(count) + " elements");
  }
}

void check_offset(Offset offset, std::uint64_t end, const char* name, std::uint64_t position) {
  if (offset >= end) {
    throw Error(Code::invalid_argument, std::string(name) + "[" + std::to_string(position) + "] is offset " + std::to_string(offset) +
                                            ", expected one below " + std::to_string(end));
  }
}

std::vector<TagEntry> tag_entries(const Offset* offsets, const std::uint64_t* tags, std::uint64_t count, std::uint64_t end,
                                  const char* name) {
  need(offsets, count, name);
  need(tags, count, name);
  std::vector<TagEntry> entries;
  entries.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    check_offset(offsets[i], end, name, i);
    entries.push_back({tags[i], offsets[i]});
  }
  if (!std::is_sorted(entries.begin(), entries.end())) std::sort(entries.begin(), entries.end());
  return entries;
}

template <class Batch, class Entry>
std::vector<Batch> batches_of(std::map<std::uint32_t, std::vector<Entry>> by_column) {
  std::vector<Batch> batches;
  for (auto& [column, entries] : by_column) batches.push_back({column, std::move(entries)});
  return batches;
}

struct RawColumns {
  const std::uint32_t* columns;
  const Offset* offsets;
  const double* values;
  const std::int32_t* rests;
  std::uint64_t count;
};

std::vector<ColumnBatch> column_entries(const RawColumns& raw, std::uint64_t end, const char* name) {
  need(raw.columns, raw.count, name);
  need(raw.offsets, raw.count, name);
  need(raw.values, raw.count, name);
  need(raw.rests, raw.count, name);
  std::map<std::uint32_t, std::vector<ColumnEntry>> by_column;
  for (std::uint64_t i = 0; i < raw.count; ++i) {
    check_offset(raw.offsets[i], end, name, i);
    if (std::isnan(raw.values[i])) {
      throw Error(Code::invalid_argument,
                  std::string(name) + "[" + std::to_string(i) + "] has the value NaN, which has no place in an order");
    }
    by_column[raw.columns[i]].push_back({raw.values[i], raw.rests[i], raw.offsets[i]});
  }
  return batches_of<ColumnBatch>(std::move(by_column));
}

struct RawPoints {
  const std::uint32_t* columns;
  const Offset* offsets;
  const double* lats;
  const double* lons;
  std::uint64_t count;
};

std::vector<GeoBatch> geo_entries(const RawPoints& raw, std::uint64_t end, const char* name) {
  need(raw.columns, raw.count, name);
  need(raw.offsets, raw.count, name);
  need(raw.lats, raw.count, name);
  need(raw.lons, raw.count, name);
  std::map<std::uint32_t, std::vector<GeoEntry>> by_column;
  for (std::uint64_t i = 0; i < raw.count; ++i) {
    check_offset(raw.offsets[i], end, name, i);
    if (!std::isfinite(raw.lats[i]) || !std::isfinite(raw.lons[i])) {
      throw Error(Code::invalid_argument,
                  std::string(name) + "[" + std::to_string(i) + "] is a point with a degree that is not finite, expected numbers");
    }
    by_column[raw.columns[i]].push_back(GeoEntry::of({raw.lats[i], raw.lons[i]}, raw.offsets[i]));
  }
  return batches_of<GeoBatch>(std::move(by_column));
}

}  // namespace

PreparedEntries prepare_entries(const vecdb_changes& changes, std::uint64_t end) {
  need(changes.ids, changes.count, "ids");
  need(changes.id_kinds, changes.count, "id_kinds");
  need(changes.id_bytes, changes.id_bytes_size, "id_bytes");
  need(changes.tombstones, changes.tombstone_count, "tombstones");
  for (std::uint64_t i = 0; i < changes.tombstone_count; ++i) check_offset(changes.tombstones[i], end, "tombstones", i);
  PreparedEntries entries;
  entries.tags_removed =
      tag_entries(changes.tag_removed_offsets, changes.tag_removed, changes.tag_removed_count, end, "tag_removed_offsets");
  entries.tags_added = tag_entries(changes.tag_added_offsets, changes.tag_added, changes.tag_added_count, end, "tag_added_offsets");
  entries.columns_removed = column_entries({changes.column_removed, changes.column_removed_offsets, changes.column_removed_values,
                                            changes.column_removed_rests, changes.column_removed_count},
                                           end, "column_removed");
  entries.columns_added = column_entries({changes.column_added, changes.column_added_offsets, changes.column_added_values,
                                          changes.column_added_rests, changes.column_added_count},
                                         end, "column_added");
  entries.geo_removed = geo_entries(
      {changes.geo_removed, changes.geo_removed_offsets, changes.geo_removed_lats, changes.geo_removed_lons, changes.geo_removed_count},
      end, "geo_removed");
  entries.geo_added =
      geo_entries({changes.geo_added, changes.geo_added_offsets, changes.geo_added_lats, changes.geo_added_lons, changes.geo_added_count},
                  end, "geo_added");
  return entries;
}

}  // namespace vecdb
