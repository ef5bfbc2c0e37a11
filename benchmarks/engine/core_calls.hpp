// What the driver of vecdb's core passes to the C ABI and gets back: filter programs by query, the points' numbers and places, room for
// hits, statuses as exceptions.
//
// Thread rule: plain data; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "driver.hpp"
#include "vecdb.h"

namespace bench {

inline void check(vecdb_status status) {
  if (status != VECDB_OK) throw std::runtime_error(std::string("vecdb: ") + vecdb_last_error());
}

// The programs of a cell and which of them each query has; empty: no filter.
struct Programs {
  explicit Programs(const Command& command) {
    if (!command.has("programs")) return;
    words = read_array<std::uint64_t>(command.text("programs"));
    starts = read_array<std::uint64_t>(command.text("starts"));
    if (command.has("filter_of_query")) of_query = read_array<std::uint32_t>(command.text("filter_of_query"));
  }

  void set(vecdb_search& search, std::size_t filter) const {
    if (words.empty()) return;
    search.program = words.data() + starts.at(filter);
    search.program_size = starts.at(filter + 1) - starts.at(filter);
  }

  std::vector<std::uint64_t> words;
  std::vector<std::uint64_t> starts;
  std::vector<std::uint32_t> of_query;
};

// A number for each point.
struct Numbers {
  Numbers(const Command& command, std::uint32_t column) {
    if (command.has("numbers")) values = read_array<double>(command.text("numbers"));
    columns.assign(values.size(), column);
    rests.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) offsets.push_back(static_cast<std::uint32_t>(i));
  }

  void put(vecdb_changes& change) const {
    change.column_added = columns.data();
    change.column_added_offsets = offsets.data();
    change.column_added_values = values.data();
    change.column_added_rests = rests.data();
    change.column_added_count = values.size();
  }

  std::vector<double> values;
  std::vector<std::int32_t> rests;
  std::vector<std::uint32_t> columns, offsets;
};

// A place for each point; the file has latitude and longitude by turns.
struct Places {
  Places(const Command& command, std::uint32_t column) {
    std::vector<double> places;
    if (command.has("places")) places = read_array<double>(command.text("places"));
    for (std::size_t i = 0; i + 1 < places.size(); i += 2) {
      offsets.push_back(static_cast<std::uint32_t>(i / 2));
      lats.push_back(places[i]);
      lons.push_back(places[i + 1]);
    }
    columns.assign(lats.size(), column);
  }

  void put(vecdb_changes& change) const {
    change.geo_added = columns.data();
    change.geo_added_offsets = offsets.data();
    change.geo_added_lats = lats.data();
    change.geo_added_lons = lons.data();
    change.geo_added_count = lats.size();
  }

  std::vector<std::uint32_t> columns, offsets;
  std::vector<double> lats, lons;
};

// Room for the hits of one call.
struct Hits {
  Hits(std::size_t queries, std::size_t k)
      : offsets(queries * k), ids(queries * k), kinds(queries * k), scores(queries * k), counts(queries) {}

  std::vector<std::uint32_t> offsets;
  std::vector<std::uint64_t> ids;
  std::vector<std::uint8_t> kinds;
  std::vector<float> scores;
  std::vector<std::uint32_t> counts;
};

}  // namespace bench
