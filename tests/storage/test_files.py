"""
The seam: errors that say what to do, short writes, replacement as one step.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from storage_doubles import FaultySystem, FullDisk, ShortWrites, Stopped, World

from vecdb.errors import Corruption, StorageError
from vecdb.storage import files


def test_files_and_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    files.make_directory(tmp_path / "d")
    fd = files.create_file(tmp_path / "d" / "f")
    assert not os.get_inheritable(fd)
    files.close(fd)
    assert 0o700 == stat.S_IMODE((tmp_path / "d").stat().st_mode)
    assert 0o600 == stat.S_IMODE((tmp_path / "d" / "f").stat().st_mode)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "system", ShortWrites(7))
    fd = files.create_file(tmp_path / "f")
    pieces = [b"", b"abc", memoryview(bytes(range(30))), bytearray(b"end")]
    expected = b"".join(pieces)
    assert len(expected) == files.write_at(fd, pieces, 5)
    assert bytes(5) + expected == files.read_at(fd, 1000, 0)
    files.write_zeros(fd, 21, 0)
    assert bytes(21) == files.read_at(fd, 21, 0)
    files.close(fd)


def test_more_pieces_than_one_call_takes_are_written_in_order(tmp_path: Path) -> None:
    fd = files.create_file(tmp_path / "f")
    pieces = [bytes([i % 251]) * (i % 5) for i in range(3000)]
    files.write_at(fd, pieces, 0)
    files.close(fd)
    assert b"".join(pieces) == (tmp_path / "f").read_bytes()


def test_an_error_names_the_path_the_cause_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent.*No such file.*check the path") as caught:
        files.open_file(tmp_path / "absent")
    assert errno.ENOENT == caught.value.errno


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError, match="symbolic link"):
        files.read_file(tmp_path / "link", 10)
    assert not files.is_directory(tmp_path / "link")


def test_a_file_longer_than_its_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(11))
    assert bytes(11) == files.read_file(tmp_path / "f", 11)
    with pytest.raises(Corruption, match="more than 10 bytes"):
        files.read_file(tmp_path / "f", 10)


def test_a_mapped_file_shows_its_content_also_after_another_took_its_name(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for content in (b"", b"one", bytes(range(256)) * 100):
        files.replace_file(path, content)
        shown = files.map_file(path, len(content))
        files.replace_file(path, b"another")
        assert content == shown
        assert shown.readonly
        files.remove(path)


def test_what_cannot_be_mapped_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.replace_file(tmp_path / "f", bytes(11))
    with pytest.raises(Corruption, match="more than 10 bytes"):
        files.map_file(tmp_path / "f", 10)
    files.make_directory(tmp_path / "d")
    with pytest.raises(Corruption, match="regular file"):
        files.map_file(tmp_path / "d", 10)
    monkeypatch.setattr(files, "system", FaultySystem(at=0, error=errno.ENOMEM, sticky=False, names=("map",)))
    with pytest.raises(StorageError, match="cannot map"):
        files.map_file(tmp_path / "f", 11)


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    disk.full = True
    monkeypatch.setattr(files, "system", disk)
    fd = files.create_file(tmp_path / "f")
    with pytest.raises(StorageError, match="free space") as caught:
        files.write_at(fd, [b"x"], 0)
    assert errno.ENOSPC == caught.value.errno
    files.close(fd)


@pytest.mark.parametrize("sticky", [False, True])
def test_a_replacement_that_fails_anywhere_leaves_the_old_or_the_new_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sticky: bool
) -> None:
    path = tmp_path / "f"
    at = 0
    while True:
        files.replace_file(path, b"old")
        double = FaultySystem(at=at, error=errno.EIO, sticky=sticky)
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", double)
            failure: StorageError | None = None
            try:
                files.replace_file(path, b"new")
            except StorageError as error:
                failure = error
        if not double.failed:
            break
        assert failure is not None, f"call {at}, {double.failed[0]}, failed unnoticed"
        assert path.read_bytes() in (b"old", b"new")
        at += 1
    assert at > 6
    assert b"new" == path.read_bytes()
    assert ["f"] == files.list_directory(tmp_path)


def test_a_replacement_cut_anywhere_leaves_the_old_or_the_new_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    for stop in range(100):
        root = tmp_path / f"w{stop}"
        root.mkdir()
        world = World(root)
        monkeypatch.setattr(files, "system", world)
        files.replace_file(root / "f", b"old" * 400)
        world.stop_after = world.count + stop
        finished = True
        try:
            files.replace_file(root / "f", b"new" * 400)
        except Stopped:
            finished = False
        seen = set()
        for seed in range(8):
            copy = tmp_path / f"c{stop}-{seed}"
            world.after_cut(copy, random.Random(seed))
            seen.add((copy / "f").read_bytes()[:3])
        assert seen <= ({b"new"} if finished else {b"old", b"new"}), f"stopped after {stop} calls"
        if finished:
            break
    assert finished


def test_a_lock_is_exclusive_and_can_be_given_back(tmp_path: Path) -> None:
    first = files.open_or_create_file(tmp_path / "f")
    second = files.open_or_create_file(tmp_path / "f")
    assert files.try_lock(first)
    assert not files.try_lock(second)
    files.unlock(first)
    assert files.try_lock(second)
    assert files.is_at(first, tmp_path / "f")
    files.remove(tmp_path / "f")
    assert not files.is_at(first, tmp_path / "f")
    files.close(first)
    files.close(second)
