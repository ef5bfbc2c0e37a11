// Radius and box, and the operands that areas are made of; the polygon is in geo_polygon.cpp.

#include "geo_shapes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "vecdb.h"

namespace vecdb {

namespace {

constexpr double kEarthRadius = 6371008.8;  // metres, mean
constexpr double kPi = 3.14159265358979323846;
constexpr double kRadians = kPi / 180.0;
constexpr std::uint64_t kRadiusWords = 3;  // lat, lon, metres
constexpr std::uint64_t kBoxWords = 4;     // top, left, bottom, right
constexpr std::uint64_t kSmallestRing = 4;

double radians(double degrees) { return degrees * kRadians; }

// How far a haversine may be off: relative by the roundings of its formula, and by those of the angles it is taken of.
double slack(double haversine) { return 1e-12 * haversine + 1e-14 * std::sqrt(haversine) + 1e-28; }

double between(double value, double low, double high) { return std::max(low, std::min(high, value)); }

double as_double(std::uint64_t word) {
  double value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

GeoPoint point_at(const std::uint64_t* words) { return {as_double(words[0]), as_double(words[1])}; }

double squared_sine(double angle) {
  const double sine = std::sin(angle);
  return sine * sine;
}

// Least and greatest distance of a longitude from those of a cell, in radians of [0, pi].
struct Spread {
  double least;
  double greatest;
};

Spread spread(double lon, const GeoCell& cell) {
  const auto around = [](double degrees) {
    const double positive = std::abs(degrees);
    return std::min(positive, 360.0 - positive);
  };
  const double west = around(cell.west - lon);
  const double east = around(cell.east - lon);
  const double opposite = lon > 0 ? lon - 180.0 : lon + 180.0;
  const double least = cell.west <= lon && lon <= cell.east ? 0.0 : std::min(west, east);
  const double greatest = cell.west <= opposite && opposite <= cell.east ? 180.0 : std::max(west, east);
  return {radians(between(least, 0.0, 180.0)), radians(between(greatest, 0.0, 180.0))};
}

}  // namespace

// ---- radius ----

GeoRadius::GeoRadius(GeoPoint center, double metres)
    : center_(center), lat_(radians(center.lat)), cos_lat_(std::cos(lat_)), metres_(metres), surely_inside_(2.0), surely_outside_(2.0) {
  const double angle = metres / kEarthRadius;
  if (angle > kPi * 1.000001) return;  // all of the globe
  const double haversine = angle < kPi ? squared_sine(angle / 2) : 1.0;
  surely_inside_ = haversine - slack(haversine);
  surely_outside_ = haversine + slack(haversine);
}

bool GeoRadius::contains(GeoPoint point) const {
  const double lat = radians(point.lat);
  const double half_lat = std::sin((lat - lat_) / 2);
  const double half_lon = std::sin(radians(point.lon - center_.lon) / 2);
  const double haversine = half_lat * half_lat + cos_lat_ * std::cos(lat) * (half_lon * half_lon);
  if (haversine < surely_inside_) return true;
  if (haversine > surely_outside_) return false;
  return 2 * kEarthRadius * std::asin(std::sqrt(between(haversine, 0.0, 1.0))) < metres_;
}

GeoRelation GeoRadius::relation_to(const GeoCell& cell) const {
  const double south = radians(cell.south);
  const double north = radians(cell.north);
  const Spread lon = spread(center_.lon, cell);
  const auto haversine = [&](double lat, double lon_sine) { return squared_sine((lat - lat_) / 2) + cos_lat_ * std::cos(lat) * lon_sine; };
  // At a given difference of longitude the cosine of the distance is a sine wave of the latitude, whose top and bottom are known; at a
  // given latitude the distance grows with that difference.
  const double near_sine = squared_sine(lon.least / 2);
  double least = std::min(haversine(south, near_sine), haversine(north, near_sine));
  const double top = std::atan2(std::sin(lat_), cos_lat_ * std::cos(lon.least));
  if (south < top && top < north) least = std::min(least, haversine(top, near_sine));
  if (least - slack(std::max(least, 0.0)) > surely_outside_) return GeoRelation::outside;

  const double far_sine = squared_sine(lon.greatest / 2);
  double greatest = std::max(haversine(south, far_sine), haversine(north, far_sine));
  const double highest = std::atan2(std::sin(lat_), cos_lat_ * std::cos(lon.greatest));
  const double bottom = highest > 0 ? highest - kPi : highest + kPi;
  if (south < bottom && bottom < north) greatest = std::max(greatest, haversine(bottom, far_sine));
  return greatest + slack(greatest) < surely_inside_ ? GeoRelation::inside : GeoRelation::crossing;
}

std::optional<GeoFrame> GeoRadius::frame() const {
  constexpr double kVast = 60.0;        // degrees
  constexpr double kNearPole = 89.0;    // whose meridians are too near to each other
  constexpr double kMargin = 1 + 1e-7;  // far above what the roundings of a distance come to
  constexpr double kLeastMargin = 1e-7;
  const double reach = metres_ / kEarthRadius / kRadians * kMargin + kLeastMargin;
  if (reach > kVast || std::abs(center_.lat) + reach > kNearPole) return std::nullopt;
  const double across = std::asin(std::sin(radians(reach)) / cos_lat_) / kRadians * kMargin + kLeastMargin;
  const GeoFrame frame{center_.lat - reach, center_.lat + reach, center_.lon - across, center_.lon + across};
  return frame.west < -180 || frame.east > 180 ? std::nullopt : std::optional<GeoFrame>(frame);
}

// ---- box ----

bool GeoBox::contains(GeoPoint point) const {
  const bool is_east = point.lon > top_left_.lon;
  const bool is_west = point.lon < bottom_right_.lon;
  return (wraps() ? is_east || is_west : is_east && is_west) && bottom_right_.lat < point.lat && point.lat < top_left_.lat;
}

GeoRelation GeoBox::relation_to(const GeoCell& cell) const {
  if (cell.north <= bottom_right_.lat || cell.south >= top_left_.lat) return GeoRelation::outside;
  const bool is_lat_inside = bottom_right_.lat < cell.south && cell.north < top_left_.lat;
  const bool none_is_east = cell.east <= top_left_.lon;
  const bool none_is_west = cell.west >= bottom_right_.lon;
  if (wraps() ? none_is_east && none_is_west : none_is_east || none_is_west) return GeoRelation::outside;
  const bool all_are_east = cell.west > top_left_.lon;
  const bool all_are_west = cell.east < bottom_right_.lon;
  const bool is_lon_inside = wraps() ? all_are_east || all_are_west : all_are_east && all_are_west;
  return is_lat_inside && is_lon_inside ? GeoRelation::inside : GeoRelation::crossing;
}

std::optional<GeoFrame> GeoBox::frame() const {
  if (wraps() || bottom_right_.lat > top_left_.lat) return std::nullopt;
  return GeoFrame{bottom_right_.lat, top_left_.lat, top_left_.lon, bottom_right_.lon};
}

// ---- frame ----

GeoRelation GeoFrame::relation_to(const GeoCell& cell) const {
  if (cell.north < south || cell.south > north || cell.east < west || cell.west > east) return GeoRelation::outside;
  const bool is_inside = south <= cell.south && cell.north <= north && west <= cell.west && cell.east <= east;
  return is_inside ? GeoRelation::inside : GeoRelation::crossing;
}

// ---- operands ----

namespace {

std::string problem_with_point(const std::uint64_t* words, std::uint64_t at) {
  const GeoPoint point = point_at(words + at);
  if (std::abs(point.lat) <= 90 && std::abs(point.lon) <= 180) return {};  // false for NaN too
  return "operands " + std::to_string(at) + " and " + std::to_string(at + 1) + " of the area are the point (" + std::to_string(point.lat) +
         ", " + std::to_string(point.lon) + "), expected a latitude in [-90, 90] and a longitude in [-180, 180]";
}

// Rings of points, each after its size.
std::string problem_with_rings(const std::uint64_t* words, std::uint64_t count) {
  if (count == 0) return "a polygon has no ring, expected the exterior one at least";
  for (std::uint64_t at = 0; at < count;) {
    const std::uint64_t size = words[at++];
    if (size < kSmallestRing || size > (count - at) / 2) {
      return "a ring of " + std::to_string(size) + " points is announced, " + std::to_string(count - at) + " operands are left, expected " +
             std::to_string(kSmallestRing) + " points at least";
    }
    const std::uint64_t last = at + 2 * (size - 1);
    for (std::uint64_t point = at; point <= last; point += 2) {
      if (std::string problem = problem_with_point(words, point); !problem.empty()) return problem;
    }
    const GeoPoint a = point_at(words + at);
    const GeoPoint b = point_at(words + last);
    if (a.lat != b.lat || a.lon != b.lon) return "a ring's last point is not its first";
    at = last + 2;
  }
  return {};
}

GeoPolygon polygon_of(const std::uint64_t* words, std::uint64_t count) {
  std::vector<std::vector<GeoPoint>> rings;
  for (std::uint64_t at = 0; at < count;) {
    std::vector<GeoPoint> ring(words[at++]);
    for (GeoPoint& point : ring) {
      point = point_at(words + at);
      at += 2;
    }
    rings.push_back(std::move(ring));
  }
  return GeoPolygon(std::move(rings));
}

}  // namespace

std::string GeoArea::problem_with(std::uint64_t shape, const std::uint64_t* words, std::uint64_t count) {
  switch (shape) {
    case VECDB_GEO_RADIUS:
      if (count != kRadiusWords) return "a radius has " + std::to_string(count) + " operands, expected 3: lat, lon, metres";
      if (!(as_double(words[2]) >= 0) || std::isinf(as_double(words[2]))) return "the radius is not a number of metres, 0 or more";
      return problem_with_point(words, 0);
    case VECDB_GEO_BOX: {
      if (count != kBoxWords) return "a box has " + std::to_string(count) + " operands, expected 4: top, left, bottom, right";
      std::string problem = problem_with_point(words, 0);
      return problem.empty() ? problem_with_point(words, 2) : problem;
    }
    case VECDB_GEO_POLYGON:
      return problem_with_rings(words, count);
    default:
      return "shape " + std::to_string(shape) + " is unknown, expected one of vecdb_geo_shape";
  }
}

GeoArea::GeoArea(std::uint64_t shape, const std::uint64_t* words, std::uint64_t count)
    : shape_(shape == VECDB_GEO_RADIUS ? decltype(shape_)(GeoRadius(point_at(words), as_double(words[2])))
             : shape == VECDB_GEO_BOX  ? decltype(shape_)(GeoBox(point_at(words), point_at(words + 2)))
                                       : decltype(shape_)(polygon_of(words, count))) {}

}  // namespace vecdb
