"""
Fixtures that several test files share.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import vecdb

collect_ignore = ["fuzz/run.py"]  # a command, which needs atheris


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """
    Let SIGINT raise KeyboardInterrupt, as it does unless the tests were started in the background of a script.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """
    Where a database may be made.
    """
    return tmp_path / "test.vecdb"


@pytest.fixture(params=["memory", "disk"])
def db(request: pytest.FixtureRequest, path: Path) -> Iterator[vecdb.Database]:
    """
    An empty database, in memory and on disk.
    """
    with vecdb.open(":memory:" if request.param == "memory" else path) as database:
        yield database


@pytest.fixture
def points(db: vecdb.Database) -> vecdb.Collection:
    """
    An empty collection of dim 4.
    """
    return db.create_collection("points", dim=4)


@pytest.fixture
def clustered() -> Callable[..., NDArray[np.float32]]:
    """
    Make clustered vectors, which are harder and more like real ones than uniform noise.
    """

    def make(count: int, dim: int, *, seed: int, clusters: int = 50) -> NDArray[np.float32]:
        print(f"seed={seed}")
        random = np.random.default_rng(seed)
        centres = random.standard_normal((clusters, dim))
        return (centres[random.integers(0, clusters, count)] + 0.6 * random.standard_normal((count, dim))).astype(np.float32)

    return make
