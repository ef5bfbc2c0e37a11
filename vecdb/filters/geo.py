"""
Geo predicates over points in degrees: a radius on the sphere, a box and a polygon in the plane of longitude and
latitude.

Everything is strictly inside: a point on an edge is outside. Functions without state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, TypeGuard

EARTH_RADIUS = 6371008.8
"""
The mean radius of the earth in metres.
"""

# Three roundings in each product of `_side`; twice as much is a safe bound of what they may add up to. Products below the second are
# not rounded relatively any more.
_ROUNDING = 8 * 2.0**-53
_TINY = 2.0**-1000


class GeoPoint(NamedTuple):
    """
    A position in degrees.
    """

    lat: float
    lon: float


def point_of(element: object) -> GeoPoint | None:
    """
    Return the point that a payload's element is, None when it is not an object with the numbers lat and lon.

    >>> point_of({"lat": 51, "lon": -0.1, "name": "London"})
    GeoPoint(lat=51.0, lon=-0.1)
    """
    if not isinstance(element, (dict, Mapping)):
        return None
    lat, lon = element.get("lat"), element.get("lon")
    return GeoPoint(float(lat), float(lon)) if _is_number(lat) and _is_number(lon) else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def distance(a: GeoPoint, b: GeoPoint) -> float:
    """
    Return the distance in metres by the haversine formula.

    >>> round(distance(GeoPoint(52.52, 13.405), GeoPoint(48.8566, 2.3522)) / 1000)
    877
    """
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    # csrc/geo_shapes.cpp computes this in the same order, to the last bit: x * x, which `**` need not be.
    half_lat, half_lon = math.sin((lat_b - lat_a) / 2), math.sin(math.radians(b.lon - a.lon) / 2)
    haversine = half_lat * half_lat + math.cos(lat_a) * math.cos(lat_b) * (half_lon * half_lon)
    return 2 * EARTH_RADIUS * math.asin(math.sqrt(max(0.0, min(1.0, haversine))))


def in_box(point: GeoPoint, top_left: GeoPoint, bottom_right: GeoPoint) -> bool:
    """
    Return whether a point is inside a box; one whose left side is east of its right side crosses the antimeridian.
    """
    if top_left.lon > bottom_right.lon:
        between = point.lon > top_left.lon or point.lon < bottom_right.lon
    else:
        between = top_left.lon < point.lon < bottom_right.lon
    return between and bottom_right.lat < point.lat < top_left.lat


def in_polygon(point: GeoPoint, exterior: Sequence[GeoPoint], interiors: Sequence[Sequence[GeoPoint]]) -> bool:
    """
    Return whether a point is inside the exterior ring and neither in nor on the edge of an interior one. Rings are closed.
    """
    return _in_ring(point, exterior) is True and all(_in_ring(point, ring) is False for ring in interiors)


def _in_ring(point: GeoPoint, ring: Sequence[GeoPoint]) -> bool | None:
    """
    Return whether a point is inside a closed ring, None when it is on an edge.
    """
    # Even-odd rule: count the edges that a ray to the east crosses.
    inside = False
    for a, b in pairwise(ring):
        if not min(a.lat, b.lat) <= point.lat <= max(a.lat, b.lat):
            continue
        side = _side(a, b, point)
        if side == 0 and min(a.lon, b.lon) <= point.lon <= max(a.lon, b.lon):
            return None
        if (a.lat > point.lat) != (b.lat > point.lat) and (side > 0) == (b.lat > a.lat):
            inside = not inside
    return inside


def _side(a: GeoPoint, b: GeoPoint, point: GeoPoint) -> int:
    """
    Return 1 when point is left of the line from a to b, -1 when it is right, 0 when it is on the line, exactly.
    """
    left = (b.lon - a.lon) * (point.lat - a.lat)
    right = (b.lat - a.lat) * (point.lon - a.lon)
    if abs(left - right) > (abs(left) + abs(right)) * _ROUNDING + _TINY:
        return 1 if left > right else -1
    (a_lat, a_lon), (b_lat, b_lon), (lat, lon) = (tuple(map(Fraction, each)) for each in (a, b, point))
    exact = (b_lon - a_lon) * (lat - a_lat) - (b_lat - a_lat) * (lon - a_lon)
    return (exact > 0) - (exact < 0)
