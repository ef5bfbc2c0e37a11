// Radius, box and polygon over points in degrees: whether a point is inside, and how a whole cell lies to the area.
//
// Invariant: an area's contains() decides every point as vecdb/filters/geo.py does, to the last bit: the same formula in the same order by
// the same libm, exact signs; strictly inside, a point on an edge is outside. relation_to() may call a cell crossing that is not, never
// another way round. Compiled without contraction of products and sums. Thread rule: immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

namespace vecdb {

struct GeoPoint {
  double lat;  // degrees
  double lon;
};

// Latitudes and longitudes of a cell, edges included; within [-90, 90] and [-180, 180].
struct GeoCell {
  double south;
  double north;
  double west;
  double east;
};

enum class GeoRelation { outside, inside, crossing };

inline bool is_on_globe(GeoPoint point) { return point.lat >= -90 && point.lat <= 90 && point.lon >= -180 && point.lon <= 180; }

// A rectangle of degrees with its edges, which may reach beyond the globe's, and all points off the globe's degrees.
struct GeoFrame {
  double south;
  double north;
  double west;
  double east;

  bool contains(GeoPoint point) const {
    const bool is_within = south <= point.lat && point.lat <= north && west <= point.lon && point.lon <= east;
    return is_within || !is_on_globe(point);
  }
  bool contains(const GeoFrame& other) const {
    return south <= other.south && other.north <= north && west <= other.west && other.east <= east;
  }
  GeoRelation relation_to(const GeoCell& cell) const;
  std::optional<GeoFrame> frame() const { return *this; }

  bool operator<(const GeoFrame& other) const {
    return std::tie(south, north, west, east) < std::tie(other.south, other.north, other.west, other.east);
  }
};

class GeoRadius {
 public:
  GeoRadius(GeoPoint center, double metres);
  bool contains(GeoPoint point) const;
  GeoRelation relation_to(const GeoCell& cell) const;
  std::optional<GeoFrame> frame() const;

 private:
  GeoPoint center_;
  double lat_;  // of the center, in radians
  double cos_lat_;
  double metres_;
  // Haversines below the first are nearer than the radius and those above the second are not, whatever the roundings.
  double surely_inside_;
  double surely_outside_;
};

class GeoBox {
 public:
  GeoBox(GeoPoint top_left, GeoPoint bottom_right) : top_left_(top_left), bottom_right_(bottom_right) {}
  bool contains(GeoPoint point) const;
  GeoRelation relation_to(const GeoCell& cell) const;
  std::optional<GeoFrame> frame() const;

 private:
  bool wraps() const { return top_left_.lon > bottom_right_.lon; }

  GeoPoint top_left_;
  GeoPoint bottom_right_;
};

class GeoPolygon {
 public:
  // Closed rings, the first of them the exterior one. REQUIRES degrees within [-90, 90] and [-180, 180].
  explicit GeoPolygon(std::vector<std::vector<GeoPoint>> rings);
  bool contains(GeoPoint point) const;
  GeoRelation relation_to(const GeoCell& cell) const;
  std::optional<GeoFrame> frame() const { return GeoFrame{south_, north_, west_, east_}; }

 private:
  struct Edge {
    GeoPoint a;
    GeoPoint b;
  };
  enum class Place { outside, inside, on_edge };
  // Edges in bands of latitude, each edge in every band that it touches: a point looks at those of its own band.
  struct Ring {
    std::vector<std::vector<Edge>> bands;
  };

  std::size_t band_of(double lat) const;
  Place place_in(const Ring& ring, GeoPoint point) const;

  double south_;
  double north_;
  double west_;
  double east_;
  double bands_per_degree_;
  std::vector<Ring> rings_;
};

// The area of a GEO operation (vecdb.h), or a frame.
class GeoArea {
 public:
  // What is wrong with the operands, empty when nothing is.
  static std::string problem_with(std::uint64_t shape, const std::uint64_t* words, std::uint64_t count);
  // REQUIRES operands without a problem.
  GeoArea(std::uint64_t shape, const std::uint64_t* words, std::uint64_t count);
  explicit GeoArea(const GeoFrame& frame) : shape_(frame) {}

  bool contains(GeoPoint point) const {
    return std::visit([&](const auto& shape) { return shape.contains(point); }, shape_);
  }
  GeoRelation relation_to(const GeoCell& cell) const {
    return std::visit([&](const auto& shape) { return shape.relation_to(cell); }, shape_);
  }
  // All points of the area are in it; none for an area that is not worth framing: one that crosses the antimeridian or is vast.
  std::optional<GeoFrame> frame() const {
    return std::visit([](const auto& shape) { return shape.frame(); }, shape_);
  }

 private:
  std::variant<GeoRadius, GeoBox, GeoPolygon, GeoFrame> shape_;
};

}  // namespace vecdb
