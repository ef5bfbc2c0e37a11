// A change as the C ABI gives it, checked and brought into the order in which it is applied quickest, before any lock is taken.
#pragma once

#include <vector>

#include "columns.hpp"
#include "geo_column.hpp"
#include "tags.hpp"
#include "vecdb.h"

namespace vecdb {

struct ColumnBatch {
  std::uint32_t column;
  std::vector<ColumnEntry> entries;
};

struct GeoBatch {
  std::uint32_t column;
  std::vector<GeoEntry> entries;
};

struct PreparedEntries {
  std::vector<TagEntry> tags_removed;  // sorted
  std::vector<TagEntry> tags_added;
  std::vector<ColumnBatch> columns_removed;  // one batch a column
  std::vector<ColumnBatch> columns_added;
  std::vector<GeoBatch> geo_removed;
  std::vector<GeoBatch> geo_added;
};

// Throws Error invalid_argument when an array is missing, an offset is at or beyond end (the count after the change),
// a value is NaN or a degree not finite.
PreparedEntries prepare_entries(const vecdb_changes& changes, std::uint64_t end);

}  // namespace vecdb
