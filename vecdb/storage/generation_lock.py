"""
Who reads a generation: each reader shares a lock on its first file of rows; a generation that CURRENT does not name goes when none does.

Invariant: whoever has the shared lock, on a generation that CURRENT named after that, finds all of its files; they are removed under the
lock taken alone. A reader that was killed has given its lock back. Thread rule: any thread.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable
from pathlib import Path

from vecdb.errors import StorageError
from vecdb.storage import files
from vecdb.storage.lock import SharedLock
from vecdb.storage.recovery import generation_directory, remove_tree, rows_path

logger = logging.getLogger("vecdb.storage")

_GENERATION = re.compile(r"gen-(\d+)")


def share_generation(root: Path) -> SharedLock | None:
    """
    Keep the files of a generation; None when they are being removed, or gone.
    """
    return SharedLock.take(rows_path(root, 0))


def remove_generation(root: Path) -> bool:
    """
    Remove the files of a generation that CURRENT does not name; False when a reader in another process has them.
    """
    try:
        fd = files.open_file(rows_path(root, 0))
    except StorageError as error:
        if error.errno != errno.ENOENT:
            raise
        remove_tree(root)  # made or removed in part: no reader can have it
        return True
    try:
        if not files.try_lock(fd):
            logger.info("%s is kept for a reader in another process, and goes with a later checkpoint or opening", root)
            return False
        remove_tree(root)
    finally:
        files.close(fd)
    return True


def remove_other_generations(directory: Path, generation: int) -> bool:
    """
    Remove what compactions have left, those they had replaced and one that was cut, unless a reader has it; return whether all is gone.
    REQUIRES: no compaction.
    """
    return _remove(directory, lambda number: number != generation)


def remove_older_generations(directory: Path, generation: int) -> bool:
    """
    Remove the generations that compactions have replaced, unless a reader has them; return whether all are gone.
    """
    return _remove(directory, lambda number: number < generation)


def _remove(directory: Path, goes: Callable[[int], bool]) -> bool:
    numbers = [int(found[1]) for name in files.list_directory(directory) if (found := _GENERATION.fullmatch(name))]
    gone = [remove_generation(generation_directory(directory, number)) for number in sorted(numbers) if goes(number)]
    return all(gone)
