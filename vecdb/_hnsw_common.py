"""
What `Index` and `BFIndex` of `vecdb.hnsw` share: the space, the shapes and types of what a caller gives, and the shape of what is returned.

Everything is checked and converted here, once; the messages keep hnswlib's words where a program may look for them.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecdb._labelled import InvalidUse, Labelled, Labels, Rows

LABEL_LIMIT = 2**64


@dataclass(frozen=True)
class Space:
    """
    How far two vectors are from each other: "l2" (squared), "ip" (1 - inner product) or "cosine" (1 - cosine), and their dimension.
    """

    name: str
    dim: int

    def __post_init__(self) -> None:
        """
        Refuse an unknown name and a dimension below 1.
        """
        if self.name not in ("l2", "ip", "cosine"):
            raise InvalidUse(f"Space name must be one of l2, ip, or cosine. It is {self.name!r}")
        if self.dim < 1:
            raise InvalidUse(f"dim is {self.dim}, expected at least 1")

    @property
    def inner_product(self) -> bool:
        """
        Whether the core compares by inner product; for cosine the vectors are normalised before.
        """
        return self.name != "l2"

    def rows(self, data: ArrayLike) -> Rows:
        """
        Return data as float32 rows (n, dim), normalised for cosine; one vector is one row.
        """
        with np.errstate(over="ignore"):  # what becomes infinite is refused by the core, with its row
            rows = np.ascontiguousarray(data, dtype=np.float32)
        shape = np.shape(data)
        if len(shape) not in (1, 2):
            raise InvalidUse(f"Input vector data wrong shape. Number of dimensions {len(shape)}. Data must be a 1D or 2D array.")
        rows = rows.reshape(-1, shape[-1]) if shape[-1] else rows.reshape(0, self.dim) if shape[0] == 0 else rows
        if rows.shape[-1] != self.dim:
            raise InvalidUse(f"Wrong dimensionality of the vectors: they have {rows.shape[-1]}, the index expects {self.dim}")
        if self.name == "cosine":
            # The tiny term keeps a zero vector a zero vector, as hnswlib does.
            with np.errstate(over="ignore", invalid="ignore"):
                norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, np.newaxis] + np.float32(1e-30)
                rows = rows * (np.float32(1) / norms)
        return rows


def natural(value: Any, name: str) -> int:
    """
    Return value as an int in [0, 2**64); TypeError for anything else, as in hnswlib.
    """
    number = operator.index(value)
    if not 0 <= number < LABEL_LIMIT:
        raise TypeError(f"{name} is {number}, expected an integer from 0 to 2**64 - 1")
    return number


def links(value: Any, name: str) -> int:
    """
    Return a number of links a point; the core refuses what is too few or too many.
    """
    return min(natural(value, name), 2**32 - 1)


def labels_of(labels: ArrayLike, name: str = "labels") -> Labels:
    """
    Return labels as uint64, in the shape they have; TypeError for negative numbers and fractions.
    """
    array = np.asarray(labels)
    if array.size == 0:
        return np.zeros(array.shape, np.uint64)
    if array.dtype.kind == "u":
        return np.ascontiguousarray(array, dtype=np.uint64).reshape(array.shape)
    if array.dtype.kind == "i":
        if int(array.min()) < 0:
            raise TypeError(f"{name} hold {int(array.min())}, expected integers from 0 to 2**64 - 1")
        return np.ascontiguousarray(array, dtype=np.uint64).reshape(array.shape)
    if array.dtype.kind == "O" or (array.dtype.kind == "f" and not isinstance(labels, np.ndarray)):
        # numpy makes floats of a list that holds both small ints and ints beyond 2**63
        flat = np.asarray(labels, dtype=object).ravel()
        return np.array([natural(label, name) for label in flat.tolist()], np.uint64).reshape(array.shape)
    raise TypeError(f"{name} are of type {array.dtype}, expected integers from 0 to 2**64 - 1")


def labels_for(labels: ArrayLike, rows: int) -> Labels:
    """
    Return one label for each of the rows; a single row may come with a bare label.
    """
    array = labels_of(labels, "ids")
    if array.shape != (rows,) and not (array.ndim == 0 and rows == 1):
        raise InvalidUse(
            f"The input label shape {array.shape} does not match the input data vector shape ({rows}, ...): give one label for each vector"
        )
    return array.reshape(rows)


def checked_conditions(conditions: Iterable[Iterable[tuple[bool, int]]]) -> list[list[tuple[bool, int]]]:
    """
    Return the clauses as lists of (negated, tag), checked.
    """
    clauses: list[list[tuple[bool, int]]] = []
    for clause in conditions:
        literals: list[tuple[bool, int]] = []
        for literal in clause:
            try:
                negated, tag = literal
            except (TypeError, ValueError):
                raise TypeError(f"conditions hold {literal!r}, expected clauses of pairs (negated, tag)") from None
            if not isinstance(negated, (bool, np.bool_)):
                raise TypeError(f"the first of {literal!r} is no bool; expected (False, tag) for the tag, (True, tag) for its absence")
            literals.append((bool(negated), natural(tag, "tag")))
        clauses.append(literals)
    return clauses


def threads_for(num_threads: int, default: int, rows: int) -> int:
    """
    Return how many threads to use; few rows are not worth more than one.
    """
    threads = num_threads if num_threads > 0 else default
    if threads <= 0:
        threads = os.cpu_count() or 1
    return 1 if rows <= threads * 4 else threads


def allowed_labels(core: Labelled, keep: Callable[[int], bool]) -> Labels:
    """
    Return the labels that the callable accepts; it is asked once for each point that is not deleted.
    """
    labels, deleted = core.labels()
    live = labels[~deleted]
    return live[np.fromiter((bool(keep(label)) for label in live.tolist()), np.bool_, len(live))]


def full_rows(labels: Labels, distances: Rows, counts: NDArray[np.uint32]) -> tuple[Labels, Rows]:
    """
    Return labels and distances when every row is full; hnswlib's error otherwise.
    """
    k = labels.shape[1]
    if len(counts) and int(counts.min()) < k:
        raise InvalidUse(
            f"Cannot return the results in a contiguous 2D array. Probably ef or M is too small: query {int(counts.argmin())} has "
            f"{int(counts.min())} results, k is {k}"
        )
    return labels, distances


def padded_rows(labels: Labels, distances: Rows, counts: NDArray[np.uint32]) -> tuple[NDArray[np.int64], Rows]:
    """
    Return labels as int64 and distances, short rows filled with -1 and infinity.
    """
    missing = np.arange(labels.shape[1]) >= counts[:, np.newaxis]
    if np.any(labels[~missing] >= 2**63):
        raise InvalidUse(
            "a label beyond 2**63 - 1 was found: under conditions labels are int64; search without conditions, or use smaller labels"
        )
    signed = labels.astype(np.int64)
    signed[missing] = -1
    distances[missing] = np.inf
    return signed, distances
