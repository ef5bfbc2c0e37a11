"""
The filters of a cell, in every form an engine wants: program words for the core, the grammar for `Collection`, bitmaps for the others.

A cell has many different filters and its queries take turns: one bitmap used again and again stays in the cache and flatters whatever scans
its rows. The attributes that the filters test (tags, a number, a place) belong to the cell alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import Spec
from .data import Dataset
from .regions import Regions, assign

# Operations of a filter program, bounds of a range and shapes of an area, as in vecdb.h.
OP_TAG, OP_RANGE, OP_OFFSETS, OP_AND, OP_OR, OP_NOT, OP_GEO = 3, 5, 6, 7, 8, 10, 11
BOUND_GTE, BOUND_LTE = 2, 8
GEO_BOX = 2

# The columns of the numbers and of the places.
NUMBER, PLACE = 0, 1
_ROTATING = 40
_FEWEST = 8
# Tags a point has on average, over all filters of a cell.
_TAGS_PER_POINT = 20.0
_CITIES = 50
_RURAL_SHARE = 0.2

Words = NDArray[np.uint64]
Members = NDArray[np.int64]


@dataclass
class Cell:
    """
    The filters of a cell and which of them each query has.

    `bitmaps` is (filters, words): bit o % 64 of word o // 64 is point o. `programs` and `filters` say the same in words and in the
    grammar. `tags` maps a tag to its points; `numbers` are the values of all points, `places` their latitudes and longitudes, (points, 2).
    """

    spec: Spec
    points: int
    filter_of_query: NDArray[np.uint32]
    bitmaps: NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint64))
    programs: list[Words] = field(default_factory=list)
    filters: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[int, Members] = field(default_factory=dict)
    numbers: NDArray[np.float64] | None = None
    places: NDArray[np.float64] | None = None

    @property
    def has_attributes(self) -> bool:
        """
        Whether the filters test something that points are given: tags, a number, a place.
        """
        return bool(self.tags) or self.numbers is not None or self.places is not None

    @property
    def is_filtered(self) -> bool:
        """
        Whether there are filters at all.
        """
        return len(self.programs) > 0

    def mask(self, number: int) -> NDArray[np.bool_]:
        """
        Return which points filter `number` lets through.
        """
        return np.unpackbits(self.bitmaps[number].view(np.uint8), bitorder="little")[: self.points].astype(bool)

    def cardinalities(self) -> NDArray[np.int64]:
        """
        Return how many points each filter lets through.
        """
        if not self.is_filtered:
            return np.array([self.points])
        return np.array([int(self.mask(number).sum()) for number in range(len(self.programs))])

    def payloads(self) -> list[dict[str, Any]]:
        """
        Return the payload of each point: its tags, number and place, as far as the cell has them.
        """
        made: list[dict[str, Any]] = [{} for _ in range(self.points)]
        for tag, members in self.tags.items():
            for point in members.tolist():
                made[point].setdefault("tags", []).append(f"t{tag}")
        if self.numbers is not None:
            for payload, value in zip(made, self.numbers.tolist(), strict=True):
                payload["number"] = value
        if self.places is not None:
            for payload, (latitude, longitude) in zip(made, self.places.tolist(), strict=True):
                payload["place"] = {"lat": latitude, "lon": longitude}
        return made

    def write(self, directory: Path) -> dict[str, str]:
        """
        Write what the C++ drivers read, and return the files by the names of the drivers' commands.
        """
        arrays: dict[str, NDArray[Any]] = {"filter_of_query": self.filter_of_query}
        if self.is_filtered:
            arrays |= {"bitmaps": self.bitmaps, "programs": np.concatenate(self.programs)}
            arrays["starts"] = np.cumsum([0, *map(len, self.programs)]).astype(np.uint64)
        if self.tags:
            sizes = [len(members) for members in self.tags.values()]
            arrays["tag_offsets"] = np.concatenate(list(self.tags.values())).astype(np.uint32)
            arrays["tags"] = np.repeat(np.array(list(self.tags), dtype=np.uint64), sizes)
        if self.numbers is not None:
            arrays["numbers"] = self.numbers
        if self.places is not None:
            arrays["places"] = self.places
        directory.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.ascontiguousarray(array).tofile(directory / name)
        return {name: str(directory / name) for name in arrays}


def words_of(members: Members, points: int) -> Words:
    """
    Return a bitmap of these points.
    """
    bits = np.zeros(-(-points // 64) * 64, dtype=np.uint8)
    bits[members] = 1
    return np.packbits(bits, bitorder="little").view(np.uint64)


class CellMaker:
    """
    Makes the cells of one set, each from a seed of its own.
    """

    def __init__(self, data: Dataset, *, seed: int = 7) -> None:
        self._data = data
        self._seed = seed
        self._regions = Regions(data, seed=seed)
        self._points = len(data.rows)

    def make(self, spec: Spec) -> Cell:
        """
        Return the cell of a spec; the same spec gives the same cell.
        """
        queries = len(self._data.queries)
        cell = Cell(spec, self._points, np.zeros(queries, dtype=np.uint32))
        if spec.kind == "all":
            return cell
        name = f"{spec.kind} {spec.correlation} {spec.share}"
        chance = np.random.default_rng([self._seed, *name.encode()])
        if spec.kind == "range":
            masks = self._ranges(cell, chance)
        elif spec.kind == "geo":
            masks = self._boxes(cell, chance)
        else:
            masks = self._tagged(cell, chance)
        cell.bitmaps = np.stack([words_of(members, self._points) for members in masks])
        return cell

    def _filter_count(self, spec: Spec, tagged_share: float) -> int:
        most = _ROTATING if spec.correlation == "none" else len(self._regions.centres)
        return max(_FEWEST, min(most, round(_TAGS_PER_POINT / tagged_share)))

    # ---- tags and bitmaps: sets of points, around a centre or anywhere ----

    def _tagged(self, cell: Cell, chance: np.random.Generator) -> list[Members]:
        spec = cell.spec
        parts = {"and2": 2, "and3": 3}.get(spec.kind, 1)
        share = spec.share ** (1 / parts)
        count = self._filter_count(spec, 1 - share if spec.kind == "not" else share * parts)
        chosen = chance.permutation(len(self._regions.centres))[:count]
        count = len(chosen)
        distances = -(self._data.queries @ self._regions.centres[chosen].T)
        cell.filter_of_query = assign(distances, spec.correlation, chance)
        masks = []
        for centre in chosen:
            target = self._anywhere(share, chance) if spec.correlation == "none" else self._regions.ball(int(centre), self._size(share))
            masks.append(self._add_tagged(cell, target, parts, share, chance))
        return masks

    def _add_tagged(self, cell: Cell, target: Members, parts: int, share: float, chance: np.random.Generator) -> Members:
        kind = cell.spec.kind
        if kind == "bitmap":
            cell.programs.append(np.array([OP_OFFSETS, len(target), *target], dtype=np.uint64))
            cell.filters.append({"must": [{"has_id": target.tolist()}]})
            return target
        first = len(cell.tags) + 1
        if kind == "or":
            side = chance.random(len(target))
            sets = [target[side < 0.6], target[side >= 0.4]]
        elif kind == "not":
            sets = [np.setdiff1d(np.arange(self._points), target, assume_unique=True)]
        else:
            sets = [target, *(self._anywhere(share, chance) for _ in range(parts - 1))]
        numbers = range(first, first + len(sets))
        cell.tags.update(zip(numbers, sets, strict=True))
        conditions = [{"key": "tags", "match": {"value": f"t{number}"}} for number in numbers]
        pushed = [word for number in numbers for word in (OP_TAG, number)]
        if kind == "not":
            operation, clause = [OP_NOT], "must_not"
        elif kind == "or":
            operation, clause = [OP_OR, 2], "should"
        else:
            operation, clause = ([OP_AND, parts] if parts > 1 else []), "must"
            for other in sets[1:]:
                target = np.intersect1d(target, other, assume_unique=True)
        cell.programs.append(np.array(pushed + operation, dtype=np.uint64))
        cell.filters.append({clause: conditions})
        return target

    def _size(self, share: float) -> int:
        return max(1, round(share * self._points))

    def _anywhere(self, share: float, chance: np.random.Generator) -> Members:
        return np.sort(chance.choice(self._points, self._size(share), replace=False))

    # ---- numbers and places ----

    def _ranges(self, cell: Cell, chance: np.random.Generator) -> list[Members]:
        spec = cell.spec
        if spec.correlation == "none":
            values, asked = chance.random(self._points), np.zeros(len(self._data.queries))
        else:
            values, asked = (self._regions.places(vectors)[:, 0] for vectors in (self._data.rows, self._data.queries))
        ascending = np.sort(values)
        size = self._size(spec.share)
        starts = np.linspace(0, self._points - size, self._filter_count(spec, 1e-9)).astype(np.int64)
        lows, highs = ascending[starts], ascending[starts + size - 1]
        middles = ascending[starts + size // 2]
        cell.filter_of_query = assign(np.abs(asked[:, None] - middles[None, :]), spec.correlation, chance)
        cell.numbers = values
        for low, high in zip(lows, highs, strict=True):
            cell.programs.append(_range(NUMBER, low, high))
            cell.filters.append({"must": [{"key": "number", "range": {"gte": float(low), "lte": float(high)}}]})
        return [np.flatnonzero((values >= low) & (values <= high)) for low, high in zip(lows, highs, strict=True)]

    def _boxes(self, cell: Cell, chance: np.random.Generator) -> list[Members]:
        spec = cell.spec
        if spec.correlation == "none":
            places, asked = _cities(self._points, chance), np.zeros((len(self._data.queries), 2))
        else:
            raw, raw_asked = (self._regions.places(vectors) for vectors in (self._data.rows, self._data.queries))
            scale = 60 / np.abs(raw).max(axis=0)
            places, asked = raw * scale, raw_asked * scale
        middles = places[chance.choice(self._points, self._filter_count(spec, 1e-9), replace=False)]
        cell.filter_of_query = assign(np.abs(asked[:, None, :] - middles[None, :, :]).max(axis=2), spec.correlation, chance)
        cell.places = places
        size = self._size(spec.share)
        masks = []
        for middle in middles:
            spread = np.abs(places - middle).max(axis=1)
            reach = np.partition(spread, size - 1)[size - 1] * (1 + 1e-12)
            low, high = np.maximum(middle - reach, [-90, -180]), np.minimum(middle + reach, [90, 180])
            cell.programs.append(_box(high[0], low[1], low[0], high[1]))
            corners = {"top_left": {"lat": high[0], "lon": low[1]}, "bottom_right": {"lat": low[0], "lon": high[1]}}
            box = {name: {axis: float(value) for axis, value in corner.items()} for name, corner in corners.items()}
            cell.filters.append({"must": [{"key": "place", "geo_bounding_box": box}]})
            masks.append(np.flatnonzero(((places >= low) & (places <= high)).all(axis=1)))
        return masks


def _range(column: int, low: float, high: float) -> Words:
    low_bits, high_bits = np.array([low, high], dtype=np.float64).view(np.uint64)
    return np.array([OP_RANGE, column, BOUND_GTE | BOUND_LTE, low_bits, 0, high_bits, 0], dtype=np.uint64)


def _box(top: float, left: float, bottom: float, right: float) -> Words:
    edges = np.array([top, left, bottom, right], dtype=np.float64).view(np.uint64)
    return np.array([OP_GEO, PLACE, GEO_BOX, len(edges), *edges], dtype=np.uint64)


def _cities(points: int, chance: np.random.Generator) -> NDArray[np.float64]:
    centre = chance.uniform([-55, -110], [55, 110], (_CITIES, 2))
    share = 1 / np.arange(1, _CITIES + 1)
    city = chance.choice(_CITIES, points, p=share / share.sum())
    spread = chance.uniform(0.3, 2.0, _CITIES)[city][:, None]
    places = centre[city] + spread * chance.standard_normal((points, 2))
    rural = chance.random(points) < _RURAL_SHARE
    places[rural] = chance.uniform([-60, -120], [60, 120], (int(rural.sum()), 2))
    return np.asarray(np.clip(places, [-60, -120], [60, 120]))
