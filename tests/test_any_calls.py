"""
Whatever is called in whatever order, a collection holds and finds what a dict and brute force say: a state machine of all write calls,
blocks of them, checkpoint, compact, indexes, closing and kills, and of a reader in another process.

15,000 steps in parts, so that two processes share them; `VECDB_SEED` gives another seed than the one printed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from collection_model import FILTERS, VECTORS, Chosen, Model, check, in_collection, in_model
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from log_harness import small_segments
from storage_doubles import QuickSystem
from writer_process import OtherProcess

import vecdb
from vecdb.storage import files

PARTS = 6
EXAMPLES = 50  # of a part
STEPS = 50  # of an example
SEED = int(os.environ.get("VECDB_SEED", "20"))

IDS = st.sampled_from([0, 1, 2, 3, 2**63, "1", "a", "b", "é"])
ROWS = st.sampled_from([None, *range(len(VECTORS))])
PAYLOADS = st.sampled_from(
    [
        {},
        {"n": 0},
        {"n": 1, "kind": "a"},
        {"n": 2.0, "kind": "b", "tags": ["x", "y"]},
        {"n": [1, 3], "kind": None},
        {"n": "1", "tags": "x"},
        {"kind": ["a", "c"], "deep": {"er": [1, {"est": True}]}},
        {"tags": ["y"], "text": "long " * 40},
    ]
)
POINTS = st.lists(st.tuples(IDS, ROWS, PAYLOADS), min_size=1, max_size=4)
CHOSEN = st.one_of(
    st.lists(IDS, min_size=1, max_size=3).map(lambda ids: Chosen(ids=tuple(ids))),
    st.sampled_from([{}, *FILTERS[1:]]).map(lambda filter: Chosen(filter=filter)),
)
KEYS = st.sampled_from([("n",), ("kind", "tags"), ("text", "absent")])
CALLS = st.one_of(
    st.tuples(st.just("upsert"), POINTS),
    st.tuples(st.sampled_from(["add", "update"]), st.lists(st.tuples(IDS, ROWS, PAYLOADS), min_size=1, max_size=2)),
    st.tuples(st.sampled_from(["set", "replace"]), PAYLOADS, CHOSEN),
    st.tuples(st.just("unset"), KEYS, CHOSEN),
    st.tuples(st.just("delete"), CHOSEN),
)


READER = """
import sys
sys.path.insert(0, tests)
from collection_model import FILTERS, check
"""


class AnyCalls(RuleBasedStateMachine):
    """
    A collection on disk beside its model, and what a reader in `process` must see of it, where one is open.
    """

    process: ClassVar[OtherProcess]

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="vecdb-calls-"))
        self.lives = 0
        self.path = self.home / "0"
        self.model: Model = {}
        self.indexed: set[str] = set()
        self.steps = 0
        self.seen: Model | None = None
        self.db = vecdb.open(self.path, threads=1)
        self.points = self.db.create_collection("p", dim=VECTORS.shape[1], metric="l2")

    @rule(call=CALLS)
    def write(self, call: tuple[Any, ...]) -> None:
        expected = in_model(self.model, dict(self.model), call)
        assert expected == in_collection(self.points, call)

    @rule(call=st.tuples(st.just("upsert"), POINTS))
    def put(self, call: tuple[Any, ...]) -> None:
        self.write(call)

    @rule(calls=st.lists(CALLS, min_size=1, max_size=4), fails=st.booleans())
    def block(self, calls: list[tuple[Any, ...]], fails: bool) -> None:
        before, model = self.model, dict(self.model)

        def make_calls() -> None:
            with self.points.batch():
                for call in calls:
                    expected = in_model(model, before, call)
                    assert expected == in_collection(self.points, call)
                assert len(before) == len(self.points)
                if fails:
                    raise KeyboardInterrupt

        if fails:
            with pytest.raises(KeyboardInterrupt):
                make_calls()
        else:
            make_calls()
            self.model = model

    @rule()
    def checkpoint(self) -> None:
        self.points.checkpoint()

    @rule()
    def compact(self) -> None:
        self.points.compact()
        assert 0 == self.points.info().deleted

    @precondition(lambda self: "n" not in self.indexed)
    @rule()
    def index_numbers(self) -> None:
        self.points.create_index("n", "float")
        self.indexed.add("n")

    @precondition(lambda self: "kind" not in self.indexed)
    @rule()
    def index_keywords(self) -> None:
        self.points.create_index("kind", "keyword")
        self.indexed.add("kind")

    @precondition(lambda self: bool(self.indexed))
    @rule()
    def drop_an_index(self) -> None:
        self.points.drop_index(self.indexed.pop())

    @precondition(lambda self: self.seen is None)
    @rule()
    def open_reader(self) -> None:
        self.process.do("db = vecdb.open(path, mode='r', threads=1); p = db['p']", path=str(self.path))
        self.seen = dict(self.model)

    @precondition(lambda self: self.seen is not None)
    @rule()
    def refresh(self) -> None:
        is_new = self.process.do("result = db.refresh()")
        assert is_new or self.seen == self.model
        self.seen = dict(self.model)

    @precondition(lambda self: self.seen is not None)
    @rule()
    def read(self) -> None:
        assert self.seen is not None
        self.process.do(
            "check(p, {one: (row, payload) for one, row, payload in seen}, query=query, filter=FILTERS[filter])",
            seen=[(one, row, payload) for one, (row, payload) in self.seen.items()],
            query=self.steps % len(VECTORS),
            filter=self.steps % len(FILTERS),
        )

    def close_reader(self) -> None:
        if self.seen is not None:
            self.process.do("db.close()")
            self.seen = None

    @rule()
    def close_and_open(self) -> None:
        self.db.close()
        self.open()

    @rule()
    def kill_and_open(self) -> None:
        """
        Go on from the files as they stand, which is all that a killed process leaves; what it was is let go of elsewhere.
        """
        self.close_reader()
        self.lives += 1
        left = self.home / str(self.lives)
        shutil.copytree(self.path, left, ignore=shutil.ignore_patterns("LOCK", "*-lock"))
        self.db.close()
        shutil.rmtree(self.path)
        self.path = left
        self.open()

    def open(self) -> None:
        self.db = vecdb.open(self.path, mode="a", threads=1)
        self.points = self.db["p"]
        assert self.indexed == {path for path, index in self.points.indexes.items() if index.declared}

    @invariant()
    def equals_the_model(self) -> None:
        self.steps += 1
        check(self.points, self.model, query=self.steps % len(VECTORS), filter=FILTERS[self.steps % len(FILTERS)])

    def teardown(self) -> None:
        self.close_reader()
        self.db.close()
        shutil.rmtree(self.home)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_collection_equals_a_dict_after_any_calls(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "system", QuickSystem())
    small_segments(monkeypatch, 4096)
    print(f"seed {SEED + part}")
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with OtherProcess() as process:
        process.do(READER, tests=str(Path(__file__).parent))
        AnyCalls.process = process
        run_state_machine_as_test(seed(SEED + part)(AnyCalls), settings=chosen)
