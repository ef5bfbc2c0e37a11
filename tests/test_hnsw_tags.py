"""
Tags of `vecdb.hnsw.Index`: conditions against a set-by-set evaluation in Python, links per tag, files and what damage does to them.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vecdb.hnsw import Index

DIM = 8
Conditions = list[list[tuple[bool, int]]]


def rows(count: int, seed: int, dim: int = DIM) -> NDArray[np.float32]:
    print(f"seed={seed}")
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, dim))
    return (centres[random.integers(0, 20, count)] + 0.5 * random.standard_normal((count, dim))).astype(np.float32)


class Model:
    """
    Points and their tags, searched by looking at all of them.
    """

    def __init__(self, count: int, seed: int, *, dim: int = DIM, max_elements: int | None = None) -> None:
        self.dim = dim
        self.data = dict(enumerate(rows(count, seed, dim)))
        self.tags: dict[int, set[int]] = {label: set() for label in self.data}
        self.index = Index("l2", dim)
        self.index.init_index(max_elements or count, ef_construction=80, allow_replace_deleted=True)
        self.index.add_items(np.array(list(self.data.values())))
        self.index.set_ef(100)

    def tag(self, labels: range, tag: int) -> None:
        self.index.add_tags(labels, tag)
        for label in labels:
            self.tags[label].add(tag)

    def untag(self, labels: range, tag: int) -> None:
        self.index.remove_tags(labels, tag)
        for label in labels:
            self.tags[label].discard(tag)

    def matching(self, conditions: Conditions) -> set[int]:
        return {
            label
            for label in self.data
            if all(any((tag in self.tags[label]) != negated for negated, tag in clause) for clause in conditions)
        }

    def nearest(self, query: NDArray[np.float32], k: int, conditions: Conditions) -> list[int]:
        allowed = sorted(self.matching(conditions))
        if not allowed:
            return []
        distances = ((np.array([self.data[label] for label in allowed]) - query) ** 2).sum(axis=1)
        return [allowed[i] for i in np.argsort(distances, kind="stable")[:k]]

    def check(self, conditions: Conditions, *, k: int = 10, floor: float = 0.97, index: Index | None = None) -> None:
        """
        Every hit matches, no row is short, and the mean recall is at least floor.
        """
        queries = rows(20, 99, self.dim)
        labels, distances = (index or self.index).knn_query(queries, k=k, conditions=conditions)
        assert np.int64 == labels.dtype
        allowed = self.matching(conditions)
        recalls = []
        for query, found, far in zip(queries, labels.tolist(), distances, strict=True):
            expected = self.nearest(query, k, conditions)
            count = len(expected)
            assert min(k, len(allowed)) == count == len(set(found[:count]))
            assert set(found[:count]) <= allowed
            assert [-1] * (k - count) == found[count:]
            assert np.all(np.isinf(far[count:]))
            assert np.all(np.diff(far[:count]) >= 0)
            recalls.append(len(set(found[:count]) & set(expected)) / count if count else 1.0)
        assert float(np.mean(recalls)) >= floor


@pytest.fixture(scope="module")
def model() -> Model:
    made = Model(3000, 7)
    made.tag(range(30), 1)
    made.tag(range(1500), 2)
    made.tag(range(10, 3000, 10), 3)
    made.tag(range(5, 6), 2**64 - 1)
    return made


@pytest.mark.parametrize(
    "conditions",
    [
        [[(False, 1)]],
        [[(False, 2)]],
        [[(True, 2)]],
        [[(True, 1)]],
        [[(True, 77)]],
        [[(False, 77)]],
        [[]],
        [[(False, 2)], []],
        [[(True, 2), (True, 3)]],
        [[(True, 2)], [(True, 3)]],
        [[(False, 1), (False, 3)]],
        [[(False, 1), (True, 2)], [(False, 3)]],
        [[(False, 2)], [(False, 3)], [(True, 1)]],
        [[(False, 1)], [(True, 1)]],
        [[(False, 1), (True, 1)]],
        [[(False, 2**64 - 1)]],
        [[(False, tag) for tag in range(200)]],
        [[(False, 2), (False, tag)] for tag in range(100, 200)],
    ],
    ids=lambda conditions: str(conditions)[:60],
)
def test_conditions_mean_what_they_say(model: Model, conditions: Conditions) -> None:
    model.check(conditions)


def test_no_condition_is_a_plain_search(model: Model) -> None:
    queries = rows(5, 3)
    labels, _ = model.index.knn_query(queries, k=4, conditions=[])
    assert np.uint64 == labels.dtype
    np.testing.assert_array_equal(model.index.knn_query(queries, k=4)[0], labels)


literals = st.tuples(st.booleans(), st.integers(0, 4))


@settings(max_examples=40, deadline=None)
@given(conditions=st.lists(st.lists(literals, max_size=4), min_size=1, max_size=4))
def test_any_condition_matches_as_its_definition_says(model: Model, conditions: Conditions) -> None:
    allowed = model.matching(conditions)
    labels, _ = model.index.knn_query(rows(1, 5), k=40, conditions=conditions)
    found = [label for label in labels[0].tolist() if label >= 0]
    assert min(40, len(allowed)) == len(set(found))
    assert set(found) <= allowed


def test_conditions_and_a_filter_hold_together(model: Model) -> None:
    labels, _ = model.index.knn_query(rows(3, 5), k=5, conditions=[[(False, 1)]], filter=lambda label: label >= 28)
    assert [[28, 29]] * 3 == [sorted(row[:2]) for row in labels.tolist()]
    assert [[-1, -1, -1]] * 3 == [row[2:] for row in labels.tolist()]


@pytest.mark.parametrize("wrong", [[[5]], [[(0, 5)]], [[(False, -1)]], [[(False, 2.5)]], [[(False, 1, 2)]], [(False, 1)]], ids=str)
def test_malformed_conditions_are_refused(model: Model, wrong: Conditions) -> None:
    with pytest.raises(TypeError):
        model.index.knn_query(rows(1, 5), conditions=wrong)


def test_tags_are_given_to_all_labels_or_to_none() -> None:
    index = Index("l2", DIM)
    index.init_index(10)
    index.add_items(rows(4, 1))
    with pytest.raises(RuntimeError, match="9 is not in the index"):
        index.add_tags([0, 1, 9, 2], 5)
    assert [set()] * 4 == [index.get_tags(label) for label in range(4)]
    index.add_tags([0, 1], 5)
    index.add_tags([0, 0], 6)
    assert {5, 6} == index.get_tags(0)
    with pytest.raises(RuntimeError, match="9 is not in the index"):
        index.remove_tags([0, 9], 5)
    index.remove_tags([0, 3], 5)
    assert [{6}, {5}] == [index.get_tags(0), index.get_tags(1)]
    with pytest.raises(RuntimeError, match="not found"):
        index.get_tags(9)
    for wrong in (-1, 2.5, 2**64):
        with pytest.raises(TypeError):
            index.add_tags([0], wrong)  # type: ignore[arg-type]


def test_links_of_a_rare_tag_find_its_points() -> None:
    made = Model(20000, 3)
    made.tag(range(0, 20000, 100), 1)
    made.index.index_tagged(1)
    made.check([[(False, 1)]], floor=0.95)


def test_links_of_a_common_tag_find_its_points() -> None:
    """
    With long vectors, many members and a narrow beam the walk over the links is what costs least.
    """
    made = Model(6000, 3, dim=256)
    made.index.set_ef(30)
    made.tag(range(1000, 6000), 2)
    made.tag(range(0, 6000, 10), 1)
    made.index.index_tagged(2)
    made.check([[(False, 2)]], floor=0.95)
    made.check([[(False, 2)], [(True, 1)]], floor=0.95)
    made.check([[(False, 2)], [(False, 1)]], floor=0.95)


def test_links_of_several_tags_serve_their_union() -> None:
    made = Model(6000, 4)
    for tag in range(4):
        made.tag(range(tag * 700, tag * 700 + 900), tag)
    made.index.index_cross_tagged([0, 1, 2], m=8)
    made.check([[(False, 0), (False, 2)]])
    made.check([[(False, 0), (False, 1), (False, 2)], [(True, 3)]])
    made.check([[(False, 1), (False, 3)]])


def test_linking_a_tag_that_nothing_has_is_an_error() -> None:
    made = Model(50, 1)
    for link in (lambda: made.index.index_tagged(8), lambda: made.index.index_cross_tagged([])):
        with pytest.raises(RuntimeError, match="no point has one of"):
            link()
    made.tag(range(3), 8)
    made.index.index_tagged(8)
    made.check([[(False, 8)]])


def test_links_keep_up_with_every_later_change() -> None:
    made = Model(4000, 6, max_elements=5000)
    made.tag(range(1000), 1)
    made.index.index_tagged(1)
    made.tag(range(1000, 2500), 1)
    made.check([[(False, 1)]])
    made.untag(range(500), 1)
    made.check([[(False, 1)]])
    moved = rows(300, 61)
    made.index.add_items(moved, ids=range(600, 900))
    made.data.update(zip(range(600, 900), moved, strict=True))
    made.check([[(False, 1)]])
    for label in range(900, 1000):
        made.index.mark_deleted(label)
        del made.data[label]
    made.check([[(False, 1)]])
    replaced = rows(100, 62)
    made.index.add_items(replaced, ids=range(9000, 9100), replace_deleted=True)
    made.data.update(zip(range(9000, 9100), replaced, strict=True))
    made.tags.update({label: set() for label in range(9000, 9100)})
    assert set() == made.index.get_tags(9000)
    made.check([[(False, 1)]])
    made.check([[(True, 1)]])
    made.tag(range(9000, 9100), 1)
    made.check([[(False, 1)]])
    made.index.index_tagged(1, m=6)
    made.check([[(False, 1)]])


def test_reset_forgets_tags_and_links() -> None:
    made = Model(500, 2)
    made.tag(range(300), 1)
    made.index.index_tagged(1)
    made.index.reset_tags()
    made.tags = {label: set() for label in made.data}
    assert set() == made.index.get_tags(5)
    made.check([[(False, 1)]])
    made.check([[(True, 1)]])
    with pytest.raises(RuntimeError):
        made.index.index_tagged(1)


def saved_pair(path: Path) -> Model:
    made = Model(60, 5)
    made.tag(range(40), 1)
    made.tag(range(20, 60), 2)
    made.index.index_tagged(1)
    made.index.index_cross_tagged([1, 2])
    made.index.mark_deleted(3)
    del made.data[3]
    made.index.save_index(path)
    return made


def test_tags_and_links_are_saved_beside_the_index_and_pickled(tmp_path: Path) -> None:
    made = saved_pair(tmp_path / "index")
    assert {"index", "index.tags"} == {path.name for path in tmp_path.iterdir()}
    loaded = Index("l2", DIM)
    loaded.load_index(tmp_path / "index")
    for copy in (loaded, pickle.loads(pickle.dumps(made.index)), Index(made.index)):
        assert [{1}, {1, 2}, {2}] == [copy.get_tags(label) for label in (0, 30, 50)]
        made.check([[(False, 1)]], index=copy)
        made.check([[(False, 2)], [(True, 1)]], index=copy)
        copy.add_tags([50], 1)
        assert 50 in copy.knn_query(made.data[50], conditions=[[(False, 1)]])[0]


def test_saving_without_tags_removes_the_tag_file_of_an_older_save(tmp_path: Path) -> None:
    made = saved_pair(tmp_path / "index")
    made.index.reset_tags()
    made.index.save_index(tmp_path / "index")
    assert ["index"] == [path.name for path in tmp_path.iterdir()]
    loaded = Index("l2", DIM)
    loaded.load_index(tmp_path / "index")
    assert set() == loaded.get_tags(0)


def test_a_tag_file_of_another_save_is_refused(tmp_path: Path) -> None:
    made = saved_pair(tmp_path / "index")
    other = tmp_path / "other"
    made.index.unmark_deleted(3)
    made.index.save_index(other)
    (tmp_path / "other.tags").write_bytes((tmp_path / "index.tags").read_bytes())
    loaded = Index("l2", DIM)
    with pytest.raises(RuntimeError, match="belongs to a main file with CRC32C"):
        loaded.load_index(other)
    (tmp_path / "other.tags").unlink()
    loaded.load_index(other)
    assert set() == loaded.get_tags(0)


DAMAGE = """
import pickle, random, sys
from vecdb.errors import Corruption
from vecdb.hnsw import Index

path = sys.argv[1]
with open(path, "rb") as file: main = file.read()
with open(path + ".tags", "rb") as file: tags = file.read()
state = Index("l2", 8).__getstate__()[0]

def load(main, tags):
    return Index({**state, "main": main, "tags": tags})

def refused(main, tags):
    try:
        load(main, tags)
    except Corruption:
        return True
    return False

load(main, tags)
random.seed(1)
print("cut main", sum(not refused(main[:size], tags) for size in range(len(main))))
print("cut main alone", sum(not refused(main[:size], None) for size in range(len(main))))
print("cut tags", sum(not refused(main, tags[:size]) for size in range(len(tags))))

def flips(data, bits):
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)

print("flipped main", sum(not refused(changed, tags) for changed in flips(main, range(0, 8 * len(main), 7))))
print("flipped tags", sum(not refused(main, changed) for changed in flips(tags, range(0, 8 * len(tags), 7))))

# Without a tag file nothing has a checksum: a flip in the header is refused, or gives an index that answers.
accepted = set()
for bit, changed in zip(range(8 * 96), flips(main, range(8 * 96))):
    try:
        index = load(changed, None)
    except Corruption:
        continue
    accepted.add(bit // 8)
    labels, _ = index.knn_query([[0.0] * 8], k=5)
    assert len(set(labels[0].tolist())) == 5
print("accepted header bytes", sorted(accepted))

def resealed(crc, tags):
    # Damage under right checksums, which only the checks of each number can find.
    changed = bytearray(tags)
    at = 32
    while at < len(changed):
        size = int.from_bytes(changed[at + 8 : at + 16], "little")
        changed[at + 4 : at + 8] = crc(bytes(changed[at + 16 : at + 16 + size])).to_bytes(4, "little")
        at += 16 + size
    return bytes(changed)

from vecdb._crc import crc32c
places = [place for place in range(32, len(tags)) if not 0 <= (place - 32) < 16]
harmless = 0
for place in random.sample(places, 600):
    changed = bytearray(tags)
    changed[place] = random.randrange(256)
    try:
        index = load(main, resealed(crc32c, changed))
    except Corruption:
        continue
    harmless += 1
    labels, _ = index.knn_query([[0.0] * 8], k=5, conditions=[[(True, 99)]])
    index.knn_query([[0.0] * 8], k=5, conditions=[[(False, 1)]])
    assert len(set(labels[0].tolist())) == 5
print("resealed", harmless < 600)
"""


def test_no_damage_to_the_files_goes_unnoticed_or_crashes(tmp_path: Path) -> None:
    """
    Every cut and, of the bits, every seventh is refused where there is a checksum; all in a child, so that a crash is seen.
    """
    saved_pair(tmp_path / "index")
    child = subprocess.run([sys.executable, "-c", DAMAGE, str(tmp_path / "index")], capture_output=True, text=True, check=False)
    assert "" == child.stderr
    report = dict(line.rsplit(" ", 1) if "[" not in line else line.split(" [", 1) for line in child.stdout.splitlines())
    for kind in ("cut main", "cut main alone", "cut tags", "flipped main", "flipped tags"):
        assert "0" == report[kind], kind
    # max_elements (8 to 15), the entry point (36 to 39), the last bits of the level factor (80 to 87), ef_construction (88 to 95)
    allowed = {*range(8, 16), *range(36, 40), *range(80, 88), *range(88, 96)}
    accepted = {int(number) for number in report["accepted header bytes"].strip("]").split(", ")}
    assert accepted <= allowed
    assert "True" == report["resealed"]
    assert 0 == child.returncode
