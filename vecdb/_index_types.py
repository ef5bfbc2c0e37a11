"""
What goes into the core and comes out of it, as types; nothing here computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Offsets = NDArray[np.uint32]
Words = NDArray[np.uint64]
TagEntries = tuple[NDArray[np.uint32], NDArray[np.uint64]]
GeoEntries = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float64], NDArray[np.float64]]
ColumnEntries = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float64], NDArray[np.int32]]

ALL: Words = np.empty(0, dtype=np.uint64)
ALL.flags.writeable = False


class Field(Protocol):
    """
    What the core needs to know of a vector field.
    """

    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def m(self) -> int: ...
    @property
    def ef_construction(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def quantization(self) -> str | None: ...


class Plan(NamedTuple):
    """
    How a search goes: `cardinality` of `total` live rows match, `tail` rows are scanned because no graph, or no links of the tag, cover
    them; costs are predictions for one query, cost_graph_ns is of the walk that was chosen or might have been, infinite without a graph.
    """

    version: int
    cardinality: int
    total: int
    tail: int
    strategy: str
    ef: int
    cost_exact_ns: float
    cost_graph_ns: float


class SearchResult(NamedTuple):
    """
    Hits of q queries, best first: offsets, ids, kinds and scores are (q, k), of which counts[i] are valid in row i. `core` is the index
    that found them, which alone can tell what the offsets, the ids and the `figures` of the plan stand for.
    """

    offsets: Offsets
    ids: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    scores: Rows
    counts: NDArray[np.uint32]
    figures: Any
    core: Any

    @property
    def plan(self) -> Plan:
        """
        How the search went.
        """
        plan: Plan = self.core.plan_of(self.figures)
        return plan


class Stats(NamedTuple):
    """
    Figures of an index; see vecdb_index_stats.
    """

    version: int
    offsets: int
    live: int
    id_bytes: int
    tag_bytes: int
    column_bytes: int


class FieldStats(NamedTuple):
    """
    Figures of one vector field; see vecdb_field_stats.
    """

    rows: int
    live_rows: int
    indexed_rows: int
    vector_bytes: int
    norm_bytes: int
    code_bytes: int
    graph_bytes: int
    linked_tags: int
    linked_rows: int
    link_bytes: int
    dead_in_graph: int
    unreachable: int


class TagCopy(NamedTuple):
    """
    What tags hold: the offsets of one after the other, ascending, counts[i] of the i-th.
    """

    counts: NDArray[np.uint32]
    offsets: Offsets


class ColumnCopy(NamedTuple):
    """
    The entries of a column of numbers: values and what their rounding lost, as `filters.Number` has them.
    """

    offsets: Offsets
    values: NDArray[np.float64]
    rests: NDArray[np.int32]


class ColumnEntry(NamedTuple):
    """
    An entry of a column: of numbers value and rest, of points latitude and longitude.
    """

    first: float
    second: float
    offset: int


class PointsCopy(NamedTuple):
    """
    The entries of a column of points, in degrees.
    """

    offsets: Offsets
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]


class GraphReport(NamedTuple):
    """
    What a look at every link of a graph found; see vecdb_graph_report.
    """

    nodes: int
    dead: int
    unreachable: int
    unreachable_above: int
