// The index of a collection: ids, tags, columns and vector fields of all offsets, and the locks that let searches run beside a write.
//
// Invariant: a search sees all of a change or nothing of it. Thread rule: every call is thread-safe, except that calls of apply are
// serialised by the caller; the state lock is held exclusively by apply and drop_*, shared while a search takes its snapshot, and by
// nobody while vectors are compared.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "bitset.hpp"
#include "columns.hpp"
#include "condition.hpp"
#include "copy_on_write.hpp"
#include "fair_mutex.hpp"
#include "field.hpp"
#include "geo_column.hpp"
#include "ids.hpp"
#include "indexer.hpp"
#include "link_key.hpp"
#include "linked_walk.hpp"
#include "plan.hpp"
#include "searcher.hpp"
#include "selection_cache.hpp"
#include "tags.hpp"
#include "vecdb.h"

namespace vecdb {

// Where the entries of a column go.
struct ColumnCopy {
  Offset* offsets;
  double* values;
  std::int32_t* rests;
};

struct PointsCopy {
  Offset* offsets;
  double* lats;
  double* lons;
};

class Index {
 public:
  Index(const vecdb_field* fields, std::uint32_t field_count, std::uint32_t threads);

  void append_rows(std::uint32_t field, const float* rows, std::uint64_t count);
  void map_rows(std::uint32_t field, int fd, std::uint64_t rows);
  void expect_checksums(std::uint32_t field, const std::uint32_t* crcs, std::uint64_t count);

  // Returns the version after it. Throws before anything is changed for a change that is wrong.
  std::uint64_t apply(const vecdb_changes& changes);
  void drop_tags(const std::uint64_t* tags, std::uint64_t count);
  void drop_column(std::uint32_t column);
  void link_tags(std::uint32_t field, const Tag* tags, std::uint64_t count, std::uint32_t m);
  void unlink_tags(std::uint32_t field, const Tag* tags, std::uint64_t count);
  void link_column(std::uint32_t field, std::uint32_t column, std::uint32_t m);
  void unlink_column(std::uint32_t field, std::uint32_t column);

  Indexer& indexer() { return indexer_; }

  vecdb_plan search(const vecdb_search& search, const SearchOutput& out);
  vecdb_plan plan(const vecdb_search& search);

  // The live offsets that satisfy a program, of one version.
  struct Found {
    std::uint64_t version = 0;
    std::uint64_t count = 0;
    std::vector<Offset> offsets;  // ascending; empty after count
  };
  Found count(const Program& program);
  Found select(const Program& program);

  // The offsets in [first, last) of each tag, one tag after the other, ascending; how many each has. Returns their number, having written
  // none of them when that is beyond capacity.
  std::uint64_t copy_tags(const Tag* tags, std::uint64_t count, Offset first, Offset last, std::uint32_t* out_counts, Offset* out_offsets,
                          std::uint64_t capacity);
  // The entries of a column beyond `after`, nullptr for all, in their order: at most capacity, returns how many.
  std::uint64_t copy_column(std::uint32_t column, const ColumnEntry* after, const ColumnCopy& out, std::uint64_t capacity);
  std::uint64_t copy_points(std::uint32_t column, const GeoEntry* after, const PointsCopy& out, std::uint64_t capacity);

  void get_rows(std::uint32_t field, const Offset* offsets, std::uint64_t count, float* out_rows, std::uint8_t* out_present);
  void get_ids(const Offset* offsets, std::uint64_t count, std::uint64_t* out_ids, std::uint8_t* out_kinds);
  std::string_view id_text(std::uint64_t place) const { return ids_.text(place); }

  Field& field(std::uint32_t number);
  vecdb_index_stats stats();
  vecdb_field_stats field_stats(std::uint32_t field);
  void verify() const;
  vecdb_graph_report check_graph(std::uint32_t field);

 private:
  struct Target {
    std::uint64_t version = 0;
    Field::Snapshot field;
    std::shared_ptr<const RowSelection> rows;
    Plan plan;
    LinkedRows links;  // to be searched when the plan says so
    Workload workload;
    Plan without_links;
    double links_ns = std::numeric_limits<double>::infinity();  // what those that are there cost
  };

  void check_search(const vecdb_search& search, const Field& field) const;
  Target take_target(const vecdb_search& search, const Field& field);
  static void plan_links(std::vector<LinkCover> covers, Target& target);
  void note_links(LinkedSets& links, const Target& target, const vecdb_search& search);
  void check_changes(const vecdb_changes& changes) const;
  void change(const vecdb_changes& changes, struct PreparedEntries& entries);
  void change_links(LinkedSets& links, const struct PreparedEntries& entries) const;
  void check_offsets(const Offset* offsets, std::uint64_t count) const;
  void check_whole() const;
  Catalogue catalogue() const;

  FairSharedMutex state_;  // guards what follows, as the fields say
  std::uint64_t version_ = 0;
  Ids ids_;
  CopyOnWrite<Bitset> live_;  // by offset
  std::uint64_t live_count_ = 0;
  Tags tags_;
  Columns columns_;
  GeoColumns points_;
  const Attributes attributes_{tags_, columns_, points_, live_};
  bool is_broken_ = false;  // memory ran out in the middle of a change
  std::vector<std::unique_ptr<Field>> fields_;

  SelectionCache selections_;  // cleared under the exclusive side of the state lock

  std::mutex rows_mutex_;  // held while rows are stored
  ScratchPool scratches_;
  Indexer indexer_;  // last: its threads end before what they use
};

}  // namespace vecdb
