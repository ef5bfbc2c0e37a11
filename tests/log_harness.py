"""
A small log with a model beside it, for the tests of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vecdb.storage import segment_file, wal
from vecdb.storage.wal import Log, Ticket

UUID = bytes(range(16))
GENERATION = 3


def small_segments(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """
    Let segments begin with `size` bytes, so that a test sees many of them.
    """
    for module in (segment_file, wal):
        monkeypatch.setattr(module, "SMALLEST", size)


def create_log(directory: Path) -> None:
    Log.create(directory, uuid=UUID, generation=GENERATION, first_lsn=1)


@dataclass
class Opened:
    """
    An open log, what it replayed, and what it applied since.
    """

    log: Log
    replayed: list[tuple[int, bytes]]
    applied: list[tuple[int, object]] = field(default_factory=list)

    def write(self, *pieces: bytes) -> int:
        """
        Write a call and return its LSN.
        """
        ticket = self.log.enqueue(pieces, payload=b"".join(pieces))
        self.log.wait(ticket)
        return ticket.lsn

    def prepare(self, tickets: Sequence[Ticket]) -> Callable[[], None]:
        def apply() -> None:
            self.applied += [(ticket.lsn, ticket.payload) for ticket in tickets]

        return apply


def open_log(directory: Path, *, applied_lsn: int = 0, clean_lsn: int = 0, durability: str = "fsync", writable: bool = True) -> Opened:
    replayed: list[tuple[int, bytes]] = []
    log = Log.open(
        directory,
        uuid=UUID,
        generation=GENERATION,
        applied_lsn=applied_lsn,
        clean_lsn=clean_lsn,
        replay=lambda lsn, body: replayed.append((lsn, bytes(body))),
        durability=durability,
        writable=writable,
    )
    log.spares.wanted = log.spares.make  # at once, so that every run of a test makes the same calls
    opened = Opened(log, replayed)
    log.prepare = opened.prepare
    return opened


def read_log(directory: Path, *, applied_lsn: int = 0, clean_lsn: int = 0) -> list[tuple[int, bytes]]:
    """
    Return what a log replays, without changing it.
    """
    opened = open_log(directory, applied_lsn=applied_lsn, clean_lsn=clean_lsn, writable=False)
    opened.log.close(clean=False)
    return opened.replayed


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def body(number: int, size: int = 60) -> bytes:
    """
    Return the bytes of call `number`: no byte of them is zero.
    """
    return (b"call %d;" % number * (size // 6 + 1))[:size]
