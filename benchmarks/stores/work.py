"""
What is written: points of one dimension, with a payload as applications have them, and how many bytes of it a store is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb.storage.codec import encode_payload

_POOL = 20_000
_CITIES = ("London", "Paris", "Lagos", "Lima", "Osaka", "Quito", "Turin", "Minsk")


@dataclass(frozen=True)
class Batch:
    """
    Points of one call.
    """

    ids: list[int]
    vectors: NDArray[np.float32]
    payloads: list[dict[str, Any]]


class Work:
    """
    Batches by first id: the points of an id are always the same.
    """

    def __init__(self, dim: int) -> None:
        random = np.random.default_rng(11)
        self.dim = dim
        self.vectors = random.standard_normal((_POOL, dim)).astype(np.float32)
        self.payloads = [
            {
                "title": f"the title of article {i}",
                "city": _CITIES[i % len(_CITIES)],
                "price": i % 997 / 4,
                "year": 1950 + i % 75,
                "stock": i % 3 > 0,
            }
            for i in range(_POOL)
        ]
        payload_bytes = sum(len(encode_payload(payload)) for payload in self.payloads) / _POOL
        self.bytes_a_point = 8 + 4 * dim + payload_bytes
        """
        Id, vector and encoded payload.
        """

    def batch(self, first_id: int, size: int) -> Batch:
        """
        Return `size` points with consecutive ids.
        """
        start = first_id % (_POOL - size + 1)
        return Batch(list(range(first_id, first_id + size)), self.vectors[start : start + size], self.payloads[start : start + size])
