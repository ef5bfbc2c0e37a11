// Geo columns against testing every point by formulas written down once more, in long double and in whole numbers.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "check.hpp"
#include "geo_column.hpp"
#include "samples.hpp"
#include "vecdb.h"

namespace vecdb::test {
namespace {

using Placed = std::vector<std::pair<GeoPoint, Offset>>;
using Ring = std::vector<GeoPoint>;

std::uint64_t word_of(double value) {
  std::uint64_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

GeoArea radius(GeoPoint center, double metres) {
  const std::uint64_t words[] = {word_of(center.lat), word_of(center.lon), word_of(metres)};
  return GeoArea(VECDB_GEO_RADIUS, words, 3);
}

GeoArea box(double top, double left, double bottom, double right) {
  const std::uint64_t words[] = {word_of(top), word_of(left), word_of(bottom), word_of(right)};
  return GeoArea(VECDB_GEO_BOX, words, 4);
}

GeoArea polygon(const std::vector<Ring>& rings) {
  std::vector<std::uint64_t> words;
  for (const Ring& ring : rings) {
    words.push_back(ring.size());
    for (const GeoPoint& point : ring) words.insert(words.end(), {word_of(point.lat), word_of(point.lon)});
  }
  CHECK_EQUAL(std::string(), GeoArea::problem_with(VECDB_GEO_POLYGON, words.data(), words.size()));
  return GeoArea(VECDB_GEO_POLYGON, words.data(), words.size());
}

double uniform(std::mt19937_64& random, double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }

// Places as data has them: spread, clustered, on a grid, at the poles and the antimeridian, off the globe.
GeoPoint random_point(std::mt19937_64& random) {
  switch (random() % 8) {
    case 0:
      return {std::floor(uniform(random, -10, 11)), std::floor(uniform(random, -10, 11))};
    case 1:
      return {random() % 2 == 0 ? 90.0 : -90.0, std::floor(uniform(random, -180, 181))};
    case 2:
      return {uniform(random, -90, 90), random() % 2 == 0 ? 180.0 : -180.0};
    case 3:
      return {uniform(random, 80, 90), uniform(random, -180, 180)};
    case 4:
      return {uniform(random, 51.3, 51.7), uniform(random, -0.3, 0.3)};
    case 5:
      return random() % 8 == 0 ? GeoPoint{uniform(random, -1e3, 1e3), uniform(random, -1e300, 1e300)}
                               : GeoPoint{0.0, random() % 2 == 0 ? 0.0 : -0.0};
    default:
      return {uniform(random, -90, 90), uniform(random, -180, 180)};
  }
}

std::vector<GeoEntry> entries_of(const Placed& placed) {
  std::vector<GeoEntry> entries;
  for (const auto& [point, offset] : placed) entries.push_back(GeoEntry::of(point, offset));
  return entries;
}

std::vector<Offset> listed(const OffsetSet& set) {
  std::vector<Offset> offsets;
  set.for_each_listed([&](Offset offset) { offsets.push_back(offset); });
  return offsets;
}

std::vector<Offset> tested_one_by_one(const GeoArea& area, const Placed& placed) {
  std::set<Offset> found;
  for (const auto& [point, offset] : placed) {
    if (area.contains({point.lat + 0.0, point.lon + 0.0})) found.insert(offset);
  }
  return {found.begin(), found.end()};
}

GeoArea random_area(std::mt19937_64& random) {
  GeoPoint center = random_point(random);
  if (!(std::abs(center.lat) <= 90 && std::abs(center.lon) <= 180)) center = {51.5, 0.0};
  switch (random() % 3) {
    case 0:
      return radius(center, std::pow(10.0, uniform(random, -1, 7.5)));
    case 1: {
      const double height = std::pow(10.0, uniform(random, -3, 2));
      const double west = std::pow(10.0, uniform(random, -3, 2.3));
      const double east = std::min(180.0, center.lon + std::pow(10.0, uniform(random, -3, 2.3)));
      double left = center.lon - west;
      if (left < -180) left += 360;
      return box(std::min(90.0, center.lat + height), left, std::max(-90.0, center.lat - height), east);
    }
    default: {
      std::vector<Ring> rings;
      for (double share : {1.0, 0.3}) {
        const double size = share * std::pow(10.0, uniform(random, -1, 1.9));
        const std::size_t corners = 3 + random() % 40;
        Ring ring;
        for (std::size_t i = 0; i < corners; ++i) {
          const double angle = 6.283185307179586 * static_cast<double>(i) / static_cast<double>(corners);
          const double reach = size * uniform(random, 0.3, 1);
          double lat = std::max(-90.0, std::min(90.0, center.lat + reach * std::sin(angle)));
          double lon = std::max(-180.0, std::min(180.0, center.lon + reach * std::cos(angle)));
          if (random() % 2 == 0) lat = std::round(lat), lon = std::round(lon);
          ring.push_back({lat, lon});
        }
        ring.push_back(ring.front());
        rings.push_back(std::move(ring));
        if (random() % 2 == 0) break;
      }
      return polygon(rings);
    }
  }
}

long double metres_between(GeoPoint a, GeoPoint b) {
  const long double degree = std::acos(-1.0L) / 180;
  const auto cartesian = [&](GeoPoint point, long double* out) {
    out[0] = std::cos(point.lat * degree) * std::cos(point.lon * degree);
    out[1] = std::cos(point.lat * degree) * std::sin(point.lon * degree);
    out[2] = std::sin(point.lat * degree);
  };
  long double u[3], v[3], chord = 0;
  cartesian(a, u);
  cartesian(b, v);
  for (int i = 0; i < 3; ++i) chord += (u[i] - v[i]) * (u[i] - v[i]);
  return 2 * 6371008.8L * std::asin(std::min(1.0L, std::sqrt(chord) / 2));
}

// Even-odd rule over whole numbers, -1 on an edge.
int place_on_grid(const std::vector<std::pair<int, int>>& ring, int lat, int lon) {
  bool is_inside = false;
  for (std::size_t i = 0; i + 1 < ring.size(); ++i) {
    const auto [a_lat, a_lon] = ring[i];
    const auto [b_lat, b_lon] = ring[i + 1];
    const long side = static_cast<long>(b_lon - a_lon) * (lat - a_lat) - static_cast<long>(b_lat - a_lat) * (lon - a_lon);
    const bool is_beside = std::min(a_lat, b_lat) <= lat && lat <= std::max(a_lat, b_lat);
    if (side == 0 && is_beside && std::min(a_lon, b_lon) <= lon && lon <= std::max(a_lon, b_lon)) return -1;
    if ((a_lat > lat) != (b_lat > lat) && (side > 0) == (b_lat > a_lat)) is_inside = !is_inside;
  }
  return is_inside ? 1 : 0;
}

}  // namespace

TEST(a_geo_column_finds_what_testing_every_point_finds) {
  std::mt19937_64 random = seeded("areas", 31);
  for (const Offset universe : {0U, 1U, 300U, 20000U}) {
    Placed placed;
    GeoColumn column;
    for (Offset offset = 0; offset < universe; ++offset) {
      for (std::uint64_t i = random() % 3; i > 0; --i) placed.push_back({random_point(random), offset});
    }
    column.add(entries_of(placed));
    std::size_t found = 0;
    for (int i = 0; i < 400; ++i) {
      const GeoArea area = random_area(random);
      const std::vector<Offset> expected = tested_one_by_one(area, placed);
      CHECK(expected == listed(column.inside(area, universe)));
      found += expected.size();
    }
    CHECK(found > 0 || universe < 2);
  }
}

TEST(a_geo_column_follows_additions_and_removals) {
  std::mt19937_64 random = seeded("geo changes", 32);
  constexpr Offset kUniverse = 30000;
  std::set<std::pair<std::pair<double, double>, Offset>> model;
  GeoColumn column;
  for (int round = 0; round < 60; ++round) {
    Placed added, removed;
    const std::size_t most = round % 3 == 0 ? 6000 : 4;
    for (std::size_t i = random() % most; i > 0; --i) added.push_back({random_point(random), static_cast<Offset>(random() % kUniverse)});
    for (const auto& [point, offset] : model) {
      if (random() % (round % 7 == 0 ? 3 : 400) == 0) removed.push_back({{point.first, point.second}, offset});
    }
    removed.push_back({random_point(random), 1});
    column.remove(entries_of(removed));
    for (const auto& [point, offset] : removed) model.erase({{point.lat + 0.0, point.lon + 0.0}, offset});
    column.add(entries_of(added));
    for (const auto& [point, offset] : added) model.insert({{point.lat + 0.0, point.lon + 0.0}, offset});
    Placed placed;
    for (const auto& [point, offset] : model) placed.push_back({{point.first, point.second}, offset});
    for (int i = 0; i < 10; ++i) {
      const GeoArea area = random_area(random);
      CHECK(tested_one_by_one(area, placed) == listed(column.inside(area, kUniverse)));
    }
  }
  CHECK(!model.empty());
}

TEST(a_radius_agrees_with_the_chord_through_the_earth) {
  std::mt19937_64 random = seeded("radii", 33);
  int inside = 0, outside = 0;
  for (int i = 0; i < 20000; ++i) {
    const GeoPoint center{uniform(random, -90, 90), uniform(random, -180, 180)};
    const GeoPoint point{uniform(random, -90, 90), uniform(random, -180, 180)};
    const double distance = static_cast<double>(metres_between(center, point));
    const double metres = distance * uniform(random, 0.99, 1.01);
    if (std::abs(metres - distance) < 0.01) continue;
    const bool is_inside = radius(center, metres).contains(point);
    CHECK_EQUAL(distance < metres, is_inside);
    ++(is_inside ? inside : outside);
  }
  CHECK(inside > 1000 && outside > 1000);
}

TEST(a_radius_beyond_half_the_circumference_holds_every_point_and_one_of_0_none) {
  for (const GeoPoint point : {GeoPoint{0, 0}, GeoPoint{90, 0}, GeoPoint{-90, 5}, GeoPoint{0, 180}, GeoPoint{1e300, -1e300}}) {
    CHECK(radius({0, 0}, 1e9).contains(point));
    CHECK(!radius({point.lat > 90 ? 0 : point.lat, 0}, 0).contains(point));
  }
}

TEST(a_polygon_on_a_grid_agrees_with_whole_numbers) {
  std::mt19937_64 random = seeded("grid polygons", 34);
  int counts[3] = {0, 0, 0};
  for (int round = 0; round < 300; ++round) {
    std::vector<std::pair<int, int>> corners(3 + random() % 9);
    for (auto& [lat, lon] : corners) lat = static_cast<int>(random() % 13) - 6, lon = static_cast<int>(random() % 13) - 6;
    corners.push_back(corners.front());
    Ring ring;
    // A scale that no double holds exactly would move corners off the lines; a power of two does not, however small.
    const double scale = round % 2 == 0 ? 1.0 : std::ldexp(1.0, -static_cast<int>(random() % 600));
    for (const auto& [lat, lon] : corners) ring.push_back({lat * scale, lon * scale});
    const GeoArea area = polygon({ring});
    for (int lat = -7; lat <= 7; ++lat) {
      for (int lon = -7; lon <= 7; ++lon) {
        const int place = place_on_grid(corners, lat, lon);
        CHECK_EQUAL(place == 1, area.contains({lat * scale, lon * scale}));
        ++counts[place + 1];
      }
    }
  }
  for (const int count : counts) CHECK(count > 500);
}

TEST(a_point_one_ulp_off_a_slanted_edge_is_on_its_side) {
  // The edge from (0, 0) to (90, 180) is the line lon = 2 lat, which doubles meet exactly.
  const GeoArea right_of = polygon({{{0, 0}, {0, 180}, {90, 180}, {0, 0}}});
  std::mt19937_64 random = seeded("ulps", 35);
  for (int i = 0; i < 1000; ++i) {
    const double lat = uniform(random, 1e-9, 89);
    CHECK(!right_of.contains({lat, 2 * lat}));
    CHECK(right_of.contains({lat, std::nextafter(2 * lat, 180)}));
    CHECK(!right_of.contains({lat, std::nextafter(2 * lat, 0)}));
    CHECK(right_of.contains({std::nextafter(lat, 0), 2 * lat}));
  }
}

}  // namespace vecdb::test
