// The C ABI of the labelled index: checks what only a C caller can get wrong, and calls.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "guarded.hpp"
#include "labelled.hpp"
#include "labelled_file.hpp"
#include "vecdb.h"

struct vecdb_labelled {
  explicit vecdb_labelled(vecdb::LabelledContent content) : index(std::move(content)) {}
  vecdb::LabelledIndex index;
};

namespace vecdb {
namespace {

void need(const void* pointer, const char* name) {
  if (pointer == nullptr) throw Error(Code::invalid_argument, std::string(name) + " is NULL");
}

void need_array(const void* pointer, std::uint64_t count, const char* name) {
  if (count > 0) need(pointer, name);
}

LabelledOptions options_of(const vecdb_labelled_options* options) {
  need(options, "options");
  if (options->metric != VECDB_DOT && options->metric != VECDB_L2) {
    throw Error(Code::invalid_argument, "metric is " + std::to_string(options->metric) + ", expected VECDB_DOT or VECDB_L2");
  }
  LabelledOptions result;
  result.dim = options->dim;
  result.metric = options->metric == VECDB_DOT ? Metric::dot : Metric::l2;
  result.m = options->m;
  result.ef_construction = options->ef_construction;
  result.seed = options->seed;
  result.max_elements = options->max_elements;
  result.deleted_places = options->allow_replace_deleted != 0 ? DeletedPlaces::reused : DeletedPlaces::kept;
  return result;
}

// Asks for the size, then, with a buffer, writes.
template <class Write>
void write_or_count(std::uint8_t* buffer, std::uint64_t buffer_size, std::uint64_t* out_size, const Write& write) {
  need(out_size, "out_size");
  Writer out = buffer == nullptr ? Writer::counting() : Writer(buffer, static_cast<std::size_t>(buffer_size));
  write(out);
  *out_size = out.position();
}

}  // namespace
}  // namespace vecdb

extern "C" {

vecdb_status vecdb_labelled_create(const vecdb_labelled_options* options, vecdb_labelled** out) {
  return vecdb::guarded([&] {
    vecdb::need(out, "out");
    *out = std::make_unique<vecdb_labelled>(vecdb::make_content(vecdb::options_of(options))).release();
  });
}

void vecdb_labelled_destroy(vecdb_labelled* index) { const std::unique_ptr<vecdb_labelled> owned(index); }

vecdb_status vecdb_labelled_add(vecdb_labelled* index, const float* rows, const uint64_t* labels, uint64_t count, uint32_t threads,
                                uint32_t replace_deleted) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(rows, count, "rows");
    vecdb::need_array(labels, count, "labels");
    index->index.add(rows, labels, count, threads, replace_deleted != 0 ? vecdb::Places::deleted_first : vecdb::Places::fresh);
  });
}

vecdb_status vecdb_labelled_search(vecdb_labelled* index, const float* queries, uint64_t query_count, uint32_t k, uint32_t ef,
                                   uint32_t threads, const uint64_t* program, uint64_t program_size, const uint64_t* allowed,
                                   uint64_t allowed_count, uint32_t exact, uint64_t* out_labels, float* out_distances,
                                   uint32_t* out_counts) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(queries, query_count, "queries");
    vecdb::need_array(program, program_size, "program");
    vecdb::need_array(out_counts, query_count, "out_counts");
    if (k > 0) {
      vecdb::need_array(out_labels, query_count, "out_labels");
      vecdb::need_array(out_distances, query_count, "out_distances");
    }
    const vecdb::Program checked(program, program_size, vecdb::Operands::tags_only);
    vecdb::LabelledQuery query{checked};
    query.queries = queries;
    query.query_count = query_count;
    query.k = k;
    query.ef = ef;
    query.threads = threads;
    query.accuracy = exact != 0 ? vecdb::Accuracy::exact : vecdb::Accuracy::approximate;
    query.allowed = allowed;
    query.allowed_count = allowed_count;
    index->index.search(query, {out_labels, out_distances, out_counts});
  });
}

vecdb_status vecdb_labelled_get_rows(vecdb_labelled* index, const uint64_t* labels, uint64_t count, float* out_rows) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(labels, count, "labels");
    vecdb::need_array(out_rows, count, "out_rows");
    index->index.copy_rows(labels, count, out_rows);
  });
}

vecdb_status vecdb_labelled_get_labels(vecdb_labelled* index, uint64_t* out_labels, uint8_t* out_deleted, uint64_t capacity,
                                       uint64_t* out_count) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(out_labels, capacity, "out_labels");
    vecdb::need(out_count, "out_count");
    const std::vector<vecdb::LabelledIndex::Entry> entries = index->index.entries();
    for (std::size_t i = 0; i < entries.size() && i < capacity; ++i) {
      out_labels[i] = entries[i].label;
      if (out_deleted != nullptr) out_deleted[i] = entries[i].deleted ? 1 : 0;
    }
    *out_count = entries.size();
  });
}

vecdb_status vecdb_labelled_mark_deleted(vecdb_labelled* index, uint64_t label) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    index->index.mark_deleted(label);
  });
}

vecdb_status vecdb_labelled_unmark_deleted(vecdb_labelled* index, uint64_t label) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    index->index.unmark_deleted(label);
  });
}

vecdb_status vecdb_labelled_resize(vecdb_labelled* index, uint64_t max_elements) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    index->index.resize(max_elements);
  });
}

vecdb_status vecdb_labelled_add_tags(vecdb_labelled* index, const uint64_t* labels, uint64_t count, uint64_t tag) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(labels, count, "labels");
    index->index.add_tags(labels, count, tag);
  });
}

vecdb_status vecdb_labelled_remove_tags(vecdb_labelled* index, const uint64_t* labels, uint64_t count, uint64_t tag) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(labels, count, "labels");
    index->index.remove_tags(labels, count, tag);
  });
}

vecdb_status vecdb_labelled_get_tags(vecdb_labelled* index, uint64_t label, uint64_t* out_tags, uint64_t capacity, uint64_t* out_count) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(out_tags, capacity, "out_tags");
    vecdb::need(out_count, "out_count");
    const std::vector<vecdb::Tag> tags = index->index.tags_of(label);
    for (std::size_t i = 0; i < tags.size() && i < capacity; ++i) out_tags[i] = tags[i];
    *out_count = tags.size();
  });
}

vecdb_status vecdb_labelled_reset_tags(vecdb_labelled* index) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    index->index.reset_tags();
  });
}

vecdb_status vecdb_labelled_link_tags(vecdb_labelled* index, const uint64_t* tags, uint64_t count, uint32_t m, uint32_t threads) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need_array(tags, count, "tags");
    index->index.link_tags(std::vector<vecdb::Tag>(tags, tags + count), m, threads);
  });
}

vecdb_status vecdb_labelled_get_stats(vecdb_labelled* index, vecdb_labelled_stats* out) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::need(out, "out");
    const vecdb::LabelledStats stats = index->index.stats();
    out->count = stats.count;
    out->deleted = stats.deleted;
    out->max_elements = stats.options.max_elements;
    out->m = stats.options.m;
    out->ef_construction = stats.options.ef_construction;
    out->dim = stats.options.dim;
    out->metric = static_cast<uint32_t>(stats.options.metric);
  });
}

vecdb_status vecdb_labelled_save(vecdb_labelled* index, uint8_t* buffer, uint64_t buffer_size, uint64_t* out_size) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::write_or_count(buffer, buffer_size, out_size, [&](vecdb::Writer& out) {
      index->index.read_all([&](const vecdb::LabelledContent& content) { vecdb::write_main_file(content, out); });
    });
  });
}

vecdb_status vecdb_labelled_save_tags(vecdb_labelled* index, uint32_t main_crc, uint8_t* buffer, uint64_t buffer_size, uint64_t* out_size) {
  return vecdb::guarded([&] {
    vecdb::need(index, "index");
    vecdb::write_or_count(buffer, buffer_size, out_size, [&](vecdb::Writer& out) {
      index->index.read_all([&](const vecdb::LabelledContent& content) { vecdb::write_tag_file(content, main_crc, out); });
    });
  });
}

vecdb_status vecdb_labelled_load(const vecdb_labelled_options* options, const uint8_t* main, uint64_t main_size, const uint8_t* tags,
                                 uint64_t tags_size, vecdb_labelled** out) {
  return vecdb::guarded([&] {
    vecdb::need(out, "out");
    vecdb::need_array(main, main_size, "main");
    vecdb::LabelledContent content = vecdb::read_main_file(vecdb::options_of(options), main, static_cast<std::size_t>(main_size));
    if (tags != nullptr) {
      const std::uint32_t crc = vecdb_crc32c(0, main, main_size);
      vecdb::read_tag_file(content, crc, tags, static_cast<std::size_t>(tags_size));
    }
    *out = std::make_unique<vecdb_labelled>(std::move(content)).release();
  });
}

}  // extern "C"
