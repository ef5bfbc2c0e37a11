// What keys hold, which of them a program asks for, and the grids of windows and cells.

#include "link_key.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <tuple>
#include <utility>

#include "mixed.hpp"
#include "vecdb.h"

namespace vecdb {

namespace {

// What is asked for fits into a window or cell of the grid when it takes at most this share of its width, since one begins every quarter.
constexpr double kFits = 3.0 / 4;
constexpr double kSteps = 4;
// Each width of the grid is this many times the one before it, less than the root of two.
constexpr double kGrowth = 1.4;
constexpr double kLeastWindow = 64;   // entries
constexpr double kLeastWidth = 1e-4;  // of a cell, in degrees
constexpr double kWholeLat = 180;
constexpr double kWholeLon = 360;

std::uint64_t word_of(double value) {
  std::uint64_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

std::uint64_t mark_of(std::initializer_list<std::uint64_t> words) {
  std::uint64_t mark = 0;
  for (const std::uint64_t word : words) mark = mixed(mark ^ word);
  return mark;
}

auto ordered(const LinkWindow& window) {
  const ColumnRange& range = window.range;
  return std::make_tuple(window.column, range.low_kind, range.low.value, range.low.rest, range.high_kind, range.high.value,
                         range.high.rest);
}

// A stretch of a grid in one dimension, whose lines are a quarter of a width apart.
struct Stretch {
  double low;
  double width;

  double high() const { return low + width; }
};

// The narrowest that [low, high] fits into, as wide as `least` or more.
Stretch stretch_around(double low, double high, double least) {
  double width = least;
  while (width * kFits < high - low) width *= kGrowth;
  const double step = width / kSteps;
  return {std::floor(low / step) * step, width};
}

std::optional<SharedKey> shared_window(const LinkWindow& narrow, const Attributes& attributes) {
  const Column* const column = attributes.columns.find(narrow.column);
  if (column == nullptr) return std::nullopt;
  const Column::Slice ranks = column->ranks(narrow.range);
  const Stretch stretch = stretch_around(static_cast<double>(ranks.first), static_cast<double>(ranks.last), kLeastWindow);
  const auto first = static_cast<std::size_t>(stretch.low);
  const auto last = static_cast<std::size_t>(std::ceil(stretch.high()));
  LinkWindow shared{narrow.column, {}};
  if (first == 0 && last >= column->ranked()) return std::nullopt;
  // The value before the first one, since the narrow bound may lie between the two.
  if (first > 0) {
    shared.range.low_kind = BoundKind::exclusive;
    shared.range.low = column->value_at(first - 1);
  }
  if (last < column->ranked()) {
    shared.range.high_kind = BoundKind::exclusive;
    shared.range.high = column->value_at(last);
  }
  if (!shared.range.contains(narrow.range)) return std::nullopt;
  return SharedKey{shared, mark_of({1, narrow.column, word_of(stretch.width), first})};
}

std::optional<SharedKey> shared_cell(const LinkCell& narrow) {
  const GeoFrame& frame = narrow.frame;
  const Stretch lat = stretch_around(frame.south, frame.north, kLeastWidth);
  const Stretch lon = stretch_around(frame.west, frame.east, kLeastWidth);
  const LinkCell shared{narrow.column, {lat.low, lat.high(), lon.low, lon.high()}};
  if (lat.width > kWholeLat || lon.width > kWholeLon || !shared.frame.contains(frame)) return std::nullopt;
  return SharedKey{shared, mark_of({2, narrow.column, word_of(lat.low), word_of(lat.width), word_of(lon.low), word_of(lon.width)})};
}

}  // namespace

bool LinkWindow::operator<(const LinkWindow& other) const { return ordered(*this) < ordered(other); }

bool LinkKey::is_of_column(std::uint32_t column) const {
  if (const LinkWindow* const own = window()) return own->column == column;
  const LinkCell* const own = cell();
  return own != nullptr && own->column == column;
}

bool LinkKey::covers(const LinkKey& other) const {
  if (const LinkTags* const joint = other.tags()) {
    if (const Tag* const own = tag()) return joint->has(*own);
    const LinkTags* const all = tags();
    return all != nullptr && std::includes(joint->tags.begin(), joint->tags.end(), all->tags.begin(), all->tags.end());
  }
  if (of_.index() != other.of_.index()) return false;
  if (const Tag* const own = tag()) return *own == *other.tag();
  if (const LinkWindow* const own = window()) return own->column == other.window()->column && own->range.contains(other.window()->range);
  return cell()->column == other.cell()->column && cell()->frame.contains(other.cell()->frame);
}

std::uint64_t LinkKey::mark() const {
  if (const Tag* const own = tag()) return mark_of({*own});
  if (const LinkTags* const joint = tags()) {
    std::uint64_t mark = mark_of({5});
    for (const Tag one : joint->tags) mark = mark_of({mark, one});
    return mark;
  }
  if (const LinkWindow* const own = window()) {
    const ColumnRange& range = own->range;
    const auto kinds = static_cast<std::uint64_t>(range.low_kind) << 2 | static_cast<std::uint64_t>(range.high_kind);
    return mark_of({3, own->column, kinds, word_of(range.low.value), static_cast<std::uint64_t>(range.low.rest), word_of(range.high.value),
                    static_cast<std::uint64_t>(range.high.rest)});
  }
  const GeoFrame& frame = cell()->frame;
  return mark_of({4, cell()->column, word_of(frame.south), word_of(frame.north), word_of(frame.west), word_of(frame.east)});
}

OffsetSet offsets_with(const LinkKey& key, const Attributes& attributes) {
  const Offset universe = attributes.live.value().size();
  if (const Tag* const tag = key.tag()) return OffsetSet::borrow(attributes.tags.find(*tag));
  if (const LinkTags* const joint = key.tags()) {
    std::vector<OffsetSet> sets;
    for (const Tag tag : joint->tags) sets.push_back(OffsetSet::borrow(attributes.tags.find(tag)));
    return intersection(std::move(sets), universe);
  }
  if (const LinkWindow* const window = key.window()) {
    const Column* const column = attributes.columns.find(window->column);
    if (column == nullptr) return OffsetSet::none();
    Bitset bits(universe);
    column->for_each(window->range, [&](Offset offset) { bits.set(offset); });
    return OffsetSet::of_bits(std::move(bits));
  }
  const GeoColumn* const column = attributes.points.find(key.cell()->column);
  return column == nullptr ? OffsetSet::none() : column->inside(GeoArea(key.cell()->frame), universe);
}

std::uint64_t count_about(const LinkKey& key, const Attributes& attributes) {
  if (const Tag* const tag = key.tag()) {
    const Posting* const posting = attributes.tags.find(*tag);
    return posting == nullptr ? 0 : posting->count();
  }
  if (key.tags() != nullptr) {
    const OffsetSet all = offsets_with(key, attributes);
    return all.is_list() ? all.list_size() : all.bits().count();
  }
  if (const LinkWindow* const window = key.window()) {
    const Column* const column = attributes.columns.find(window->column);
    return column == nullptr ? 0 : column->count_at_most(window->range);
  }
  const GeoColumn* const column = attributes.points.find(key.cell()->column);
  return column == nullptr ? 0 : column->count_about(key.cell()->frame);
}

std::vector<LinkKey> required_areas(const Program& program) {
  std::vector<std::vector<LinkKey>> stack;
  const std::uint64_t* const words = program.words();
  const auto pop = [&](std::uint64_t count) {
    std::vector<LinkKey> joint;
    const auto first = stack.end() - static_cast<std::ptrdiff_t>(count);
    for (auto one = first; one != stack.end(); ++one) joint.insert(joint.end(), one->begin(), one->end());
    stack.erase(first, stack.end());
    return joint;
  };
  for (std::size_t at = 0; at < program.size(); at += operation_size(words + at)) {
    const std::uint64_t* const operation = words + at;
    const auto column = [&] { return static_cast<std::uint32_t>(operation[1]); };
    switch (*operation) {
      case VECDB_OP_RANGE:
        stack.push_back({LinkWindow{column(), range_at(operation)}});
        break;
      case VECDB_OP_GEO: {
        const std::optional<GeoFrame> frame = GeoArea(operation[2], operation + 4, operation[3]).frame();
        stack.emplace_back();
        if (frame) stack.back().push_back(LinkCell{column(), *frame});
        break;
      }
      case VECDB_OP_AND:
        stack.push_back(pop(operation[1]));
        break;
      case VECDB_OP_OR:
        stack.push_back(operation[1] == 1 ? pop(1) : (pop(operation[1]), std::vector<LinkKey>()));
        break;
      case VECDB_OP_AT_LEAST:
        pop(operation[1]);
        stack.emplace_back();
        break;
      case VECDB_OP_NOT:
        stack.back().clear();
        break;
      default:  // tags and offsets are in no area
        stack.emplace_back();
    }
  }
  return stack.empty() ? std::vector<LinkKey>() : std::move(stack.back());
}

std::optional<SharedKey> shared_key(const LinkKey& narrow, const Attributes& attributes) {
  if (const LinkWindow* const window = narrow.window()) return shared_window(*window, attributes);
  if (const LinkCell* const cell = narrow.cell()) return shared_cell(*cell);
  return std::nullopt;
}

}  // namespace vecdb
