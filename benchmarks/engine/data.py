"""
The vectors: real sets from files, or a seeded generator whose difficulty can be compared with theirs.

Rows and queries are float32 of length 1, so that cosine and inner product agree; no query is a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]

BLOCK = 50_000
SEED = 20


@dataclass(frozen=True)
class Dataset:
    """
    Points and queries of one set.
    """

    name: str
    rows: Rows
    queries: Rows

    @property
    def dim(self) -> int:
        """
        The number of components.
        """
        return int(self.rows.shape[1])


class RealSet(NamedTuple):
    """
    A file whose last rows are queries.
    """

    file: str
    queries: int


class Synthetic(NamedTuple):
    """
    What the generator makes; `outliers` stretches a few components, as some embedding models do.
    """

    points: int
    dim: int
    rank: int = 24
    clusters: int = 2000
    outliers: bool = False


REAL = {"glove": RealSet("glove100.f16.npy", 2000), "wordnet": RealSet("wordnet_minilm384.f16.npy", 1000)}
SYNTHETIC = {
    "synthetic-1m": Synthetic(1_000_000, 128),
    "synthetic-384": Synthetic(200_000, 384),
    "synthetic-outliers": Synthetic(200_000, 384, outliers=True),
}
NAMES = (*REAL, *SYNTHETIC)

_NOISE = 0.6
_RESIDUAL = 0.2
_HELD_OUT = 0.05
_ZIPF = 1.05
_OUTLIER_SHARE, _OUTLIER_FACTOR = 0.02, 6.0
_IN_DISTRIBUTION, _BETWEEN = 0.70, 0.15


def load(name: str, directory: Path | None, *, points: int | None = None, queries: int = 500) -> Dataset:
    """
    Return a set by name, cut to so many points and queries.

    Raises ValueError for a name that is none of NAMES, and for a real set without a directory.
    """
    if name in SYNTHETIC:
        shape = SYNTHETIC[name]
        return synthetic(name, shape._replace(points=min(points or shape.points, shape.points)), queries=queries)
    if name not in REAL:
        raise ValueError(f"no data set {name!r}: expected one of {', '.join(NAMES)}")
    if directory is None:
        raise ValueError(f"{name} is read from a file: say where with --data DIRECTORY")
    held_out = REAL[name].queries
    everything = np.load(directory / REAL[name].file, mmap_mode="r")
    available = len(everything) - held_out
    rows = unit(everything[: min(points or available, available)])
    return Dataset(name, rows, unit(everything[available : available + min(queries, held_out)]))


def unit(vectors: NDArray[np.floating]) -> Rows:
    """
    Return vectors as float32 of length 1.
    """
    wide = np.array(vectors, dtype=np.float32)
    for start in range(0, len(wide), BLOCK):
        block = wide[start : start + BLOCK]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return wide


def synthetic(name: str, shape: Synthetic, *, queries: int, seed: int = SEED) -> Dataset:
    """
    Return clustered vectors on a curved manifold of low rank; cluster sizes follow Zipf's law.

    Of the queries 70 % are drawn as the points are, 15 % lie between two clusters, 15 % in clusters that hold no point.
    """
    chance = np.random.default_rng(seed)
    rank, dim = shape.rank, shape.dim
    centres = chance.standard_normal((shape.clusters, rank)).astype(np.float32)
    widths = (_NOISE * chance.uniform(0.5, 1.5, shape.clusters)).astype(np.float32)
    first = chance.standard_normal((rank, dim)).astype(np.float32) / np.float32(np.sqrt(rank))
    second = chance.standard_normal((dim, dim)).astype(np.float32) / np.float32(np.sqrt(dim))
    scale = np.ones(dim, dtype=np.float32)
    if shape.outliers:
        scale[chance.choice(dim, max(1, round(_OUTLIER_SHARE * dim)), replace=False)] = _OUTLIER_FACTOR
    held_out = max(1, round(_HELD_OUT * shape.clusters))
    share = 1.0 / np.arange(1, shape.clusters - held_out + 1) ** _ZIPF
    share /= share.sum()

    def vectors(latent: Rows) -> Rows:
        made = np.empty((len(latent), dim), dtype=np.float32)
        for start in range(0, len(latent), BLOCK):
            block = np.tanh(latent[start : start + BLOCK] @ first) @ second
            block += _RESIDUAL * chance.standard_normal(block.shape, dtype=np.float32)
            made[start : start + BLOCK] = unit(block * scale)
        return made

    def around(cluster: NDArray[np.int64]) -> Rows:
        noise = chance.standard_normal((len(cluster), rank), dtype=np.float32)
        return centres[cluster] + widths[cluster][:, None] * noise

    rows = vectors(around(chance.choice(len(share), shape.points, p=share)))
    inside, between = round(_IN_DISTRIBUTION * queries), round(_BETWEEN * queries)
    pairs = around(chance.choice(len(share), 2 * between, p=share)).reshape(between, 2, rank)
    asked = [
        around(chance.choice(len(share), inside, p=share)),
        pairs.mean(axis=1),
        around(chance.integers(len(share), shape.clusters, queries - inside - between)),
    ]
    return Dataset(name, rows, vectors(np.concatenate(asked)[chance.permutation(queries)]))


class Difficulty(NamedTuple):
    """
    How hard a set is: `contrast` is the mean distance over the nearest one (near 1: hard), `dimension` the local intrinsic dimension.
    """

    contrast: float
    dimension: float


def difficulty(data: Dataset, *, sample: int = 200, neighbours: int = 100) -> Difficulty:
    """
    Return relative contrast (He, Kumar, Chang 2012) and local intrinsic dimension by maximum likelihood (Amsaleg et al. 2015), at queries.
    """
    queries = data.queries[:sample]
    neighbours = min(neighbours, len(data.rows) - 1)
    distances = np.empty((len(queries), len(data.rows)), dtype=np.float32)
    for start in range(0, len(data.rows), BLOCK):
        distances[:, start : start + BLOCK] = 2 - 2 * (queries @ data.rows[start : start + BLOCK].T)
    distances = np.sqrt(np.maximum(distances, 1e-12))
    mean = distances.mean(axis=1)
    nearest = np.sort(np.partition(distances, neighbours, axis=1)[:, :neighbours], axis=1)
    logs = np.log(nearest / nearest[:, -1:])[:, :-1].mean(axis=1)
    return Difficulty(float(np.mean(mean / nearest[:, 0])), float(np.mean(-1 / np.minimum(logs, -1e-9))))
