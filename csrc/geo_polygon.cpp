// Point in polygon by the even-odd rule: the edges that a ray to the east crosses are counted, with exact signs.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "geo_shapes.hpp"

namespace vecdb {

namespace {

using Limbs = std::vector<std::uint64_t>;

// Three roundings in each product of side(); twice as much is a safe bound of what they may add up to. Products below the second are
// not rounded relatively any more.
constexpr double kRounding = 8 * 0x1p-53;
constexpr double kTiny = 0x1p-1000;
constexpr int kMantissaBits = 53;
constexpr int kDegreeBits = 10;  // differences of degrees are below 2**10, with their sign
constexpr int kLimbBits = 64;
constexpr std::size_t kMostBands = 256;
constexpr std::size_t kEdgesPerBand = 4;

// value = mantissa * 2**exponent, the mantissa odd or 0.
struct Parts {
  std::int64_t mantissa;
  int exponent;
};

Parts parts_of(double value) {
  if (value == 0) return {0, 0};
  int exponent = 0;
  auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(value, &exponent), kMantissaBits));
  exponent -= kMantissaBits;
  const int zeros = __builtin_ctzll(static_cast<std::uint64_t>(mantissa));
  return {mantissa / (std::int64_t{1} << zeros), exponent + zeros};
}

struct Signed {
  bool is_negative;
  Limbs magnitude;
};

void negate(Limbs& limbs) {
  std::uint64_t carry = 1;
  for (std::uint64_t& limb : limbs) {
    limb = ~limb + carry;
    carry = carry != 0 && limb == 0 ? 1 : 0;
  }
}

// Numbers as whole multiples of 2**lowest, in two's complement over a fixed count of limbs.
class FixedPoint {
 public:
  FixedPoint(int lowest, std::size_t limbs) : lowest_(lowest), limbs_(limbs) {}

  Signed difference(const Parts& a, const Parts& b) const {
    Limbs result = spread(a);
    const Limbs other = spread(b);
    std::uint64_t borrow = 0;
    for (std::size_t i = 0; i < limbs_; ++i) {
      const unsigned __int128 left = static_cast<unsigned __int128>(result[i]) - other[i] - borrow;
      result[i] = static_cast<std::uint64_t>(left);
      borrow = static_cast<std::uint64_t>(left >> kLimbBits) & 1;
    }
    const bool is_negative = (result.back() >> (kLimbBits - 1)) != 0;
    if (is_negative) negate(result);
    return {is_negative, std::move(result)};
  }

 private:
  Limbs spread(const Parts& parts) const {
    Limbs limbs(limbs_);
    const auto magnitude = static_cast<std::uint64_t>(std::abs(parts.mantissa));
    if (magnitude == 0) return limbs;
    const auto shift = static_cast<std::size_t>(parts.exponent - lowest_);
    const std::size_t limb = shift / kLimbBits;
    const std::size_t bit = shift % kLimbBits;
    limbs[limb] = magnitude << bit;
    if (bit != 0 && limb + 1 < limbs_) limbs[limb + 1] = magnitude >> (kLimbBits - bit);
    if (parts.mantissa < 0) negate(limbs);
    return limbs;
  }

  int lowest_;
  std::size_t limbs_;
};

Signed product(const Signed& a, const Signed& b) {
  Limbs result(a.magnitude.size() + b.magnitude.size());
  for (std::size_t i = 0; i < a.magnitude.size(); ++i) {
    std::uint64_t carry = 0;
    for (std::size_t j = 0; j < b.magnitude.size(); ++j) {
      const unsigned __int128 sum = static_cast<unsigned __int128>(a.magnitude[i]) * b.magnitude[j] + result[i + j] + carry;
      result[i + j] = static_cast<std::uint64_t>(sum);
      carry = static_cast<std::uint64_t>(sum >> kLimbBits);
    }
    result[i + b.magnitude.size()] = carry;
  }
  return {a.is_negative != b.is_negative, std::move(result)};
}

// The sign of a - b.
int compare(const Signed& a, const Signed& b) {
  const auto is_zero = [](const Signed& number) {
    return std::all_of(number.magnitude.begin(), number.magnitude.end(), [](std::uint64_t limb) { return limb == 0; });
  };
  if (is_zero(a) && is_zero(b)) return 0;
  if (a.is_negative != b.is_negative) {
    if (is_zero(a)) return b.is_negative ? 1 : -1;
    return a.is_negative ? -1 : 1;
  }
  for (std::size_t i = a.magnitude.size(); i-- > 0;) {
    if (a.magnitude[i] == b.magnitude[i]) continue;
    return (a.magnitude[i] > b.magnitude[i]) != a.is_negative ? 1 : -1;
  }
  return 0;
}

// Doubles are whole multiples of a power of two, so that products of their differences are compared as whole numbers.
int exact_side(GeoPoint a, GeoPoint b, GeoPoint point) {
  const Parts all[6] = {parts_of(a.lat), parts_of(a.lon), parts_of(b.lat), parts_of(b.lon), parts_of(point.lat), parts_of(point.lon)};
  int lowest = 0;
  for (const Parts& parts : all) {
    if (parts.mantissa != 0) lowest = std::min(lowest, parts.exponent);
  }
  const FixedPoint fixed(lowest, static_cast<std::size_t>((kDegreeBits - lowest) / kLimbBits + 1));
  const Signed left = product(fixed.difference(all[3], all[1]), fixed.difference(all[4], all[0]));
  const Signed right = product(fixed.difference(all[2], all[0]), fixed.difference(all[5], all[1]));
  return compare(left, right);
}

// 1 when the point is left of the line from a to b, -1 when it is right, 0 when it is on the line, exactly. REQUIRES degrees within
// [-180, 180].
int side(GeoPoint a, GeoPoint b, GeoPoint point) {
  const double left = (b.lon - a.lon) * (point.lat - a.lat);
  const double right = (b.lat - a.lat) * (point.lon - a.lon);
  if (std::abs(left - right) > (std::abs(left) + std::abs(right)) * kRounding + kTiny) return left > right ? 1 : -1;
  return exact_side(a, b, point);
}

}  // namespace

GeoPolygon::GeoPolygon(std::vector<std::vector<GeoPoint>> rings) {
  south_ = north_ = rings.front().front().lat;
  west_ = east_ = rings.front().front().lon;
  std::size_t edges = 0;
  for (const std::vector<GeoPoint>& ring : rings) {
    edges += ring.size() - 1;
    for (const GeoPoint& point : ring) {
      south_ = std::min(south_, point.lat);
      north_ = std::max(north_, point.lat);
      west_ = std::min(west_, point.lon);
      east_ = std::max(east_, point.lon);
    }
  }
  const std::size_t bands = std::min(kMostBands, 1 + edges / kEdgesPerBand);
  bands_per_degree_ = north_ > south_ ? static_cast<double>(bands) / (north_ - south_) : 0.0;
  if (!std::isfinite(bands_per_degree_)) bands_per_degree_ = 0.0;
  for (const std::vector<GeoPoint>& points : rings) {
    Ring ring{std::vector<std::vector<Edge>>(bands)};
    for (std::size_t i = 0; i + 1 < points.size(); ++i) {
      const Edge edge{points[i], points[i + 1]};
      const std::size_t last = std::min(bands - 1, band_of(std::max(edge.a.lat, edge.b.lat)));
      for (std::size_t band = std::min(bands - 1, band_of(std::min(edge.a.lat, edge.b.lat))); band <= last; ++band) {
        ring.bands[band].push_back(edge);
      }
    }
    rings_.push_back(std::move(ring));
  }
}

// It does not fall as the latitude rises: an edge is in the band of every point beside it, whatever the roundings.
std::size_t GeoPolygon::band_of(double lat) const { return static_cast<std::size_t>((lat - south_) * bands_per_degree_); }

GeoPolygon::Place GeoPolygon::place_in(const Ring& ring, GeoPoint point) const {
  if (point.lat < south_ || point.lat > north_) return Place::outside;
  bool is_inside = false;
  for (const Edge& edge : ring.bands[std::min(ring.bands.size() - 1, band_of(point.lat))]) {
    const GeoPoint a = edge.a;
    const GeoPoint b = edge.b;
    if (point.lat < std::min(a.lat, b.lat) || point.lat > std::max(a.lat, b.lat)) continue;
    if (point.lon > std::max(a.lon, b.lon)) continue;
    const bool crosses = (a.lat > point.lat) != (b.lat > point.lat);
    if (point.lon < std::min(a.lon, b.lon)) {
      is_inside = is_inside != crosses;
      continue;
    }
    const int to = side(a, b, point);
    if (to == 0) return Place::on_edge;
    if (crosses && (to > 0) == (b.lat > a.lat)) is_inside = !is_inside;
  }
  return is_inside ? Place::inside : Place::outside;
}

bool GeoPolygon::contains(GeoPoint point) const {
  if (place_in(rings_.front(), point) != Place::inside) return false;
  return std::all_of(rings_.begin() + 1, rings_.end(), [&](const Ring& ring) { return place_in(ring, point) == Place::outside; });
}

GeoRelation GeoPolygon::relation_to(const GeoCell& cell) const {
  if (cell.north < south_ || cell.south > north_) return GeoRelation::outside;
  const GeoPoint corners[4] = {{cell.south, cell.west}, {cell.south, cell.east}, {cell.north, cell.west}, {cell.north, cell.east}};
  const auto may_touch = [&](const Edge& edge) {
    if (std::max(edge.a.lat, edge.b.lat) < cell.south || std::min(edge.a.lat, edge.b.lat) > cell.north) return false;
    if (std::max(edge.a.lon, edge.b.lon) < cell.west || std::min(edge.a.lon, edge.b.lon) > cell.east) return false;
    const int first = side(edge.a, edge.b, corners[0]);
    return first == 0 || std::any_of(corners + 1, corners + 4, [&](GeoPoint corner) { return side(edge.a, edge.b, corner) != first; });
  };
  const std::size_t south = band_of(std::max(cell.south, south_));
  const std::size_t north = band_of(std::min(cell.north, north_));
  for (const Ring& ring : rings_) {
    const std::size_t last = std::min(ring.bands.size() - 1, north);
    for (std::size_t band = std::min(ring.bands.size() - 1, south); band <= last; ++band) {
      if (std::any_of(ring.bands[band].begin(), ring.bands[band].end(), may_touch)) return GeoRelation::crossing;
    }
  }
  // No edge touches the cell: all of it lies as one of its points does.
  return contains(corners[0]) ? GeoRelation::inside : GeoRelation::outside;
}

}  // namespace vecdb
