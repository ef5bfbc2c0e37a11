"""
The writer's lock: one holder, named; a forked child neither keeps nor releases it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vecdb.errors import Locked
from vecdb.storage.lock import WriterLock

HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
os.pwrite(fd, f"{os.getpid()}\\n".encode(), 0)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_held_by_another_process_names_path_and_process(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "LOCK"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert b"held\n" == holder.stdout.readline()
        with pytest.raises(Locked, match=f"{tmp_path}.*process {holder.pid};"):
            WriterLock.acquire(tmp_path, timeout=0.02)
    finally:
        holder.communicate()
    lock = WriterLock.acquire(tmp_path, timeout=0)
    assert f"{os.getpid()}" == (tmp_path / "LOCK").read_text().strip()
    lock.release()


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    first = WriterLock.acquire(tmp_path, timeout=0)
    with pytest.raises(Locked, match="this process"):
        WriterLock.acquire(tmp_path, timeout=0)
    timer = threading.Timer(0.05, first.release)
    timer.start()
    second = WriterLock.acquire(tmp_path, timeout=30)
    timer.join()
    assert second.held
    assert not first.held
    second.release()
    second.release()


def test_a_forked_child_neither_keeps_nor_releases_the_lock(tmp_path: Path) -> None:
    lock = WriterLock.acquire(tmp_path, timeout=0)
    to_child, child_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            was_held = lock.held
            lock.release()
            os.close(child_end)
            os.read(to_child, 1)
            status = int(was_held)
        finally:
            os._exit(status)
    os.close(to_child)
    with pytest.raises(Locked):
        WriterLock.acquire(tmp_path, timeout=0)
    lock.release()
    WriterLock.acquire(tmp_path, timeout=0).release()
    os.close(child_end)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lock_file_that_is_not_a_process_id_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "LOCK").write_bytes(b"\xff" * 200)
    fd = os.open(tmp_path / "LOCK", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(Locked, match="another process"):
        WriterLock.acquire(tmp_path, timeout=0)
    os.close(fd)
    lock = WriterLock.acquire(tmp_path, timeout=0)
    assert f"{os.getpid()}\n" == (tmp_path / "LOCK").read_text(errors="replace")[:64].rstrip(" ")
    lock.release()
