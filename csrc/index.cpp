// The writing half of Index, and its look-ups; searches are in index_search.cpp.

#include "index.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>

#include "changes.hpp"
#include "error.hpp"

namespace vecdb {

namespace {

std::vector<std::unique_ptr<Field>> make_fields(const vecdb_field* fields, std::uint32_t count, FairSharedMutex& state,
                                                const Attributes& attributes) {
  std::vector<std::unique_ptr<Field>> made;
  for (std::uint32_t i = 0; i < count; ++i) made.push_back(std::make_unique<Field>(i, fields[i], state, attributes));
  return made;
}

std::vector<IndexedField*> pointers(const std::vector<std::unique_ptr<Field>>& fields) {
  std::vector<IndexedField*> found;
  for (const std::unique_ptr<Field>& field : fields) found.push_back(field.get());
  return found;
}

IdBatch id_batch(const vecdb_changes& changes) {
  return {changes.ids, changes.id_kinds, changes.count, changes.id_bytes, changes.id_bytes_size};
}

}  // namespace

Index::Index(const vecdb_field* fields, std::uint32_t field_count, std::uint32_t threads)
    : fields_(make_fields(fields, field_count, state_, attributes_)), indexer_(pointers(fields_), threads) {}

Field& Index::field(std::uint32_t number) {
  if (number >= fields_.size()) {
    throw Error(Code::invalid_argument,
                "field " + std::to_string(number) + " does not exist, this index has " + std::to_string(fields_.size()) + " fields");
  }
  return *fields_[number];
}

void Index::append_rows(std::uint32_t number, const float* rows, std::uint64_t count) {
  Vectors& vectors = field(number).vectors();
  const std::lock_guard<std::mutex> lock(rows_mutex_);
  vectors.append(rows, count);
}

void Index::map_rows(std::uint32_t number, int fd, std::uint64_t rows) {
  Vectors& vectors = field(number).vectors();
  const std::lock_guard<std::mutex> lock(rows_mutex_);
  vectors.map(fd, rows);
}

void Index::expect_checksums(std::uint32_t number, const std::uint32_t* crcs, std::uint64_t count) {
  Vectors& vectors = field(number).vectors();
  const std::lock_guard<std::mutex> lock(rows_mutex_);
  vectors.expect_checksums(crcs, count);
}

void Index::check_whole() const {
  if (is_broken_) {
    throw Error(Code::internal, "memory ran out in the middle of an earlier change, so that this index is not whole; open it again");
  }
}

void Index::check_changes(const vecdb_changes& changes) const {
  if (changes.first_offset != ids_.count()) {
    throw Error(Code::invalid_argument, "first_offset is " + std::to_string(changes.first_offset) + ", expected " +
                                            std::to_string(ids_.count()) + ", the count so far");
  }
  if (std::uint64_t{changes.first_offset} + changes.count >= UINT32_MAX) {
    throw Error(Code::capacity, "offsets are 32 bits: " + std::to_string(changes.count) + " more do not fit after " +
                                    std::to_string(changes.first_offset) + "; compact the collection");
  }
  Ids::check(id_batch(changes));
  if (changes.count == 0) return;
  if (changes.present == nullptr && !fields_.empty()) {
    throw Error(Code::invalid_argument,
                "present is NULL, expected " + std::to_string(fields_.size()) + " rows of " + std::to_string(changes.count) + " bytes");
  }
  for (const std::unique_ptr<Field>& field : fields_) {
    field->check(changes.count, changes.present + std::size_t{field->number()} * changes.count);
  }
}

std::uint64_t Index::apply(const vecdb_changes& changes) {
  PreparedEntries entries = prepare_entries(changes, std::uint64_t{changes.first_offset} + changes.count);
  std::uint64_t version = 0;
  {
    const std::unique_lock<FairSharedMutex> lock(state_);
    check_whole();
    check_changes(changes);
    for (const std::unique_ptr<Field>& field : fields_) {
      if (changes.count != 0) field->make_room(changes.count, changes.present + std::size_t{field->number()} * changes.count);
    }
    ids_.append(id_batch(changes));
    selections_.clear();
    try {
      change(changes, entries);
    } catch (...) {
      is_broken_ = true;
      throw;
    }
    version = ++version_;
  }
  indexer_.wake();
  return version;
}

void Index::change(const vecdb_changes& changes, PreparedEntries& entries) {
  const Offset end = changes.first_offset + changes.count;
  if (changes.count != 0) {
    Bitset& live = live_.writable();
    live.resize(end);
    live.set_range(changes.first_offset, end);
    live_count_ += changes.count;
    for (const std::unique_ptr<Field>& field : fields_) {
      field->publish(changes.first_offset, changes.count, changes.present + std::size_t{field->number()} * changes.count);
    }
  }
  for (std::uint64_t i = 0; i < changes.tombstone_count; ++i) {
    const Offset offset = changes.tombstones[i];
    if (!live_.value().contains(offset)) continue;
    live_.writable().reset(offset);
    --live_count_;
    for (const std::unique_ptr<Field>& field : fields_) field->bury(offset);
  }
  for (const std::unique_ptr<Field>& field : fields_) change_links(field->links(), entries);
  tags_.remove(std::move(entries.tags_removed));
  tags_.add(std::move(entries.tags_added));
  for (ColumnBatch& batch : entries.columns_removed) {
    Column* column = columns_.find(batch.column);
    if (column != nullptr) column->remove(std::move(batch.entries));
  }
  for (ColumnBatch& batch : entries.columns_added) columns_.at(batch.column).add(std::move(batch.entries));
  for (GeoBatch& batch : entries.geo_removed) {
    GeoColumn* column = points_.find(batch.column);
    if (column != nullptr) column->remove(std::move(batch.entries));
  }
  for (GeoBatch& batch : entries.geo_added) points_.at(batch.column).add(std::move(batch.entries));
}

void Index::change_links(LinkedSets& links, const PreparedEntries& entries) const {
  links.leave(entries.tags_removed);
  links.join(entries.tags_added, tags_);
  for (const ColumnBatch& batch : entries.columns_removed) links.leave(batch.column, batch.entries);
  for (const ColumnBatch& batch : entries.columns_added) links.join(batch.column, batch.entries);
  for (const GeoBatch& batch : entries.geo_removed) links.leave(batch.column, batch.entries);
  for (const GeoBatch& batch : entries.geo_added) links.join(batch.column, batch.entries);
}

void Index::drop_tags(const std::uint64_t* tags, std::uint64_t count) {
  const std::unique_lock<FairSharedMutex> lock(state_);
  selections_.clear();
  for (std::uint64_t i = 0; i < count; ++i) {
    tags_.drop(tags[i]);
    for (const std::unique_ptr<Field>& field : fields_) field->links().drop_tag(tags[i]);
  }
}

void Index::link_tags(std::uint32_t number, const Tag* tags, std::uint64_t count, std::uint32_t m) {
  field(number).links().ask(tags, count, m);
  indexer_.wake();
}

void Index::unlink_tags(std::uint32_t number, const Tag* tags, std::uint64_t count) { field(number).links().unlink(tags, count); }

void Index::link_column(std::uint32_t number, std::uint32_t column, std::uint32_t m) { field(number).links().ask_column(column, m); }

void Index::unlink_column(std::uint32_t number, std::uint32_t column) { field(number).links().unlink_column(column); }

void Index::drop_column(std::uint32_t column) {
  const std::unique_lock<FairSharedMutex> lock(state_);
  selections_.clear();
  columns_.drop(column);
  points_.drop(column);
  for (const std::unique_ptr<Field>& field : fields_) field->links().drop_column(column);
}

std::uint64_t Index::copy_tags(const Tag* tags, std::uint64_t count, Offset first, Offset last, std::uint32_t* out_counts,
                               Offset* out_offsets, std::uint64_t capacity) {
  const std::shared_lock<FairSharedMutex> lock(state_);
  check_whole();
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Posting* posting = tags_.find(tags[i]);
    out_counts[i] = posting == nullptr ? 0 : posting->count_in(first, last);
    total += out_counts[i];
  }
  if (total > capacity) return total;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (out_counts[i] != 0) tags_.find(tags[i])->for_each_in(first, last, [&out_offsets](Offset offset) { *out_offsets++ = offset; });
  }
  return total;
}

std::uint64_t Index::copy_column(std::uint32_t number, const ColumnEntry* after, const ColumnCopy& out, std::uint64_t capacity) {
  const std::shared_lock<FairSharedMutex> lock(state_);
  check_whole();
  std::uint64_t total = 0;
  const Column* column = columns_.find(number);
  if (column == nullptr || capacity == 0) return 0;
  column->for_each_entry(after, [&](const ColumnEntry& entry) {
    out.offsets[total] = entry.offset;
    out.values[total] = entry.value;
    out.rests[total] = entry.rest;
    return ++total < capacity;
  });
  return total;
}

std::uint64_t Index::copy_points(std::uint32_t number, const GeoEntry* after, const PointsCopy& out, std::uint64_t capacity) {
  const std::shared_lock<FairSharedMutex> lock(state_);
  check_whole();
  std::uint64_t total = 0;
  const GeoColumn* column = points_.find(number);
  if (column == nullptr || capacity == 0) return 0;
  column->for_each_entry(after, [&](const GeoEntry& entry) {
    out.offsets[total] = entry.offset;
    out.lats[total] = entry.point.lat;
    out.lons[total] = entry.point.lon;
    return ++total < capacity;
  });
  return total;
}

void Index::check_offsets(const Offset* offsets, std::uint64_t count) const {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (offsets[i] >= ids_.count()) {
      throw Error(Code::invalid_argument,
                  "offset " + std::to_string(offsets[i]) + " was never handed out, expected one below " + std::to_string(ids_.count()));
    }
  }
}

void Index::get_rows(std::uint32_t number, const Offset* offsets, std::uint64_t count, float* out_rows, std::uint8_t* out_present) {
  const Field& field = this->field(number);
  RowMap::View map;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    check_whole();
    check_offsets(offsets, count);
    map = field.snapshot().map;
  }
  const std::uint32_t dim = field.vectors().dim();
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::optional<Row> row = map.row_of(offsets[i]);
    out_present[i] = row ? 1 : 0;
    float* out = out_rows + i * dim;
    if (row) {
      std::memcpy(out, field.vectors().row(*row), dim * sizeof(float));
    } else {
      std::fill(out, out + dim, 0.0F);
    }
  }
}

void Index::get_ids(const Offset* offsets, std::uint64_t count, std::uint64_t* out_ids, std::uint8_t* out_kinds) {
  const std::shared_lock<FairSharedMutex> lock(state_);
  check_whole();
  check_offsets(offsets, count);
  for (std::uint64_t i = 0; i < count; ++i) {
    out_ids[i] = ids_.value(offsets[i]);
    out_kinds[i] = static_cast<std::uint8_t>(ids_.kind(offsets[i]));
  }
}

vecdb_index_stats Index::stats() {
  const std::shared_lock<FairSharedMutex> lock(state_);
  check_whole();
  return {version_, ids_.count(), live_count_, ids_.bytes(), tags_.bytes(), columns_.bytes() + points_.bytes()};
}

vecdb_field_stats Index::field_stats(std::uint32_t number) {
  const Field& field = this->field(number);
  std::uint64_t live_rows = 0;
  Row rows = 0;
  const LinkFigures links = field.links().figures();
  Field::Snapshot snapshot;
  {
    const std::shared_lock<FairSharedMutex> lock(state_);
    check_whole();
    rows = field.row_count();
    live_rows = field.live_count();
    snapshot = field.snapshot();
  }
  const FieldGraph::View& graph = snapshot.graph;
  return {rows,
          live_rows,
          graph.indexed,
          field.vectors().vector_bytes(),
          field.vectors().norm_bytes(),
          field.vectors().code_bytes(),
          graph.graph == nullptr ? 0 : graph.graph->bytes(),
          links.sets,
          links.members,
          links.bytes,
          graph.graph == nullptr ? 0 : graph.graph->count_dead({snapshot.live->words(), snapshot.live->size()}),
          field.graph().unreachable()};
}

vecdb_graph_report Index::check_graph(std::uint32_t number) {
  const Field& field = this->field(number);
  const std::shared_ptr<const Graph> graph = field.graph().view().graph;
  if (graph == nullptr) return {};
  const CopyOnWrite<Bitset>::Lease live = field.lease_live();
  const Graph::Reach reach = graph->reach({live->words(), live->size()});
  return {reach.nodes, reach.dead, reach.unreachable, reach.unreachable_above};
}

void Index::verify() const {
  for (const std::unique_ptr<Field>& field : fields_) field->vectors().verify_all();
}

}  // namespace vecdb
