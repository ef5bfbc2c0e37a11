// A filter program (vecdb.h, "filter programs") and its evaluation over tags and columns.
//
// Invariant: a Program that exists is valid, so that evaluation cannot fail on its words; a result holds live offsets only and its count
// is exact. Thread rule: evaluate reads tags, columns and live bits, which must not change meanwhile; the result borrows nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bitset.hpp"
#include "columns.hpp"
#include "geo_column.hpp"
#include "tags.hpp"
#include "types.hpp"

namespace vecdb {

// Which operations a program may use: an index of labels has no columns, and its offsets are nobody's business.
enum class Operands { all, tags_only };

class Program {
 public:
  // Checks every word and keeps a pointer to them. Throws Error invalid_argument, naming the word.
  Program(const std::uint64_t* words, std::uint64_t size, Operands operands);

  const std::uint64_t* words() const { return words_; }
  std::size_t size() const { return size_; }
  bool is_all() const { return size_ == 0; }

 private:
  const std::uint64_t* words_;
  std::size_t size_;
};

// How many words the operation at this word of a Program takes, its operands included.
std::size_t operation_size(const std::uint64_t* at);

// Of the RANGE operation at this word of a Program; bounds that are open are zero.
ColumnRange range_at(const std::uint64_t* at);

// The live offsets that satisfy a program.
struct Selection {
  enum class Form { all, list, bits };

  Form form = Form::all;
  std::uint64_t count = 0;
  std::vector<Offset> list;  // ascending, when form is list
  Bitset bits;               // when form is bits
};

struct Catalogue {
  const Tags& tags;
  const Columns* columns;    // nullptr: REQUIRES a program of tags only
  const GeoColumns* points;  // nullptr: likewise
  const Bitset& live;        // its size bounds the offsets of tags and columns
  std::uint64_t live_count;

  bool all_live() const { return live_count == live.size(); }
};

Selection evaluate(const Program& program, const Catalogue& catalogue);
// How many there are, without making the set where that can be told from its parts.
std::uint64_t count_matches(const Program& program, const Catalogue& catalogue);

}  // namespace vecdb
