"""
The small objects that go in and come out: points, hits, and what describes a collection.

Everything here is plain data: no object keeps a reference into the database, so it may be kept, changed and passed between threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from vecdb._columns import objects, pandas_column
from vecdb._html import table
from vecdb._optional import needed

if TYPE_CHECKING:
    import pandas

PointId = int | str
Payload = dict[str, Any]
_SHOWN_COMPONENTS = 8
MetricName = Literal["cosine", "dot", "l2"]


@dataclass(slots=True, eq=False)
class Point:
    """
    A point: an id, a vector of float32 (None: it has none) and a payload. With named vectors, `vector` is a dict of those it has.

    `has_vector_data` is False on a point that was read with `with_vectors=False`; such a point cannot be written back.

    >>> import vecdb
    >>> vecdb.Point("a", [0.0, 1.0], {"city": "London"}).id
    'a'
    """

    id: PointId
    vector: Any = None
    payload: Payload = field(default_factory=dict)
    has_vector_data: bool = field(default=True, repr=False)

    def __eq__(self, other: object) -> bool:
        """
        Return whether id, payload and every component of the vector agree.
        """
        if not isinstance(other, Point):
            return NotImplemented
        same = type(self.id) is type(other.id) and self.id == other.id and self.payload == other.payload
        return same and _are_equal(self.vector, other.vector)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """
        Return id, vector and payload; a long vector by its length.
        """
        unread = "" if self.has_vector_data else ", has_vector_data=False"
        return f"Point(id={self.id!r}, vector={_shown_vector(self.vector)}, payload={self.payload!r}{unread})"


@dataclass(frozen=True, slots=True)
class VectorConfig:
    """
    The options of one named vector: as those of a collection.

    >>> import vecdb
    >>> vecdb.VectorConfig(384, metric="dot").m
    16
    """

    dim: int
    metric: str = "cosine"
    m: int = 16
    ef_construction: int = 200
    quantization: str | None = "auto"
    seed: int = 100


@dataclass(slots=True)
class Hit:
    """
    One result of a search; `payload` and `vector` are None when they were not asked for.

    `score` is a similarity (larger is better) for cosine and dot, the Euclidean distance (smaller is better) for l2.
    """

    id: PointId
    score: float
    payload: Payload | None = None
    vector: Any = None

    def __repr__(self) -> str:
        """
        Return id, score, and what was asked for.
        """
        payload = "" if self.payload is None else f", payload={self.payload!r}"
        vector = "" if self.vector is None else f", vector={_shown_vector(self.vector)}"
        return f"Hit(id={self.id!r}, score={self.score:.6g}{payload}{vector})"


class Hits(list[Hit]):
    """
    The hits of one query, best first.
    """

    __slots__ = ()

    @property
    def ids(self) -> list[PointId]:
        """
        The ids, best first.
        """
        return [hit.id for hit in self]

    @property
    def scores(self) -> list[float]:
        """
        The scores, best first.
        """
        return [hit.score for hit in self]

    def _repr_html_(self) -> str:
        """
        Return a table for notebooks: rank, id, score, one column a payload key.
        """
        keys = list(dict.fromkeys(key for hit in self for key in hit.payload or {}))
        rows = ([rank, hit.id, float(hit.score), *((hit.payload or {}).get(key) for key in keys)] for rank, hit in enumerate(self, 1))
        return table(["", "id", "score", *keys], rows)

    def to_pandas(self) -> pandas.DataFrame:
        """
        Return a DataFrame with the columns id, score, vector (if it was asked for) and one for each payload key; needs pandas.

        A payload key that is called like one of these becomes "payload.id", and so on.
        """
        pd = needed("pandas", "to_pandas")
        columns: dict[str, Any] = {"id": pandas_column(pd, self.ids), "score": pd.Series(self.scores, dtype="float64")}
        if any(hit.vector is not None for hit in self):
            columns["vector"] = pd.Series(objects([hit.vector for hit in self]), dtype=object)
        payloads = [hit.payload or {} for hit in self]
        for key in dict.fromkeys(key for payload in payloads for key in payload):
            columns[f"payload.{key}" if key in columns else key] = pandas_column(pd, [payload.get(key) for payload in payloads])
        frame: pandas.DataFrame = pd.DataFrame(columns)
        return frame


class Page(NamedTuple):
    """
    Some points of a `scroll`; `next` continues behind them as `after`, None at the end.
    """

    points: list[Point]
    next: str | None


class FacetHit(NamedTuple):
    """
    A value of a payload key and how many points have it.
    """

    value: str | int | float | bool
    count: int  # type: ignore[assignment]  # hides tuple.count


class Group(NamedTuple):
    """
    The best hits, best first, among the points with one value at a key.
    """

    key: str | int | bool
    hits: Hits


class Plan(NamedTuple):
    """
    How a filter would be searched, and the figures behind the choice.

    `strategy` is exact, tag, graph, sweep or empty; `cardinality` the number of points that match and have the vector, `selectivity`
    their share; costs are predicted nanoseconds for one query.
    """

    strategy: str
    cardinality: int
    selectivity: float
    ef: int
    tail: int
    cost_exact_ns: float
    cost_graph_ns: float


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """
    What a collection holds and what it costs.

    `tail` counts vectors that the graph does not cover yet (they are scanned exactly); `deleted` the replaced and deleted points whose
    space a compaction would give back, `dead_in_graph` those that graphs still hold, and `unreachable` the vectors that no path in a
    graph led to when that was last looked at (0 once `wait_indexed` returned); `bytes` is the memory of each part of the index and the
    size of each kind of file; `wal` the log's position; `indexes` the payload keys that are indexed now; `readers` the states that readers
    in other processes keep of the payload file, `readers_behind` the checkpoints since the oldest of them: until those readers refresh or
    close, the file grows instead of using space again.
    """

    name: str
    points: int
    vectors: int
    tail: int
    deleted: int
    bytes: dict[str, int]
    wal: dict[str, int]
    indexes: tuple[str, ...]
    read_only: str | None = None
    dead_in_graph: int = 0
    unreachable: int = 0
    readers: int = 0
    readers_behind: int = 0

    def __str__(self) -> str:
        """
        Return a few lines for a person.
        """
        total = sum(self.bytes.values())
        parts = ", ".join(f"{name} {human_bytes(size)}" for name, size in self.bytes.items() if size)
        lines: Iterable[str] = (
            f"{self.name}: {self.points:,} points, {self.vectors:,} vectors ({self.tail:,} not yet in the graph), {self.deleted:,} deleted",
            f"{human_bytes(total)}: {parts}" if parts else "no bytes yet",
            f"indexed keys: {', '.join(self.indexes) or 'none'}",
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """
        Return a table for notebooks.
        """
        rows: list[tuple[str, Any]] = [
            ("points", f"{self.points:,}"),
            ("vectors", f"{self.vectors:,}"),
            ("not yet in the graph", f"{self.tail:,}"),
            ("deleted", f"{self.deleted:,}"),
            ("indexed keys", ", ".join(self.indexes) or "none"),
            *((name, human_bytes(size)) for name, size in self.bytes.items() if size),
            *((name.replace("_", " "), value) for name, value in self.wal.items()),
        ]
        if self.read_only is not None:
            rows.append(("read-only", self.read_only))
        return table(["", ""], rows, caption=self.name)


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """
    What a verification, or opening with `salvage=True`, found.

    `problems`: what was stored and is lost or wrong, one line each; `ok` when there are none. `notes`: what costs no answer, such as a
    graph that has to be built again. `counts`: how much was looked at.

    >>> Report("films", counts={"points": 2})
    <vecdb.Report 'films': ok, 2 points>
    """

    name: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """
        Whether nothing is lost or wrong.
        """
        return not self.problems

    def __repr__(self) -> str:
        """
        Return the outcome in a line, and each problem and note in one of its own.
        """
        outcome = "ok" if self.ok else f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        counts = "".join(f", {count:,} {what}" for what, count in self.counts.items())
        lines = [*self.problems, *(f"note: {note}" for note in self.notes)]
        return "\n  ".join([f"<vecdb.Report {self.name!r}: {outcome}{counts}>", *lines])


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """
    The payload index of one key.

    `kind` and `m` are as declared by `create_index` (None: not declared, a filter built it and it goes when memory is short; m None: links
    where searches ask for them). `entries` counts what is indexed, `bytes` is about what that takes in memory. `complete` is False until
    the index is built: the first filter that needs it waits for it.
    """

    kind: str | None
    m: int | None
    entries: int
    bytes: int
    complete: bool

    @property
    def declared(self) -> bool:
        """
        Whether the index was declared, so that it is kept and built ahead.
        """
        return self.kind is not None


def _are_equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(vector, other[name]) for name, vector in one.items())
    return bool(np.array_equal(one, other))


def _shown_vector(vector: Any) -> str:
    if isinstance(vector, dict):
        return "{" + ", ".join(f"{name!r}: {_shown_vector(one)}" for name, one in vector.items()) + "}"
    if vector is None or len(vector) <= _SHOWN_COMPONENTS:
        return repr(vector)
    return f"<{len(vector)} components>"


def human_bytes(size: int) -> str:
    """
    Return a size for a person to read.

    >>> human_bytes(1536)
    '1.5 KiB'
    """
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
