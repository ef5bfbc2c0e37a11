// The user's id of every offset: one u64 each, and a bit for its kind; the text of str ids lies in an arena.
//
// Invariant: neither ids nor text ever move or change. A str id's u64 is its place, (start in the arena << 16 | length).
// Thread rule: one thread appends under the index's exclusive lock; others read offsets they learnt of under that lock, while it goes on.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "stable_array.hpp"
#include "types.hpp"

namespace vecdb {

enum class IdKind : std::uint8_t { integer = 0, text = 1 };  // values as in vecdb_id_kind

// Ids as they come in a change: of kind text the value is (start << 16 | length) into text.
struct IdBatch {
  const std::uint64_t* values;
  const std::uint8_t* kinds;
  std::uint32_t count;
  const char* text;
  std::uint64_t text_size;
};

class Ids {
 public:
  // Throws Error invalid_argument for a kind or a place that is none.
  static void check(const IdBatch& batch);
  // REQUIRES: check(batch) passed. May throw std::bad_alloc, and nothing was appended then.
  void append(const IdBatch& batch);

  Offset count() const { return count_; }
  IdKind kind(Offset offset) const;
  // The int id, or the place of the text.
  std::uint64_t value(Offset offset) const { return values_[offset]; }
  // Throws Error invalid_argument for a place that this never gave out.
  std::string_view text(std::uint64_t place) const;

  // The order of ids, for ties: ints before strs, strs by their bytes.
  bool before(Offset a, Offset b) const;

  std::uint64_t bytes() const { return values_.bytes() + kinds_.bytes() + arena_.bytes(); }

 private:
  // Where a text of this length goes when the arena ends at end.
  std::uint64_t text_start(std::uint64_t end, std::uint64_t length) const;
  std::uint64_t add_text(const char* text, std::uint64_t length);
  std::string_view text_at(std::uint64_t place) const;

  StableArray<std::uint64_t> values_;
  // 64 kinds a word. Atomic because a word that is being appended to holds kinds that others read.
  StableArray<std::atomic<std::uint64_t>, 16> kinds_;
  StableArray<char, 65536> arena_;  // no text crosses a chunk: the longest has 65,535 bytes
  std::atomic<std::uint64_t> arena_end_{0};
  Offset count_ = 0;
};

}  // namespace vecdb
