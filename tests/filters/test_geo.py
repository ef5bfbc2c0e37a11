"""
Geo predicates: distance, box and polygon, edges excluded.
"""

import math
import random
from fractions import Fraction

import pytest

from vecdb.filters.geo import EARTH_RADIUS, GeoPoint, distance, in_box, in_polygon, point_of


def ring(*corners):
    points = [GeoPoint(lat, lon) for lat, lon in corners]
    return [*points, points[0]]


SQUARE = ring((0, 0), (0, 10), (10, 10), (10, 0))


def test_distance_agrees_with_the_angle_between_unit_vectors():
    rng = random.Random(seed := 11)
    print(f"seed {seed}")

    def unit(point):
        lat, lon = math.radians(point.lat), math.radians(point.lon)
        return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)

    for _ in range(300):
        a, b = (GeoPoint(rng.uniform(-90, 90), rng.uniform(-180, 180)) for _ in range(2))
        u, v = unit(a), unit(b)
        cross = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
        angle = math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(u, v, strict=True)))
        assert EARTH_RADIUS * angle == pytest.approx(distance(a, b), rel=1e-9)


def test_the_distance_of_antipodes_is_half_the_circumference():
    assert math.pi * EARTH_RADIUS == pytest.approx(distance(GeoPoint(0, 0), GeoPoint(0, 180)))
    assert math.pi * EARTH_RADIUS == pytest.approx(distance(GeoPoint(90, 0), GeoPoint(-90, 77)))


def test_a_box_excludes_its_edges():
    top_left, bottom_right = GeoPoint(10, 0), GeoPoint(0, 10)
    assert in_box(GeoPoint(5, 5), top_left, bottom_right)
    for edge in (GeoPoint(10, 5), GeoPoint(0, 5), GeoPoint(5, 0), GeoPoint(5, 10)):
        assert not in_box(edge, top_left, bottom_right)


def test_a_box_may_cross_the_antimeridian():
    top_left, bottom_right = GeoPoint(10, 170), GeoPoint(-10, -170)
    assert in_box(GeoPoint(0, 179), top_left, bottom_right)
    assert in_box(GeoPoint(0, -179), top_left, bottom_right)
    for outside in (GeoPoint(0, 0), GeoPoint(0, 170), GeoPoint(0, -170), GeoPoint(11, 179)):
        assert not in_box(outside, top_left, bottom_right)


def test_a_polygon_excludes_its_edges_and_corners():
    assert in_polygon(GeoPoint(5, 5), SQUARE, [])
    for edge in (GeoPoint(0, 5), GeoPoint(10, 5), GeoPoint(5, 0), GeoPoint(5, 10), *SQUARE):
        assert not in_polygon(edge, SQUARE, [])
    for outside in (GeoPoint(-1, 5), GeoPoint(5, 11), GeoPoint(0, 11), GeoPoint(10, -1), GeoPoint(11, 11)):
        assert not in_polygon(outside, SQUARE, [])


def test_holes_and_their_edges_are_outside():
    hole = ring((4, 4), (4, 6), (6, 6), (6, 4))
    assert in_polygon(GeoPoint(3, 5), SQUARE, [hole])
    for point in (GeoPoint(5, 5), GeoPoint(4, 5), GeoPoint(6, 6)):
        assert not in_polygon(point, SQUARE, [hole])


def test_a_ray_through_a_corner_counts_once():
    diamond = ring((0, 5), (5, 10), (10, 5), (5, 0))
    for rotated in (diamond, list(reversed(diamond))):
        assert in_polygon(GeoPoint(5, 5), rotated, [])
        assert not in_polygon(GeoPoint(5, -1), rotated, [])
        assert not in_polygon(GeoPoint(10, 4), rotated, [])
        assert not in_polygon(GeoPoint(2.5, 7.5), rotated, [])


def test_a_concave_polygon_is_outside_in_its_notch():
    notched = ring((0, 0), (0, 10), (10, 10), (2, 5), (10, 0))
    assert in_polygon(GeoPoint(5, 2), notched, [])
    assert in_polygon(GeoPoint(5, 8), notched, [])
    assert not in_polygon(GeoPoint(5, 5), notched, [])


def test_points_beside_a_slanted_edge_are_told_apart_exactly():
    """
    Points one ulp off a line are sided like rational arithmetic sides them, where doubles cancel.
    """
    rng = random.Random(seed := 5)
    print(f"seed {seed}")
    for _ in range(500):
        a, b = GeoPoint(rng.uniform(-1, 1), rng.uniform(-1, 1)), GeoPoint(rng.uniform(-1, 1), rng.uniform(-1, 1))
        share = rng.random()
        lat, lon = a.lat + share * (b.lat - a.lat), a.lon + share * (b.lon - a.lon)
        point = GeoPoint(rng.choice([lat, math.nextafter(lat, 9), math.nextafter(lat, -9)]), lon)
        # A triangle with its far corner to the left of a -> b.
        far = GeoPoint((a.lat + b.lat) / 2 + (b.lon - a.lon), (a.lon + b.lon) / 2 - (b.lat - a.lat))
        (ay, ax), (by, bx), (py, px) = (map(Fraction, each) for each in (a, b, point))
        left = (bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0
        assert left is in_polygon(point, [a, b, far, a], [])


def test_degrees_beyond_the_globe_go_on_around_it():
    rng = random.Random(seed := 7)
    print(f"seed {seed}")
    for _ in range(200):
        a, b = (GeoPoint(rng.uniform(-90, 90), rng.uniform(-180, 180)) for _ in range(2))
        far = point_of({"lat": 180 - b.lat, "lon": b.lon + 180})
        assert far is not None
        assert distance(a, b) == pytest.approx(distance(a, far), rel=1e-6, abs=1e-3)
    assert 0 == pytest.approx(distance(GeoPoint(90, 0), GeoPoint(90, 123)), abs=1e-6)
