// What the rows of a linked set have in common: a tag, all of several tags, a number within a window of a column, or a point within a cell
// of a geo column.
//
// Invariant: a key that covers another has all its members. Thread rule: values; offsets_with and count_about read attributes,
// which must not change meanwhile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "bitset.hpp"
#include "columns.hpp"
#include "condition.hpp"
#include "copy_on_write.hpp"
#include "geo_column.hpp"
#include "offset_set.hpp"
#include "tags.hpp"
#include "types.hpp"

namespace vecdb {

// What the offsets of an index have, and which of them live.
struct Attributes {
  const Tags& tags;
  const Columns& columns;
  const GeoColumns& points;
  const CopyOnWrite<Bitset>& live;
};

// All of these.
struct LinkTags {
  std::vector<Tag> tags;  // ascending, each once, two or more

  bool has(Tag tag) const { return std::binary_search(tags.begin(), tags.end(), tag); }
  bool operator<(const LinkTags& other) const { return tags < other.tags; }
};

struct LinkWindow {
  std::uint32_t column;
  ColumnRange range;

  bool has(const ColumnEntry& entry) const { return range.contains(entry); }
  bool operator<(const LinkWindow& other) const;
};

struct LinkCell {
  std::uint32_t column;
  GeoFrame frame;

  bool has(const GeoEntry& entry) const { return frame.contains(entry.point); }
  bool operator<(const LinkCell& other) const { return column != other.column ? column < other.column : frame < other.frame; }
};

// Keys of tags come first in their order, those of several after those of one.
class LinkKey {
 public:
  LinkKey(Tag tag) : of_(tag) {}
  LinkKey(LinkTags tags) : of_(std::move(tags)) {}
  LinkKey(const LinkWindow& window) : of_(window) {}
  LinkKey(const LinkCell& cell) : of_(cell) {}

  const Tag* tag() const { return std::get_if<Tag>(&of_); }
  const LinkTags* tags() const { return std::get_if<LinkTags>(&of_); }
  const LinkWindow* window() const { return std::get_if<LinkWindow>(&of_); }
  const LinkCell* cell() const { return std::get_if<LinkCell>(&of_); }
  // Whether it is a window or a cell of this column.
  bool is_of_column(std::uint32_t column) const;

  bool covers(const LinkKey& other) const;
  // A number that stands for it.
  std::uint64_t mark() const;

  bool operator<(const LinkKey& other) const { return of_ < other.of_; }

 private:
  std::variant<Tag, LinkTags, LinkWindow, LinkCell> of_;
};

OffsetSet offsets_with(const LinkKey& key, const Attributes& attributes);
// How many there are about: removed entries may be counted, and several of one offset; points in a cell are estimated. Of several tags
// they are counted, in O(offsets / 64) at most.
std::uint64_t count_about(const LinkKey& key, const Attributes& attributes);

// Windows and cells, as narrow as can be, in each of which every match of the program is.
std::vector<LinkKey> required_areas(const Program& program);

// A window or a cell around a narrow one, from a grid that many ranges and areas share: at most twice as wide, with neighbours that overlap
// by three quarters; none where that would be everything. mark stands for its place in the grid, which stays while its bounds move
// with what is in the column.
struct SharedKey {
  LinkKey key;
  std::uint64_t mark;
};
std::optional<SharedKey> shared_key(const LinkKey& narrow, const Attributes& attributes);

}  // namespace vecdb
