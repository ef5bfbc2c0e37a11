// The rows that recent programs selected, so that searches one by one under the same filter evaluate it once between two writes.
//
// Invariant: what find returns was computed from the state as it is: clear is called whenever tags, columns, liveness or rows change, and
// what was computed before that is not taken afterwards. Thread rule: every call is thread-safe; a selection stays valid for whoever holds
// it.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "condition.hpp"
#include "searcher.hpp"

namespace vecdb {

class SelectionCache {
 public:
  // What was selected by an epoch is taken only while it lasts.
  using Epoch = std::uint64_t;

  // REQUIRES a lock that excludes clear; epoch() too.
  std::shared_ptr<const RowSelection> find(std::uint32_t field, const Program& program);
  Epoch epoch() const;
  // Least recently used selections leave when there are too many.
  void put(Epoch epoch, std::uint32_t field, const Program& program, std::shared_ptr<const RowSelection> rows);
  void clear();

 private:
  struct Entry {
    std::uint32_t field;
    std::uint64_t hash;
    std::vector<std::uint64_t> words;
    std::shared_ptr<const RowSelection> rows;
    std::uint64_t bytes;
  };

  mutable std::mutex mutex_;
  Epoch epoch_ = 0;
  std::list<Entry> entries_;  // most recently used first
  std::uint64_t bytes_ = 0;
};

}  // namespace vecdb
