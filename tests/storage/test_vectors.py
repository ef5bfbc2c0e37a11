"""
The rows of a field: room before writing, checksums of what was applied, a failed sync that stays failed.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecdb._crc import crc32c
from vecdb.errors import Corruption, InternalError, StorageError
from vecdb.storage import files
from vecdb.storage.base_state import RowState
from vecdb.storage.vectors import BLOCK_BYTES, RowFile, rows_per_block

EMPTY = RowState(0, 0)


def make(tmp_path: Path, dim: int) -> RowFile:
    RowFile.create(tmp_path / "0.f32")
    return RowFile.open(tmp_path / "0.f32", dim=dim, state=EMPTY)


def vectors(count: int, dim: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def seen(rows: RowFile) -> tuple[int, list[int]]:
    """
    Return the checksum of the rows behind the last whole block, and those of the blocks since this was asked last.
    """
    frozen = rows.freeze()
    return frozen.state.partial_crc, frozen.new_sums.tolist()


@pytest.mark.parametrize("dim", [1, 2, 3, 100, 128, 384, 1536, 4096, 16384, 16385, 65536])
def test_a_block_is_the_largest_power_of_two_of_rows_that_fits(dim: int) -> None:
    rows = rows_per_block(dim)
    assert rows & (rows - 1) == 0
    assert rows == 1 or rows * dim * 4 <= BLOCK_BYTES
    assert rows * 2 * dim * 4 > BLOCK_BYTES


@pytest.mark.parametrize("dim", [3, 128, 20000])
def test_checksums_are_those_of_the_blocks_however_the_rows_came(tmp_path: Path, dim: int, rng: random.Random) -> None:
    rows = make(tmp_path, dim)
    block = rows_per_block(dim)
    everything = []
    sums: list[int] = []
    while len(everything) < 10:
        count = rng.choice([1, 2, block - 1, block, block + 1, 2 * block + 3]) if block > 1 else rng.randrange(1, 4)
        part = vectors(count, dim, seed=len(everything))
        rows.reserve(rows.rows + count)
        rows.append(part)
        everything.append(part)
        if rng.random() < 0.5:
            frozen = rows.freeze()
            assert len(sums) == frozen.first_block
            sums += frozen.new_sums.tolist()
    frozen = rows.freeze()
    sums += frozen.new_sums.tolist()
    data = np.concatenate(everything)
    expected = [crc32c(data[i : i + block].tobytes()) for i in range(0, len(data) - len(data) % block, block)]
    assert expected == sums
    assert RowState(len(data), crc32c(data[len(data) - len(data) % block :].tobytes())) == frozen.state
    assert data.tobytes() == (tmp_path / "0.f32").read_bytes()[: data.nbytes]
    rows.close()
    reopened = RowFile.open(tmp_path / "0.f32", dim=dim, state=frozen.state)
    more = vectors(block + 1, dim, seed=99)
    reopened.reserve(reopened.rows + len(more))
    reopened.append(more)
    data = np.concatenate([data, more])
    frozen = reopened.freeze()
    expected = [crc32c(data[i : i + block].tobytes()) for i in range(0, len(data) - len(data) % block, block)]
    assert expected[frozen.first_block :] == frozen.new_sums.tolist()
    reopened.close()


def test_room_is_made_of_written_zeros_and_in_steps(tmp_path: Path) -> None:
    rows = make(tmp_path, 4)
    rows.reserve(1)
    first = rows.size
    assert 16 <= first == (tmp_path / "0.f32").stat().st_size
    assert bytes(first) == (tmp_path / "0.f32").read_bytes()
    assert (tmp_path / "0.f32").stat().st_blocks * 512 >= first
    rows.reserve(first // 16)
    assert first == rows.size
    rows.reserve(first // 16 + 1)
    assert rows.size > first
    rows.close()


def test_rows_without_room_are_an_error_of_the_library(tmp_path: Path) -> None:
    rows = make(tmp_path, 4)
    with pytest.raises(InternalError, match="do not fit"):
        rows.append(vectors(1, 4))
    rows.reserve(10)
    with pytest.raises(InternalError, match="do not fit"):
        rows.append(vectors(1, 5))
    rows.append(vectors(0, 4))
    assert 0 == rows.rows
    rows.close()


def test_rows_written_ahead_count_when_they_are_appended(tmp_path: Path) -> None:
    rows, block = make(tmp_path, 128), rows_per_block(128)
    rows.reserve(3 * block)
    first, second = vectors(block + 1, 128, seed=1), vectors(2, 128, seed=2)
    rows.write_ahead([first, vectors(0, 128), second])
    data = np.concatenate([first, second]).tobytes()
    assert data == (tmp_path / "0.f32").read_bytes()[: len(data)]
    assert (0, 0, []) == (rows.rows, *seen(rows))
    rows.append(first)
    assert (block + 1, crc32c(first[block:].tobytes()), [crc32c(first[:block].tobytes())]) == (rows.rows, *seen(rows))
    rows.append(second)
    assert (block + 3, crc32c(data[block * 512 :]), []) == (rows.rows, *seen(rows))
    rows.close()


def test_rows_written_ahead_and_not_appended_are_written_over(tmp_path: Path) -> None:
    rows = make(tmp_path, 4)
    rows.reserve(10)
    first, second, third = vectors(1, 4, seed=1), vectors(2, 4, seed=2), vectors(3, 4, seed=3)
    rows.write_ahead([first, second])
    rows.write_ahead([second, third])
    rows.append(second)
    rows.append(first)  # another one than was said
    rows.append(third)
    data = np.concatenate([second, first, third]).tobytes()
    assert data == (tmp_path / "0.f32").read_bytes()[: len(data)]
    assert (6, crc32c(data), []) == (rows.rows, *seen(rows))
    rows.close()


def test_a_full_disk_is_met_before_anything_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make(tmp_path, 4)

    class Full(files.System):
        def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Full())
        with pytest.raises(StorageError, match="free space"):
            rows.reserve(10)
        assert 0 == rows.size
    rows.reserve(10)
    rows.append(vectors(10, 4))
    rows.close()


def test_a_failed_sync_is_never_called_durable_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make(tmp_path, 4)
    rows.reserve(1)
    rows.append(vectors(1, 4))

    class Failing(files.System):
        def sync_data(self, fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Failing())
        with pytest.raises(StorageError):
            rows.sync()
    with pytest.raises(StorageError):
        rows.sync()
    rows.close()


def test_a_file_that_is_not_what_was_written_is_corruption(tmp_path: Path) -> None:
    rows = make(tmp_path, 128)
    data = vectors(130, 128)
    rows.reserve(130)
    rows.append(data)
    state = rows.freeze().state
    rows.close()
    path = tmp_path / "0.f32"
    with pytest.raises(Corruption, match=r"rows? 128 to 129"):
        RowFile.open(path, dim=128, state=RowState(130, state.partial_crc ^ 1))
    with pytest.raises(Corruption, match="expected at least"):
        RowFile.open(path, dim=128, state=RowState(10_000, 0))
    path.unlink()
    with pytest.raises(Corruption, match="is missing"):
        RowFile.open(path, dim=128, state=state)
