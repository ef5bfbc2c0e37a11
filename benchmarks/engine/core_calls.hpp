// What the driver of vecdb's core passes to the C ABI and gets back: filter programs by query, room for hits, statuses as exceptions.
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
