"""
`vecdb.hnsw` as a replacement of hnswlib: labels, places, errors, files, pickles. Searches are compared with numpy.
"""

from __future__ import annotations

import pickle
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vecdb.errors import VecdbError
from vecdb.hnsw import BFIndex, Index

DIM = 12


def vectors(count: int, seed: int, dim: int = DIM) -> NDArray[np.float32]:
    print(f"seed={seed}")
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def distances(space: str, data: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """
    All distances (queries, data), in double.
    """
    a, b = queries.astype(np.float64), data.astype(np.float64)
    if space == "l2":
        return ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    if space == "cosine":
        a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    return 1 - a @ b.T


def filled(count: int, seed: int = 1, space: str = "l2", **options: int) -> tuple[Index, NDArray[np.float32]]:
    data = vectors(count, seed)
    index = Index(space=space, dim=DIM)
    index.init_index(max_elements=count, ef_construction=100, **options)
    index.add_items(data)
    index.set_ef(100)
    return index, data


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("kind", [Index, BFIndex])
def test_nearest_points_and_their_distances_are_those_of_brute_force(kind: type[Index] | type[BFIndex], space: str) -> None:
    data, queries = vectors(2000, 3), vectors(50, 4)
    index = kind(space=space, dim=DIM)
    index.init_index(len(data))
    index.add_items(data)
    if isinstance(index, Index):
        index.set_ef(200)
    labels, found = index.knn_query(queries, k=10)
    everything = distances(space, data, queries)
    assert (np.uint64, np.float32) == (labels.dtype, found.dtype)
    np.testing.assert_allclose(np.take_along_axis(everything, labels.astype(np.int64), 1), found, rtol=1e-4, atol=1e-5)
    expected = np.argsort(everything, axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(expected.tolist(), labels.tolist(), strict=True)])
    assert recall >= (1.0 if kind is BFIndex else 0.98)


def test_labels_go_on_from_the_number_of_vectors_added() -> None:
    index = Index("l2", 2)
    index.init_index(10)
    index.add_items([[0, 0], [1, 1]], ids=[100, 2**64 - 1])
    index.add_items([2, 2])
    assert [100, 2**64 - 1, 2] == index.get_ids_list()


def test_a_failed_call_takes_no_labels() -> None:
    data = vectors(6, 2)
    index = Index("l2", DIM)
    index.init_index(4)
    with pytest.raises(RuntimeError, match="exceeds the specified limit"):
        index.add_items(data)
    index.resize_index(6)
    index.add_items(data)
    assert list(range(6)) == sorted(index.get_ids_list())


def test_a_known_label_gets_the_new_vector() -> None:
    index, data = filled(300)
    moved = vectors(1, 9) + 50
    index.add_items(moved, ids=[7])
    assert 300 == index.element_count
    assert 7 == index.knn_query(moved)[0][0, 0]
    assert 7 not in index.knn_query(data[7], k=5)[0]


def test_deleted_points_are_hidden_until_unmarked() -> None:
    index, data = filled(500)
    for label in range(0, 500, 2):
        index.mark_deleted(label)
    labels, _ = index.knn_query(data, k=3)
    assert 1 == np.unique(labels % 2).item()
    with pytest.raises(RuntimeError, match="already deleted"):
        index.mark_deleted(0)
    with pytest.raises(RuntimeError, match="not found"):
        index.get_items([0])
    index.unmark_deleted(0)
    with pytest.raises(RuntimeError, match="not deleted"):
        index.unmark_deleted(0)
    assert 0 == index.knn_query(data[0])[0][0, 0]
    with pytest.raises(RuntimeError, match="not found"):
        index.mark_deleted(5000)


def test_deleted_places_are_reused_only_when_that_was_allowed() -> None:
    data = vectors(20, 5)
    index = Index("l2", DIM)
    index.init_index(10, allow_replace_deleted=True)
    index.add_items(data[:10])
    for label in range(5):
        index.mark_deleted(label)
    index.add_items(data[10:15], ids=range(10, 15), replace_deleted=True)
    assert 10 == index.element_count
    assert set(range(5, 15)) == set(index.get_ids_list())
    np.testing.assert_array_equal(data[10:15], index.get_items(range(10, 15)))
    with pytest.raises(RuntimeError, match="exceeds"):
        index.add_items(data[15:16], ids=[15], replace_deleted=True)
    closed = Index("l2", DIM)
    closed.init_index(10)
    with pytest.raises(RuntimeError, match="disabled"):
        closed.add_items(data[:1], replace_deleted=True)


def test_adding_a_deleted_label_needs_replace_deleted_where_places_are_reused() -> None:
    index = Index("l2", DIM)
    index.init_index(2, allow_replace_deleted=True)
    index.add_items(vectors(1, 5), ids=[3])
    index.mark_deleted(3)
    with pytest.raises(RuntimeError, match="replace_deleted"):
        index.add_items(vectors(1, 6), ids=[3])
    index.add_items(vectors(1, 6), ids=[3], replace_deleted=True)
    np.testing.assert_array_equal(vectors(1, 6), index.get_items([3]))


@pytest.mark.parametrize("selected", [1, 5, 300, 1999])
def test_a_filter_never_loses_results(selected: int) -> None:
    index, data = filled(2000)
    asked: list[int] = []

    def keep(label: int) -> bool:
        asked.append(label)
        return label < selected

    labels, _ = index.knn_query(data[:5], k=min(selected, 10), filter=keep)
    assert list(range(2000)) == sorted(asked)
    expected = np.argsort(distances("l2", data[:selected], data[:5]), axis=1)[:, :10]
    assert selected > int(labels.max())
    if selected <= 300:
        np.testing.assert_array_equal(np.sort(expected), np.sort(labels.astype(np.int64)))
    with pytest.raises(RuntimeError, match="contiguous 2D array"):
        index.knn_query(data[:5], k=selected + 1, filter=lambda label: label < selected)


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (RuntimeError, lambda: Index("hamming", 4)),
        (TypeError, lambda: Index("l2")),
        (TypeError, lambda: Index("l2", 2.5)),
        (RuntimeError, lambda: Index("l2", 0)),
        (RuntimeError, lambda: Index("l2", 4).add_items([[1, 2, 3, 4]])),
        (RuntimeError, lambda: Index("l2", 4).knn_query([1, 2, 3, 4])),
        (RuntimeError, lambda: Index("l2", 4).get_items([1])),
        (RuntimeError, lambda: filled(5)[0].init_index(5)),
        (RuntimeError, lambda: filled(5)[0].add_items(np.zeros((2, DIM + 1)))),
        (RuntimeError, lambda: filled(5)[0].add_items(np.zeros((1, 2, DIM)))),
        (RuntimeError, lambda: filled(5)[0].add_items(np.zeros((2, DIM)), ids=[1])),
        (RuntimeError, lambda: filled(5)[0].add_items(np.full(DIM, np.nan), ids=1)),
        (RuntimeError, lambda: filled(5)[0].knn_query(np.full(DIM, np.inf))),
        (TypeError, lambda: filled(5)[0].add_items(np.zeros(DIM), ids=[-1])),
        (TypeError, lambda: filled(5)[0].add_items(np.zeros(DIM), ids=[1.5])),
        (RuntimeError, lambda: filled(5)[0].knn_query(np.zeros(DIM), k=6)),
        (TypeError, lambda: filled(5)[0].knn_query(np.zeros(DIM), k=-1)),
        (ValueError, lambda: filled(5)[0].get_items(3)),
        (ValueError, lambda: filled(5)[0].get_items([3], return_type="tuple")),
        (RuntimeError, lambda: filled(5)[0].get_items([7])),
        (RuntimeError, lambda: filled(5)[0].resize_index(4)),
        (TypeError, lambda: filled(5)[0].mark_deleted(-1)),
        (RuntimeError, lambda: Index("l2", 4).load_index("/no/such/file")),
        (RuntimeError, lambda: Index("l2", 4).init_index(10, M=1)),
    ],
)
def test_wrong_use_raises_what_hnswlib_users_expect(error: type[Exception], call: object) -> None:
    assert callable(call)
    with pytest.raises(error):
        call()


def test_a_row_that_is_not_finite_is_named_and_nothing_is_added() -> None:
    index, data = filled(5)
    index.resize_index(20)
    rows = vectors(4, 8)
    rows[2, 3] = np.nan
    with pytest.raises(RuntimeError, match=r"row 2 .* position 3"):
        index.add_items(rows)
    assert 5 == index.element_count
    np.testing.assert_array_equal(data, index.get_items(range(5)))


def test_properties_tell_what_the_index_is() -> None:
    index = Index(space="cosine", dim=DIM)
    assert (0, 0, 0, 0, 10) == (index.max_elements, index.element_count, index.M, index.ef_construction, index.ef)
    index.init_index(max_elements=50, M=24, ef_construction=10)
    index.add_items(vectors(7, 1))
    assert ("cosine", DIM, 24, 24, 50, 7) == (
        index.space,
        index.dim,
        index.M,
        index.ef_construction,
        index.max_elements,
        index.element_count,
    )
    index.ef = 33
    assert 33 == index.ef
    assert "<vecdb.hnsw.Index(space='cosine', dim=12)>" == repr(index)


def test_empty_input_adds_nothing_and_finds_nothing() -> None:
    index, _ = filled(5)
    index.add_items(np.zeros((0, DIM)))
    labels, found = index.knn_query(np.zeros((0, DIM)), k=3)
    assert ((0, 3), (0, 3), 5) == (labels.shape, found.shape, index.element_count)


def test_one_thread_builds_the_same_file_each_time(tmp_path: Path) -> None:
    data = vectors(400, 3)
    for name in ("a", "b"):
        index = Index("ip", DIM)
        index.init_index(500, random_seed=9)
        index.add_items(data, num_threads=1)
        index.save_index(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_a_saved_index_answers_as_before(space: str, tmp_path: Path) -> None:
    index, data = filled(600, space=space)
    index.mark_deleted(5)
    index.save_index(tmp_path / "index")
    assert index.index_file_size() == (tmp_path / "index").stat().st_size
    assert ["index"] == [path.name for path in tmp_path.iterdir()]
    loaded = Index(space, DIM)
    loaded.load_index(str(tmp_path / "index"), max_elements=700)
    loaded.set_ef(100)
    for before, after in zip(index.knn_query(data[:50], k=10), loaded.knn_query(data[:50], k=10), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (700, 600) == (loaded.max_elements, loaded.element_count)
    loaded.add_items(vectors(100, 8))
    assert set(range(700)) == set(loaded.get_ids_list())


def test_the_main_file_is_hnswlibs() -> None:
    """
    The fields of hnswlib's header and elements, read with struct from a pickle's main file.
    """
    index, data = filled(30, M=4)
    index.mark_deleted(3)
    main = index.__getstate__()[0]["main"]
    header = struct.unpack_from("<6QiI3QdQ", main)
    element = 4 + 8 * 4 + 4 * DIM + 8
    assert (0, 30, 30, element, element - 8, 4 + 8 * 4) == header[:6]
    assert (4, 8, 4) == header[8:11]
    assert pytest.approx(1 / np.log(4)) == header[11]
    for i in range(30):
        start = 96 + i * element
        (word,) = struct.unpack_from("<I", main, start)
        assert (i == 3) == bool(word >> 16)
        assert 1 <= word & 0xFFFF <= 8
        assert data[i].tobytes() == main[start + 36 : start + 36 + 4 * DIM]
        assert (i,) == struct.unpack_from("<Q", main, start + element - 8)
    position, levels = 96 + 30 * element, []
    for _ in range(30):
        (size,) = struct.unpack_from("<I", main, position)
        levels.append(size // (4 + 4 * 4))
        position += 4 + size
    assert len(main) == position
    assert max(levels) == header[6] == levels[header[7]]


def test_a_file_of_another_dim_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    filled(10)[0].save_index(tmp_path / "index")
    other = Index("l2", DIM + 1)
    other.init_index(3)
    with pytest.raises(RuntimeError, match=f"dim {DIM}, the index expects {DIM + 1}"):
        other.load_index(tmp_path / "index")
    assert 3 == other.max_elements


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vecdb.storage import files

    index, _ = filled(10)
    index.save_index(tmp_path / "index")
    before = (tmp_path / "index").read_bytes()
    index.mark_deleted(1)

    class FullDisk(files.System):
        def pwritev(self, fd: int, buffers: object, offset: int) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "system", FullDisk())
    with pytest.raises(RuntimeError, match="free space"):
        index.save_index(tmp_path / "index")
    assert before == (tmp_path / "index").read_bytes()
    assert ["index"] == [path.name for path in tmp_path.iterdir()]


def test_a_pickle_goes_on_where_the_index_was() -> None:
    empty = pickle.loads(pickle.dumps(Index("ip", DIM)))
    assert ("ip", DIM, 0) == (empty.space, empty.dim, empty.max_elements)
    index, data = filled(200)
    index.resize_index(300)
    index.num_threads = 3
    copies = [pickle.loads(pickle.dumps(index)), Index(index), Index(index.__getstate__()[0])]
    for copy in copies:
        assert (100, 3, 300) == (copy.ef, copy.num_threads, copy.max_elements)
        np.testing.assert_array_equal(index.knn_query(data[:20], k=5)[0], copy.knn_query(data[:20], k=5)[0])
        copy.add_items(data[0])
        assert 200 in copy.get_ids_list()


def test_adding_deleting_and_searching_may_run_at_once() -> None:
    data = vectors(1200, 13)
    index = Index("l2", DIM)
    index.init_index(2000, allow_replace_deleted=True)
    index.add_items(data[:200])
    problems: list[BaseException] = []
    running = threading.Event()
    running.set()

    def search() -> None:
        while running.is_set():
            labels, _ = index.knn_query(data[:4], k=3, num_threads=1)
            if any(len(set(row)) != 3 for row in labels.tolist()):
                problems.append(AssertionError(f"a label twice: {labels}"))

    def write(part: int) -> None:
        own = range(200 + part * 250, 450 + part * 250)
        index.add_items(data[own.start : own.stop], ids=own)
        for label in own[::5]:
            index.mark_deleted(label)
        index.add_items(data[own.start : own.stop : 5], ids=own[::5], replace_deleted=True)
        pickle.loads(pickle.dumps(index))

    def guarded(body: object, *arguments: int) -> None:
        assert callable(body)
        try:
            body(*arguments)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            problems.append(error)

    searchers = [threading.Thread(target=guarded, args=(search,)) for _ in range(2)]
    writers = [threading.Thread(target=guarded, args=(write, part)) for part in range(4)]
    for thread in [*searchers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    running.clear()
    for thread in searchers:
        thread.join()
    assert [] == problems
    np.testing.assert_array_equal(data, index.get_items(range(1200)))


def test_a_brute_force_index_deletes_and_saves_as_hnswlib_does(tmp_path: Path) -> None:
    data = vectors(50, 2)
    index = BFIndex("l2", DIM)
    index.init_index(60)
    index.add_items(data)
    index.delete_vector(4)
    index.delete_vector(4)
    index.delete_vector(1000)
    assert (60, 49) == (index.get_max_elements(), index.get_current_count())
    assert 4 not in index.knn_query(data, k=49)[0]
    with pytest.raises(RuntimeError):
        index.knn_query(data, k=50)
    index.save_index(tmp_path / "brute")
    stored = (tmp_path / "brute").read_bytes()
    assert (60, 4 * DIM + 8, 49) == struct.unpack_from("<3Q", stored)
    assert 24 + 60 * (4 * DIM + 8) == len(stored)
    loaded = BFIndex("l2", DIM)
    loaded.load_index(tmp_path / "brute")
    for before, after in zip(index.knn_query(data, k=10), loaded.knn_query(data, k=10), strict=True):
        np.testing.assert_array_equal(before, after)
    for size in (0, 23, 24, len(stored) - 1):
        (tmp_path / "cut").write_bytes(stored[:size])
        with pytest.raises(VecdbError):
            loaded.load_index(tmp_path / "cut")
    with pytest.raises(RuntimeError, match="load it with its own dim"):
        BFIndex("l2", DIM + 1).load_index(tmp_path / "brute")
