// Look-up by area: a slice of the sorted run is one cell of the globe; it is taken whole, left out, or halved.

#include "geo_column.hpp"

#include <algorithm>
#include <cmath>

namespace vecdb {

namespace {

constexpr int kBits = 31;  // of each coordinate
constexpr std::uint32_t kCells = std::uint32_t{1} << kBits;
constexpr std::uint64_t kOffGlobe = std::uint64_t{1} << (2 * kBits);
// So many entries are tested one by one: halving them would cost as much.
constexpr std::size_t kFewEntries = 16;
// Degrees by which a cell is taken larger than it is, far above what the roundings of cell_of may move a point.
constexpr double kMargin = 1e-10;
// An estimate takes half of a cell on the edge that has less than this share of the entries.
constexpr std::size_t kEstimateShare = 1024;
// Beyond one offset in this many a bitset is quicker to combine than a list; below so many a list is quicker to sort than through one.
constexpr std::size_t kListShare = 64;
constexpr std::size_t kShortList = 64;

std::uint64_t spread_bits(std::uint64_t x) {
  x = (x | x << 16) & 0x0000ffff0000ffff;
  x = (x | x << 8) & 0x00ff00ff00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
  x = (x | x << 2) & 0x3333333333333333;
  return (x | x << 1) & 0x5555555555555555;
}

std::uint32_t gather_bits(std::uint64_t x) {
  x &= 0x5555555555555555;
  x = (x | x >> 1) & 0x3333333333333333;
  x = (x | x >> 2) & 0x0f0f0f0f0f0f0f0f;
  x = (x | x >> 4) & 0x00ff00ff00ff00ff;
  x = (x | x >> 8) & 0x0000ffff0000ffff;
  return static_cast<std::uint32_t>(x | x >> 16);
}

// Does not fall as degrees rise. REQUIRES degrees within [-limit, limit].
std::uint32_t cell_of(double degrees, double limit) {
  return static_cast<std::uint32_t>(std::min((degrees + limit) * (kCells / (2 * limit)), kCells - 1.0));
}

double degrees_of(std::uint64_t cell, double limit) { return static_cast<double>(cell) * (2 * limit / kCells) - limit; }

std::uint64_t code_of(GeoPoint point) {
  if (!is_on_globe(point)) return kOffGlobe;
  return spread_bits(cell_of(point.lat, 90)) << 1 | spread_bits(cell_of(point.lon, 180));
}

// The smallest cell with both codes in it: their common high bits.
GeoCell cell_around(std::uint64_t first, std::uint64_t last) {
  const std::uint64_t different = first ^ last;
  const std::uint64_t below = different == 0 ? 0 : ~std::uint64_t{0} >> __builtin_clzll(different);
  const std::uint64_t low = first & ~below;
  const std::uint64_t high = first | below;
  GeoCell cell{};
  cell.south = std::max(-90.0, degrees_of(gather_bits(low >> 1), 90) - kMargin);
  cell.north = std::min(90.0, degrees_of(std::uint64_t{gather_bits(high >> 1)} + 1, 90) + kMargin);
  cell.west = std::max(-180.0, degrees_of(gather_bits(low), 180) - kMargin);
  cell.east = std::min(180.0, degrees_of(std::uint64_t{gather_bits(high)} + 1, 180) + kMargin);
  return cell;
}

// Offsets in any order, several times each: a list while they are few, then a bitset.
class Collector {
 public:
  explicit Collector(Offset universe) : universe_(universe), most_(std::max<std::size_t>(kShortList, universe / kListShare)) {}

  void add(Offset offset) {
    if (is_dense_) {
      bits_.set(offset);
      return;
    }
    list_.push_back(offset);
    if (list_.size() > most_) become_dense();
  }

  OffsetSet take() && {
    if (!is_dense_ && list_.size() <= kShortList) {
      std::sort(list_.begin(), list_.end());
      list_.erase(std::unique(list_.begin(), list_.end()), list_.end());
      return OffsetSet::of_list(std::move(list_));
    }
    if (is_dense_) return OffsetSet::of_bits(std::move(bits_));
    become_dense();
    list_.clear();
    bits_.for_each([&](Offset offset) { list_.push_back(offset); });
    return OffsetSet::of_list(std::move(list_));
  }

 private:
  void become_dense() {
    bits_ = Bitset(universe_);
    for (const Offset offset : list_) bits_.set(offset);
    is_dense_ = true;
  }

  Offset universe_;
  std::size_t most_;
  std::vector<Offset> list_;
  Bitset bits_;
  bool is_dense_ = false;
};

bool has_lower_code(const GeoEntry& entry, std::uint64_t code) { return entry.code < code; }

// Where the second half of a slice begins, whose codes differ: their highest bit that does is 0 in the first half and 1 in the second.
std::size_t middle_of(const std::vector<GeoEntry>& run, std::size_t first, std::size_t last) {
  const std::uint64_t high = run[last - 1].code;
  const std::uint64_t bit = std::uint64_t{1} << (63 - __builtin_clzll(run[first].code ^ high));
  const auto begin = run.begin();
  const auto middle = std::lower_bound(begin + static_cast<std::ptrdiff_t>(first), begin + static_cast<std::ptrdiff_t>(last),
                                       high & ~(bit - 1), has_lower_code);
  return static_cast<std::size_t>(middle - begin);
}

// How many entries before the first that is off the globe.
std::size_t count_on_globe(const std::vector<GeoEntry>& run) {
  return static_cast<std::size_t>(std::lower_bound(run.begin(), run.end(), kOffGlobe, has_lower_code) - run.begin());
}

// REQUIRES entries on the globe.
std::size_t estimate(const std::vector<GeoEntry>& run, std::size_t first, std::size_t last, const GeoFrame& frame) {
  if (first == last) return 0;
  switch (frame.relation_to(cell_around(run[first].code, run[last - 1].code))) {
    case GeoRelation::outside:
      return 0;
    case GeoRelation::inside:
      return last - first;
    case GeoRelation::crossing:
      break;
  }
  if (last - first <= std::max(kFewEntries, run.size() / kEstimateShare) || run[first].code == run[last - 1].code)
    return (last - first) / 2;
  const std::size_t middle = middle_of(run, first, last);
  return estimate(run, first, middle, frame) + estimate(run, middle, last, frame);
}

// One look-up in one run.
class Lookup {
 public:
  Lookup(const std::vector<GeoEntry>& run, const GeoArea& area, const Bitset* removed, Collector& found)
      : run_(run), area_(area), removed_(removed), found_(found) {}

  void go() {
    const std::size_t on_globe = count_on_globe(run_);
    visit(0, on_globe);
    test_each(on_globe, run_.size());
  }

 private:
  void visit(std::size_t first, std::size_t last) {
    if (last - first <= kFewEntries || run_[first].code == run_[last - 1].code) {
      test_each(first, last);
      return;
    }
    switch (area_.relation_to(cell_around(run_[first].code, run_[last - 1].code))) {
      case GeoRelation::outside:
        return;
      case GeoRelation::inside:
        for (std::size_t i = first; i < last; ++i) take(i);
        return;
      case GeoRelation::crossing:
        break;
    }
    const std::size_t middle = middle_of(run_, first, last);
    visit(first, middle);
    visit(middle, last);
  }

  void test_each(std::size_t first, std::size_t last) {
    const GeoEntry* tested = nullptr;  // many offsets may stand at one point
    bool is_inside = false;
    for (std::size_t i = first; i < last; ++i) {
      const GeoEntry& entry = run_[i];
      if (tested == nullptr || tested->point.lat != entry.point.lat || tested->point.lon != entry.point.lon) {
        is_inside = area_.contains(entry.point);
        tested = &entry;
      }
      if (is_inside) take(i);
    }
  }

  void take(std::size_t position) {
    if (removed_ == nullptr || !removed_->contains(static_cast<std::uint32_t>(position))) found_.add(run_[position].offset);
  }

  const std::vector<GeoEntry>& run_;
  const GeoArea& area_;
  const Bitset* removed_;  // nullptr: nothing is
  Collector& found_;
};

}  // namespace

GeoEntry GeoEntry::of(GeoPoint point, Offset offset) {
  point = {point.lat + 0.0, point.lon + 0.0};  // -0.0 and 0.0 are one place
  return {code_of(point), point, offset};
}

OffsetSet GeoColumn::inside(const GeoArea& area, Offset universe) const {
  Collector found(universe);
  Lookup(runs_.sorted(), area, runs_.removed(), found).go();
  Lookup(runs_.recent(), area, nullptr, found).go();
  return std::move(found).take();
}

std::uint64_t GeoColumn::count_about(const GeoFrame& frame) const {
  std::uint64_t count = 0;
  for (const std::vector<GeoEntry>* run : {&runs_.sorted(), &runs_.recent()}) {
    const std::size_t on_globe = count_on_globe(*run);
    count += estimate(*run, 0, on_globe, frame) + (run->size() - on_globe);
  }
  return count;
}

const GeoColumn* GeoColumns::find(std::uint32_t column) const {
  const auto found = columns_.find(column);
  return found == columns_.end() ? nullptr : &found->second;
}

GeoColumn* GeoColumns::find(std::uint32_t column) {
  const auto found = columns_.find(column);
  return found == columns_.end() ? nullptr : &found->second;
}

std::uint64_t GeoColumns::bytes() const {
  std::uint64_t total = 0;
  for (const auto& [number, column] : columns_) total += sizeof(number) + sizeof(GeoColumn) + column.bytes();
  return total;
}

}  // namespace vecdb
