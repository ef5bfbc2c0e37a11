"""
What a user would pick instead, through Python, one query a call, with the filter each library offers; and numpy with the ids at hand.

A library that is not installed is left out, with a line that says so.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .collection import Timed, timed
from .data import Dataset
from .filters import Cell
from .stock import SEED, Options

EFS = (32, 64, 128, 256, 512, 1024)
# usearch cannot filter: its users ask for more and drop what does not match, up to so many.
_MOST_ASKED = 20_000


class Peer(ABC):
    """
    A library with the points of one set. `prepare` makes what its filter needs, outside of the clock.
    """

    name: str
    package: str
    has_ef = True

    def __init__(self, data: Dataset, options: Options) -> None:
        self.data = data
        self.options = options

    def prepare(self, cell: Cell) -> None:
        """
        Make the filters of a cell in this library's form; here: masks.
        """
        self._masks = [cell.mask(number) for number in range(len(cell.programs))]

    def set_ef(self, ef: int) -> None:
        """
        Set the beam width of the next searches.
        """
        raise NotImplementedError(f"{self.name} has no beam width")

    @abstractmethod
    def search(self, query: int, filter: int | None, k: int) -> NDArray[np.integer]:
        """
        Return the ids that this library finds for a query under a filter of the prepared cell.
        """

    def run(self, cell: Cell, k: int, *, budget: float, passes: int) -> Timed:
        """
        Search one query a call.
        """

        def search(query: int) -> NDArray[np.integer]:
            return self.search(query, int(cell.filter_of_query[query]) if cell.is_filtered else None, k)

        return timed(search, len(self.data.queries), k, budget=budget, passes=passes)


class Numpy(Peer):
    """
    Gather and product over the ids that match, which are at hand.
    """

    name, package, has_ef = "numpy", "numpy", False

    def prepare(self, cell: Cell) -> None:
        self._members = [np.flatnonzero(cell.mask(number)) for number in range(len(cell.programs))]

    def search(self, query: int, filter: int | None, k: int) -> NDArray[np.integer]:
        rows = self.data.rows if filter is None else self.data.rows[self._members[filter]]
        products = rows @ self.data.queries[query]
        kept = min(k, len(products))
        best = np.argpartition(products, len(products) - kept)[len(products) - kept :]
        best = best[np.argsort(-products[best])]
        return best if filter is None else self._members[filter][best]


class Hnswlib(Peer):
    """
    hnswlib with a Python callable as its filter.
    """

    name, package = "hnswlib", "hnswlib"

    def __init__(self, data: Dataset, options: Options) -> None:
        super().__init__(data, options)
        import hnswlib

        self._index = hnswlib.Index(space="cosine", dim=data.dim)
        self._index.init_index(len(data.rows), ef_construction=options.ef_construction, M=options.m, random_seed=SEED)
        self._index.add_items(data.rows)

    def set_ef(self, ef: int) -> None:
        self._index.set_ef(ef)

    def search(self, query: int, filter: int | None, k: int) -> NDArray[np.integer]:
        # hnswlib refuses to give fewer than k.
        row = self.data.queries[query : query + 1]
        if filter is None:
            return np.asarray(self._index.knn_query(row, k, num_threads=1)[0][0])
        mask = self._masks[filter]
        wanted = min(k, int(mask.sum()))
        try:
            return np.asarray(self._index.knn_query(row, wanted, num_threads=1, filter=mask.__getitem__)[0][0])
        except RuntimeError:
            return np.empty(0, dtype=np.int64)


class Usearch(Peer):
    """
    usearch, which has no filter in Python: k / selectivity hits are asked for, and those that match are kept.
    """

    name, package = "usearch", "usearch"

    def __init__(self, data: Dataset, options: Options) -> None:
        super().__init__(data, options)
        from usearch.index import Index

        self._index: Any = Index(ndim=data.dim, metric="cos", connectivity=options.m, expansion_add=options.ef_construction)
        self._index.add(np.arange(len(data.rows)), data.rows)

    def set_ef(self, ef: int) -> None:
        self._index.expansion_search = ef

    def search(self, query: int, filter: int | None, k: int) -> NDArray[np.integer]:
        row = self.data.queries[query]
        if filter is None:
            return np.asarray(self._index.search(row, k, threads=1).keys)
        mask = self._masks[filter]
        asked = min(len(mask), _MOST_ASKED, round(1.2 * k * len(mask) / max(1, int(mask.sum()))))
        keys = np.asarray(self._index.search(row, asked, threads=1).keys)
        return np.asarray(keys[mask[keys]][:k])


class FaissHnsw(Peer):
    """
    faiss' HNSW with an IDSelectorBitmap.
    """

    name, package = "faiss-hnsw", "faiss"

    def __init__(self, data: Dataset, options: Options) -> None:
        super().__init__(data, options)
        import faiss

        self._faiss: Any = faiss
        faiss.omp_set_num_threads(faiss.omp_get_max_threads())
        self._index = self.make(options)
        self._index.add(data.rows)
        faiss.omp_set_num_threads(1)
        self._ef = EFS[0]

    def make(self, options: Options) -> Any:
        """
        Return the empty index.
        """
        index = self._faiss.IndexHNSWFlat(self.data.dim, options.m, self._faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = options.ef_construction
        return index

    def prepare(self, cell: Cell) -> None:
        bitmaps = (np.packbits(cell.mask(number), bitorder="little") for number in range(len(cell.programs)))
        self._selectors = [self._faiss.IDSelectorBitmap(bitmap) for bitmap in bitmaps]

    def set_ef(self, ef: int) -> None:
        self._ef = ef

    def parameters(self, **values: Any) -> Any:
        """
        Return the search parameters of this index.
        """
        return self._faiss.SearchParametersHNSW(efSearch=self._ef, **values)

    def search(self, query: int, filter: int | None, k: int) -> NDArray[np.integer]:
        selector = {} if filter is None else {"sel": self._selectors[filter]}
        ids = self._index.search(self.data.queries[query : query + 1], k, params=self.parameters(**selector))[1][0]
        return np.asarray(ids[ids >= 0])


class FaissFlat(FaissHnsw):
    """
    faiss' exact scan with an IDSelectorBitmap.
    """

    name, has_ef = "faiss-flat", False

    def make(self, options: Options) -> Any:
        return self._faiss.IndexFlatIP(self.data.dim)

    def parameters(self, **values: Any) -> Any:
        return self._faiss.SearchParameters(**values)


PEERS: tuple[type[Peer], ...] = (Numpy, Hnswlib, Usearch, FaissHnsw, FaissFlat)


def available() -> list[type[Peer]]:
    """
    Return the peers that can be imported, and print which cannot.
    """
    found = []
    for peer in PEERS:
        if importlib.util.find_spec(peer.package) is None:
            print(f"left out: {peer.name} ({peer.package} is not installed)")
        else:
            found.append(peer)
    return found
