// The index of a collection over the C ABI: checks pointers, turns exceptions into statuses, and holds no logic.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>

#include "error.hpp"
#include "graph_file.hpp"
#include "guarded.hpp"
#include "index.hpp"
#include "vecdb.h"

struct vecdb_index {
  vecdb_index(const vecdb_field* fields, std::uint32_t field_count, std::uint32_t threads) : index(fields, field_count, threads) {}
  vecdb::Index index;
};

namespace vecdb {
namespace {

Index& of(vecdb_index* handle) {
  if (handle == nullptr) throw Error(Code::invalid_argument, "index is NULL, expected one that vecdb_index_create made");
  return handle->index;
}

template <class T>
T* need(T* pointer, std::uint64_t count, const char* name) {
  if (pointer == nullptr && count != 0) {
    throw Error(Code::invalid_argument, std::string(name) + " is NULL, expected " + std::to_string(count) + " elements");
  }
  return pointer;
}

Program program_of(const std::uint64_t* words, std::uint64_t size) { return Program(need(words, size, "program"), size, Operands::all); }

GraphIdentity identity_of(const Field& field, const std::uint8_t* uuid, std::uint64_t generation) {
  GraphIdentity identity{{}, generation, field.number(), field.vectors().dim(), field.vectors().metric(), field.options().m};
  std::copy_n(need(uuid, identity.uuid.size(), "uuid"), identity.uuid.size(), identity.uuid.begin());
  return identity;
}

const Graph& present(const FieldGraph::View& view, std::uint32_t field) {
  if (view.graph == nullptr) {
    throw Error(Code::not_found, "field " + std::to_string(field) + " has no graph yet; ask when rows are indexed");
  }
  return *view.graph;
}

}  // namespace
}  // namespace vecdb

using vecdb::guarded;
using vecdb::need;
using vecdb::of;

extern "C" {

vecdb_status vecdb_index_create(const vecdb_field* fields, uint32_t field_count, uint32_t threads, vecdb_index** out) {
  return guarded([&] {
    need(out, 1, "out");
    *out = std::make_unique<vecdb_index>(need(fields, field_count, "fields"), field_count, threads).release();
  });
}

void vecdb_index_destroy(vecdb_index* index) { const std::unique_ptr<vecdb_index> owner(index); }

vecdb_status vecdb_index_set_threads(vecdb_index* index, uint32_t threads) {
  return guarded([&] { of(index).indexer().set_threads(threads); });
}

vecdb_status vecdb_index_append_rows(vecdb_index* index, uint32_t field, const float* rows, uint64_t count) {
  return guarded([&] { of(index).append_rows(field, need(rows, count, "rows"), count); });
}

vecdb_status vecdb_index_map_rows(vecdb_index* index, uint32_t field, int32_t fd, uint64_t rows) {
  return guarded([&] { of(index).map_rows(field, fd, rows); });
}

vecdb_status vecdb_index_expect_checksums(vecdb_index* index, uint32_t field, const uint32_t* crcs, uint64_t count) {
  return guarded([&] { of(index).expect_checksums(field, need(crcs, count, "crcs"), count); });
}

vecdb_status vecdb_index_apply(vecdb_index* index, const vecdb_changes* changes, uint64_t* out_version) {
  return guarded([&] {
    const std::uint64_t version = of(index).apply(*need(changes, 1, "changes"));
    if (out_version != nullptr) *out_version = version;
  });
}

vecdb_status vecdb_index_drop_tags(vecdb_index* index, const uint64_t* tags, uint64_t count) {
  return guarded([&] { of(index).drop_tags(need(tags, count, "tags"), count); });
}

vecdb_status vecdb_index_copy_tags(vecdb_index* index, const uint64_t* tags, uint64_t count, uint32_t first, uint32_t last,
                                   uint32_t* out_counts, uint32_t* out_offsets, uint64_t capacity, uint64_t* out_total) {
  return guarded([&] {
    *need(out_total, 1, "out_total") =
        of(index).copy_tags(need(tags, count, "tags"), count, first, last, need(out_counts, count, "out_counts"),
                            need(out_offsets, capacity, "out_offsets"), capacity);
  });
}

vecdb_status vecdb_index_copy_column(vecdb_index* index, uint32_t column, const vecdb_column_entry* after, uint32_t* out_offsets,
                                     double* out_values, int32_t* out_rests, uint64_t capacity, uint64_t* out_total) {
  return guarded([&] {
    const vecdb::ColumnCopy out{need(out_offsets, capacity, "out_offsets"), need(out_values, capacity, "out_values"),
                                need(out_rests, capacity, "out_rests")};
    vecdb::ColumnEntry last{};
    if (after != nullptr) last = {after->first, static_cast<std::int32_t>(after->second), after->offset};
    *need(out_total, 1, "out_total") = of(index).copy_column(column, after == nullptr ? nullptr : &last, out, capacity);
  });
}

vecdb_status vecdb_index_copy_points(vecdb_index* index, uint32_t column, const vecdb_column_entry* after, uint32_t* out_offsets,
                                     double* out_lats, double* out_lons, uint64_t capacity, uint64_t* out_total) {
  return guarded([&] {
    const vecdb::PointsCopy out{need(out_offsets, capacity, "out_offsets"), need(out_lats, capacity, "out_lats"),
                                need(out_lons, capacity, "out_lons")};
    vecdb::GeoEntry last{};
    if (after != nullptr) last = vecdb::GeoEntry::of({after->first, after->second}, after->offset);
    *need(out_total, 1, "out_total") = of(index).copy_points(column, after == nullptr ? nullptr : &last, out, capacity);
  });
}

vecdb_status vecdb_index_link_tags(vecdb_index* index, uint32_t field, const uint64_t* tags, uint64_t count, uint32_t m) {
  return guarded([&] { of(index).link_tags(field, need(tags, count, "tags"), count, m); });
}

vecdb_status vecdb_index_unlink_tags(vecdb_index* index, uint32_t field, const uint64_t* tags, uint64_t count) {
  return guarded([&] { of(index).unlink_tags(field, need(tags, count, "tags"), count); });
}

vecdb_status vecdb_index_link_column(vecdb_index* index, uint32_t field, uint32_t column, uint32_t m) {
  return guarded([&] { of(index).link_column(field, column, m); });
}

vecdb_status vecdb_index_unlink_column(vecdb_index* index, uint32_t field, uint32_t column) {
  return guarded([&] { of(index).unlink_column(field, column); });
}

vecdb_status vecdb_index_drop_column(vecdb_index* index, uint32_t column) {
  return guarded([&] { of(index).drop_column(column); });
}

vecdb_status vecdb_index_help(vecdb_index* index, uint32_t max_points, uint32_t* out_done) {
  return guarded([&] { *need(out_done, 1, "out_done") = of(index).indexer().help(max_points); });
}

vecdb_status vecdb_index_wait_indexed(vecdb_index* index, uint32_t timeout_ms, uint32_t* out_done) {
  return guarded([&] { *need(out_done, 1, "out_done") = of(index).indexer().wait(std::chrono::milliseconds(timeout_ms)) ? 1 : 0; });
}

vecdb_status vecdb_index_search(vecdb_index* index, const vecdb_search* search, uint32_t* out_offsets, uint64_t* out_ids,
                                uint8_t* out_id_kinds, float* out_scores, uint32_t* out_counts, vecdb_plan* plan) {
  return guarded([&] {
    const std::uint64_t queries = need(search, 1, "search")->query_count;
    const vecdb::SearchOutput out{need(out_offsets, queries, "out_offsets"), need(out_ids, queries, "out_ids"),
                                  need(out_id_kinds, queries, "out_id_kinds"), need(out_scores, queries, "out_scores"),
                                  need(out_counts, queries, "out_counts")};
    const vecdb_plan used = of(index).search(*search, out);
    if (plan != nullptr) *plan = used;
  });
}

vecdb_status vecdb_index_plan(vecdb_index* index, const vecdb_search* search, vecdb_plan* plan) {
  return guarded([&] { *need(plan, 1, "plan") = of(index).plan(*need(search, 1, "search")); });
}

vecdb_status vecdb_index_count(vecdb_index* index, const uint64_t* program, uint64_t program_size, uint64_t* out_count,
                               uint64_t* out_version) {
  return guarded([&] {
    need(out_count, 1, "out_count");
    const vecdb::Index::Found found = of(index).count(vecdb::program_of(program, program_size));
    *out_count = found.count;
    if (out_version != nullptr) *out_version = found.version;
  });
}

vecdb_status vecdb_index_select(vecdb_index* index, const uint64_t* program, uint64_t program_size, uint32_t* out_offsets,
                                uint64_t capacity, uint64_t* out_count, uint64_t* out_version) {
  return guarded([&] {
    need(out_offsets, capacity, "out_offsets");
    need(out_count, 1, "out_count");
    const vecdb::Index::Found found = of(index).select(vecdb::program_of(program, program_size));
    std::copy_n(found.offsets.begin(), std::min<std::uint64_t>(capacity, found.count), out_offsets);
    *out_count = found.count;
    if (out_version != nullptr) *out_version = found.version;
  });
}

vecdb_status vecdb_index_get_rows(vecdb_index* index, uint32_t field, const uint32_t* offsets, uint64_t count, float* out_rows,
                                  uint8_t* out_present) {
  return guarded([&] {
    of(index).get_rows(field, need(offsets, count, "offsets"), count, need(out_rows, count, "out_rows"),
                       need(out_present, count, "out_present"));
  });
}

vecdb_status vecdb_index_get_ids(vecdb_index* index, const uint32_t* offsets, uint64_t count, uint64_t* out_ids, uint8_t* out_kinds) {
  return guarded([&] {
    of(index).get_ids(need(offsets, count, "offsets"), count, need(out_ids, count, "out_ids"), need(out_kinds, count, "out_kinds"));
  });
}

vecdb_status vecdb_index_id_text(vecdb_index* index, uint64_t place, const char** out_text, uint32_t* out_size) {
  return guarded([&] {
    need(out_text, 1, "out_text");
    need(out_size, 1, "out_size");
    const std::string_view text = of(index).id_text(place);
    *out_text = text.data();
    *out_size = static_cast<std::uint32_t>(text.size());
  });
}

vecdb_status vecdb_index_save_graph(vecdb_index* index, uint32_t field, const uint8_t* uuid, uint64_t generation, uint64_t lsn,
                                    uint8_t* buffer, uint64_t buffer_size, uint64_t* out_size) {
  return guarded([&] {
    need(out_size, 1, "out_size");
    const vecdb::Field& saved = of(index).field(field);
    const vecdb::GraphIdentity identity = vecdb::identity_of(saved, uuid, generation);
    saved.graph().at_rest([&](const vecdb::FieldGraph::View& view) {
      const vecdb::Graph& graph = vecdb::present(view, field);
      *out_size = vecdb::graph_file_size(graph, view.indexed);
      if (buffer != nullptr) vecdb::save_graph(graph, identity, {view.indexed, view.profile, lsn}, buffer, buffer_size);
    });
  });
}

vecdb_status vecdb_index_save_compacted_graph(vecdb_index* index, uint32_t field, const uint8_t* uuid, uint64_t generation, uint64_t lsn,
                                              const uint64_t* kept_rows, uint64_t row_count, uint8_t* buffer, uint64_t buffer_size,
                                              uint64_t* out_size) {
  return guarded([&] {
    need(out_size, 1, "out_size");
    need(kept_rows, row_count, "kept_rows");
    const vecdb::Field& saved = of(index).field(field);
    const vecdb::GraphIdentity identity = vecdb::identity_of(saved, uuid, generation);
    saved.graph().at_rest([&](const vecdb::FieldGraph::View& view) {
      const vecdb::Graph& graph = vecdb::present(view, field);
      const vecdb::CompactedGraph compacted = vecdb::compacted_graph(
          graph, {view.indexed, view.profile, lsn}, kept_rows, static_cast<vecdb::Row>(std::min<std::uint64_t>(row_count, UINT32_MAX)));
      *out_size = vecdb::graph_file_size(*compacted.graph, compacted.state.rows);
      if (buffer != nullptr) vecdb::save_graph(*compacted.graph, identity, compacted.state, buffer, buffer_size);
    });
  });
}

vecdb_status vecdb_index_load_graph(vecdb_index* index, uint32_t field, const uint8_t* uuid, uint64_t generation, const uint8_t* buffer,
                                    uint64_t buffer_size, uint64_t* out_lsn, uint64_t* out_rows) {
  return guarded([&] {
    need(out_lsn, 1, "out_lsn");
    need(out_rows, 1, "out_rows");
    vecdb::Field& restored = of(index).field(field);
    const vecdb::GraphIdentity identity = vecdb::identity_of(restored, uuid, generation);
    vecdb::LoadedGraph loaded = vecdb::load_graph(need(buffer, buffer_size, "buffer"), buffer_size, identity, restored.vectors(),
                                                  restored.options(), restored.row_count());
    *out_lsn = loaded.state.lsn;
    *out_rows = restored.graph().replace(std::move(loaded.graph), loaded.state.rows, loaded.state.profile);
  });
}

vecdb_status vecdb_index_get_stats(vecdb_index* index, vecdb_index_stats* out) {
  return guarded([&] { *need(out, 1, "out") = of(index).stats(); });
}

vecdb_status vecdb_index_get_field_stats(vecdb_index* index, uint32_t field, vecdb_field_stats* out) {
  return guarded([&] { *need(out, 1, "out") = of(index).field_stats(field); });
}

vecdb_status vecdb_index_verify(vecdb_index* index) {
  return guarded([&] { of(index).verify(); });
}

vecdb_status vecdb_index_check_graph(vecdb_index* index, uint32_t field, vecdb_graph_report* out) {
  return guarded([&] { *need(out, 1, "out") = of(index).check_graph(field); });
}

}  // extern "C"
