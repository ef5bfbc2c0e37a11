// Geo columns: points with their offsets, sorted by the Z-order of latitude and longitude, for look-up by area.
//
// Invariant: a column is a set of entries; an offset may have several points, each once. Points off the globe's degrees have the code
// kOffGlobe and are tested one by one. Thread rule: like a standard container.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "geo_shapes.hpp"
#include "offset_set.hpp"
#include "sorted_runs.hpp"
#include "types.hpp"

namespace vecdb {

struct GeoEntry {
  std::uint64_t code;  // of the point
  GeoPoint point;
  Offset offset;

  // REQUIRES finite degrees.
  static GeoEntry of(GeoPoint point, Offset offset);

  bool operator<(const GeoEntry& other) const {
    if (code != other.code) return code < other.code;
    if (point.lat != other.point.lat) return point.lat < other.point.lat;
    if (point.lon != other.point.lon) return point.lon < other.point.lon;
    return offset < other.offset;
  }
  bool operator==(const GeoEntry& other) const {
    return point.lat == other.point.lat && point.lon == other.point.lon && offset == other.offset;
  }
};

class GeoColumn {
 public:
  // Entries in any order; an entry that is there already, or is not there, is no error.
  void add(std::vector<GeoEntry> entries) { runs_.add(std::move(entries)); }
  void remove(std::vector<GeoEntry> entries) { runs_.remove(std::move(entries)); }

  // Calls visit(entry) for the entries beyond `after`, nullptr for all, in order, until it returns false.
  template <class Visit>
  void for_each_entry(const GeoEntry* after, Visit&& visit) const {
    runs_.for_each_beyond(after, visit);
  }

  // The offsets that have a point inside the area. REQUIRES offsets below universe.
  OffsetSet inside(const GeoArea& area, Offset universe) const;

  // About how many points are inside, without looking at them: within some thousandths of the column.
  std::uint64_t count_about(const GeoFrame& frame) const;

  std::uint64_t bytes() const { return runs_.bytes(); }

 private:
  SortedRuns<GeoEntry> runs_;
};

class GeoColumns {
 public:
  // Creates it when it is not there.
  GeoColumn& at(std::uint32_t column) { return columns_[column]; }
  // nullptr when nothing was ever added to it.
  const GeoColumn* find(std::uint32_t column) const;
  GeoColumn* find(std::uint32_t column);
  void drop(std::uint32_t column) { columns_.erase(column); }
  std::uint64_t bytes() const;

 private:
  std::unordered_map<std::uint32_t, GeoColumn> columns_;
};

}  // namespace vecdb
