"""
The edge: what a caller hands over becomes checked ids, float32 rows and plain payloads, or an InvalidArgument that names the row.

Everything behind this module relies on it: ids are int in [0, 2**64) or str, rows are C-contiguous finite float32 of the right dim,
payloads hold only dict, list, str, int, float, bool and None. Pure functions.
"""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vecdb._arguments import items
from vecdb.errors import InvalidArgument
from vecdb.filters import Node
from vecdb.types import Payload, PointId

MAX_ID_BYTES = 480
MAX_DEPTH = 64
# Outside of these a float32 product of two norms over- or underflows, and a score could not be told from another.
LARGEST_NORM = 1e18
SMALLEST_COSINE_NORM = 1e-18
_INTS = (-(2**63), 2**64)  # what a payload can hold: [first, second)
_ORDINARY = (1e-30, 1e30)  # squared lengths that need no closer look
_FLOAT32 = np.dtype(np.float32)


def is_one_id(value: object) -> bool:
    """
    Return whether a value is one id (or would be, were it in range), rather than several.
    """
    return isinstance(value, (str, int, np.integer, np.bool_, uuid.UUID))


def as_id(value: object, where: str = "id") -> PointId:
    """
    Return a value as a point id.

    >>> as_id(uuid.UUID(int=1))
    '00000000-0000-0000-0000-000000000001'
    """
    if isinstance(value, str):
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError:
            raise InvalidArgument(f"{where} is {value!r}, which holds a lone surrogate: expected text that UTF-8 can encode") from None
        if not 0 < size <= MAX_ID_BYTES:
            raise InvalidArgument(
                f"{where} is a str of {size} bytes, expected 1 to {MAX_ID_BYTES}: use a shorter key, such as a hash of this one"
            )
        return str(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64)):
        integer = int(value)
        if not 0 <= integer < 2**64:
            raise InvalidArgument(f"{where} is {integer}, expected an int in [0, 2**64)")
        return integer
    if isinstance(value, uuid.UUID):
        return str(value)
    raise InvalidArgument(
        f"{where} is {value!r} of type {type(value).__name__}, expected an int in [0, 2**64), a non-empty str or a uuid.UUID"
    )


def as_ids(ids: object) -> list[PointId]:
    """
    Return one id, or an array, Series or iterable of ids, as a list.
    """
    if is_one_id(ids):
        return [as_id(ids)]
    if isinstance(ids, (Mapping, Node)):
        raise InvalidArgument(f"expected ids, got a {type(ids).__name__}: pass a filter as filter=, or the ids of its points")
    if getattr(ids, "ndim", 1) > 1:  # a table would give the names of its columns
        raise InvalidArgument(f"ids are a {type(ids).__name__} of shape {getattr(ids, 'shape', '?')}, expected one dimension")
    if isinstance(ids, np.ndarray):
        if ids.dtype.kind in "mM":
            raise InvalidArgument(f"ids are an array of {ids.dtype}, expected ints in [0, 2**64) or strs")
        if ids.dtype.kind in "iu":
            if ids.size and int(ids.min()) < 0:
                raise InvalidArgument(f"ids[{int(ids.argmin())}] is {int(ids.min())}, expected an int in [0, 2**64)")
            return [int(one) for one in np.atleast_1d(ids).tolist()]
        ids = np.atleast_1d(ids).tolist()
    if isinstance(ids, (bytes, bytearray)) or not isinstance(ids, Iterable):
        raise InvalidArgument(f"expected an id or an iterable of ids, got {type(ids).__name__}")
    listed = list(ids)
    if set(map(type, listed)) == {int} and min(listed) >= 0 and max(listed) < 2**64:
        return listed
    return [as_id(one, f"ids[{row}]") for row, one in enumerate(listed)]


def _as_matrix(rows: object, dim: int, what: str) -> NDArray[np.float32]:
    """
    Return array-likes as a (n, dim) float32 matrix, or say which row is at fault.
    """
    try:
        raw = np.asarray(rows)
        if raw.dtype == object:
            raw = np.asarray([np.asarray(row) for row in rows])  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raw = None
    if raw is not None and raw.ndim == 2 and raw.shape[1] == dim and raw.dtype.kind in "fiub":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(raw, dtype=np.float32)
    if raw is not None and raw.ndim in (1, 2) and raw.shape[0] == 0:
        return np.empty((0, dim), dtype=np.float32)
    if isinstance(rows, Sequence) or (isinstance(rows, np.ndarray) and rows.ndim >= 1):
        for index, row in enumerate(rows):
            try:
                one = np.asarray(row)
            except (TypeError, ValueError):
                raise InvalidArgument(f"{what}[{index}] is {type(row).__name__}, expected {dim} numbers") from None
            if one.dtype.kind not in "fiub":
                raise InvalidArgument(
                    f"{what}[{index}] holds {one.dtype.name if one.dtype != object else type(row).__name__}, expected {dim} numbers"
                )
            if one.shape != (dim,):
                raise InvalidArgument(f"{what}[{index}] has shape {one.shape}, expected ({dim},): this collection has dim {dim}")
    found = f"shape {raw.shape} and dtype {raw.dtype}" if raw is not None else f"type {type(rows).__name__}"
    raise InvalidArgument(f"{what} have {found}, expected numbers of shape (n, {dim})")


def check_rows(rows: NDArray[np.float32], metric: str, what: str, positions: Sequence[int] | None = None) -> None:
    """
    Raise InvalidArgument unless every row is finite, of a usable norm and, under cosine, not zero.
    """
    # vdot, since dot warns where a square overflows.
    if rows.shape[0] == 1 and _ORDINARY[0] < float(np.vdot(rows, rows)) < _ORDINARY[1]:
        return
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    low = SMALLEST_COSINE_NORM**2 if metric == "cosine" else 0.0
    good = (squares <= LARGEST_NORM**2) & (squares >= low)  # False for NaN as well
    if good.all():
        return
    first = int(np.flatnonzero(~good)[0])
    name = f"{what}[{first if positions is None else positions[first]}]"
    row = rows[first]
    if np.isnan(row).any():
        raise InvalidArgument(f"{name} holds NaN at component {int(np.flatnonzero(np.isnan(row))[0])}, expected finite numbers")
    if np.isinf(row).any():
        raise InvalidArgument(f"{name} holds an infinity at component {int(np.flatnonzero(np.isinf(row))[0])}, expected finite float32")
    norm = math.sqrt(float(squares[first]))
    if norm == 0.0:
        raise InvalidArgument(
            f"{name} is a zero vector, which has no direction: under the cosine metric expected a vector of non-zero length"
        )
    raise InvalidArgument(
        f"{name} has norm {norm:g}, expected {SMALLEST_COSINE_NORM if low else 0:g} to {LARGEST_NORM:g}: scale the vectors"
    )


def as_rows(
    vectors: object, count: int, *, dim: int, metric: str, single: bool, what: str = "vectors"
) -> tuple[NDArray[np.uint32] | None, NDArray[np.float32]]:
    """
    Return (positions, rows) of the vectors of count points: positions is None when every point has one.
    """
    positions: list[int] | None = None
    if vectors is None:
        return np.empty(0, dtype=np.uint32), np.empty((0, dim), dtype=np.float32)
    if _is_plain(vectors, dim) and vectors.size == count * dim and (single or vectors.ndim == 2):
        check_rows(rows := vectors.reshape(count, dim), metric, what)
        return None, rows
    if not isinstance(vectors, (list, tuple, np.ndarray)) and (hasattr(vectors, "__array__") or isinstance(vectors, memoryview)):
        vectors = np.asarray(vectors)
    if single and not _has_rows(vectors):
        vectors = vectors[np.newaxis] if isinstance(vectors, np.ndarray) and vectors.dtype != object else [vectors]
    if isinstance(vectors, np.ndarray) and vectors.dtype != object:
        given = len(vectors) if vectors.ndim else 0
    else:
        if not isinstance(vectors, (list, tuple)):
            if (listed := items(vectors)) is None:
                raise InvalidArgument(f"{what} are a {type(vectors).__name__}, expected an array of shape ({count}, {dim})")
            vectors = listed
        given = len(vectors)
        if any(row is None for row in vectors):
            positions = [row for row, vector in enumerate(vectors) if vector is not None]
            vectors = [vector for vector in vectors if vector is not None]
    if given != count:
        raise InvalidArgument(f"{count} ids but {given} {what}: expected one vector an id (None for a point without)")
    rows = _as_matrix(vectors, dim, what)
    check_rows(rows, metric, what, positions)
    return (None if positions is None else np.asarray(positions, dtype=np.uint32)), rows


def _is_plain(rows: object, dim: int) -> TypeGuard[NDArray[np.float32]]:
    """
    Return whether vectors are as they are kept: one, or a matrix of them.
    """
    return type(rows) is np.ndarray and rows.dtype == _FLOAT32 and rows.shape[-1:] == (dim,) and rows.ndim < 3 and rows.flags.c_contiguous


def _has_rows(vectors: object) -> bool:
    if isinstance(vectors, np.ndarray):
        return vectors.ndim == 2 or (vectors.dtype == object and vectors.ndim == 1 and vectors.size > 0 and np.ndim(vectors[0]) == 1)
    return (
        isinstance(vectors, (list, tuple))
        and len(vectors) > 0
        and (vectors[0] is None or isinstance(vectors[0], (list, tuple, np.ndarray)))
    )


def as_queries(query: object, *, dim: int, metric: str) -> tuple[NDArray[np.float32], bool]:
    """
    Return (matrix, single): a 1-D query is one row and single.
    """
    if _is_plain(query, dim):
        rows = query.reshape(-1, dim)
        check_rows(rows, metric, "queries")
        return rows, query.ndim == 1
    try:
        ndim = np.ndim(query)  # type: ignore[arg-type]
    except ValueError:
        ndim = 2
    if ndim == 0:
        raise InvalidArgument(f"the query is a {type(query).__name__}, expected {dim} numbers, or an array of shape (n, {dim})")
    single = ndim == 1 and not (isinstance(query, np.ndarray) and query.dtype == object)
    if single and np.size(query) != dim:  # type: ignore[arg-type]
        raise InvalidArgument(f"the query has {np.size(query)} components, expected {dim}")  # type: ignore[arg-type]
    rows = _as_matrix([query] if single else query, dim, "queries")
    check_rows(rows, metric, "queries")
    return rows, single


def listed_payloads(payloads: object, count: int, *, single: bool) -> list[object]:
    """
    Return count payloads, each as it was given; None stands for an empty one, for one point or for all.
    """
    if payloads is None:
        return [None] * count
    if isinstance(payloads, Mapping):
        if not single:
            raise InvalidArgument(
                f"payloads are one dict for {count} points, expected a list of {count}: use set_payload to give many points the same one"
            )
        return [payloads]
    given = items(payloads)
    if given is None:
        raise InvalidArgument(f"payloads are a {type(payloads).__name__}, expected a list of dicts")
    if len(given) != count:
        raise InvalidArgument(f"{count} ids but {len(given)} payloads: expected one payload an id (None for an empty one)")
    return given


def as_payload(payload: object, where: str = "payload") -> Payload:
    """
    Return a payload as plain JSON-like data, or raise InvalidArgument naming the key.

    >>> as_payload({"size": np.int64(3), "when": datetime.date(2026, 1, 2)})
    {'size': 3, 'when': '2026-01-02'}
    """
    if payload is None:
        return {}
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise InvalidArgument(f"{where} is a {type(payload).__name__}, expected a dict (a JSON object)")
    return _plain_object(payload, where, 1)


def _plain_object(value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{where} is nested more than {MAX_DEPTH} levels deep")
    plain: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            if not isinstance(key, str):
                raise InvalidArgument(f"{where} has the key {key!r} of type {type(key).__name__}, expected str keys")
            key = str(key)
        if not key.isascii():
            _text(key, where)
        kind = type(item)
        # What most payloads hold is looked at here; names of places are made only for what is not.
        if kind is str:
            plain[key] = item if item.isascii() else _text(item, f"{where}[{key!r}]")
        elif (
            kind is bool or item is None or (kind is float and -math.inf < item < math.inf) or (kind is int and _INTS[0] <= item < _INTS[1])
        ):
            plain[key] = item
        else:
            plain[key] = _plain(item, f"{where}[{key!r}]", depth)
    return plain


def _text(value: str, where: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(f"{where} holds a lone surrogate: expected text that UTF-8 can encode") from None
    return value


def _plain(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, str):
        return _text(str(value), where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        integer = int(value)
        if not _INTS[0] <= integer < _INTS[1]:
            raise InvalidArgument(f"{where} is {integer}, expected an int of 64 bits: store larger ones as str")
        return integer
    if isinstance(value, (float, np.floating)):
        real = float(value)
        if not math.isfinite(real):
            raise InvalidArgument(f"{where} is {real}, expected a finite number: leave the key out, or store None")
        return real
    if isinstance(value, Mapping):
        return _plain_object(value, where, depth + 1)
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return _plain(value[()], where, depth)
        # tolist would make plain ints of times in nanoseconds.
        value = list(value) if value.dtype.kind in "OmM" else value.tolist()
    if isinstance(value, (list, tuple)):
        if depth >= MAX_DEPTH:
            raise InvalidArgument(f"{where} is nested more than {MAX_DEPTH} levels deep")
        return [_plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, np.datetime64):
        return _from_datetime64(value, where)
    if isinstance(value, datetime.datetime):
        if value != value:
            raise InvalidArgument(f"{where} is {value!r}, expected a time: leave the key out, or store None")
        return _rfc3339(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise InvalidArgument(
        f"{where} is {value!r} of type {type(value).__name__}, which JSON cannot hold: expected str, int, float, bool, None, list, dict, "
        "a datetime or a UUID"
    )


def _from_datetime64(value: np.datetime64, where: str) -> str:
    moment = (rounded := value.astype("datetime64[us]")).item()
    if not isinstance(moment, datetime.datetime):
        raise InvalidArgument(f"{where} is {value!r}, expected a time between the years 1 and 9999")
    return _rfc3339(moment) if rounded == value else f"{value}Z"  # a datetime has no nanoseconds


def _rfc3339(value: datetime.datetime) -> str:
    """
    Return a datetime as RFC 3339 text; one without a zone is taken as UTC.
    """
    offset = value.utcoffset()
    if offset is None:
        return value.replace(tzinfo=None).isoformat() + "Z"
    if offset % datetime.timedelta(minutes=1):
        value = value.astimezone(datetime.timezone.utc)  # RFC 3339 has no seconds in an offset, local mean times do
    return value.isoformat().removesuffix("+00:00") + ("" if value.utcoffset() else "Z")


def flag(value: object, name: str) -> bool:
    """
    Return an argument as a bool, or raise InvalidArgument.

    >>> flag(np.True_, "exact")
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidArgument(f"{name} is {value!r}, expected True or False")
    return bool(value)


def number(value: object, name: str) -> float:
    """
    Return an argument as a float that is not NaN, or raise InvalidArgument.

    >>> number(np.float32(0.5), "score_threshold")
    0.5
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.timedelta64)) and value == value:
        with suppress(OverflowError):
            return float(value)
    raise InvalidArgument(f"{name} is {repr(value)[:80]}, expected a number")


def whole(value: object, name: str, low: int, high: int) -> int:
    """
    Return an argument as an int in [low, high], or raise InvalidArgument.

    >>> whole(3, "k", 1, 10)
    3
    """
    if type(value) is int and low <= value <= high:
        return value
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, (int, np.integer)):
        raise InvalidArgument(f"{name} is {value!r}, expected an int from {low} to {high}")
    if not low <= int(value) <= high:
        raise InvalidArgument(f"{name} is {int(value)}, expected an int from {low} to {high}")
    return int(value)
