"""
Files of a caller's own choosing, replaced whole: each is complete and synced beside its place before any of them is renamed.

Unlike a database's files these follow symbolic links and get the permissions that the process gives new files. Failures are both
StorageError and RuntimeError, since programs written for hnswlib catch the latter. Thread rule: any thread; two that replace one path
leave the file of either, whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vecdb.errors import StorageError
from vecdb.storage import files

_NO_LIMIT = 2**62


class IndexFileError(StorageError, RuntimeError):
    """
    A file of an index could not be read or written.
    """


def read_whole(path: Path, *, missing_ok: bool) -> bytes | None:
    """
    Return the content of a file; None when it is absent and may be.
    """
    with _as_runtime_error():
        target = path.resolve()
        if missing_ok and not files.exists(target):
            return None
        return files.read_file(target, _NO_LIMIT)


def replace_all(contents: Sequence[tuple[Path, files.Buffer | None]]) -> None:
    """
    Replace files in the given order; None removes one. All are written and synced before the first is replaced.

    After an error the old files stand, or, when a rename or the last sync failed, some of them.
    """
    with _as_runtime_error():
        targets = [(path.resolve(), data) for path, data in contents]
        asides: list[Path] = []
        try:
            renames: list[tuple[Path | None, Path]] = []
            for target, data in targets:
                if data is None:
                    renames.append((None, target))
                    continue
                aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
                asides.append(aside)
                _write(aside, data)
                renames.append((aside, target))
            for source, target in renames:
                if source is not None:
                    files.rename(source, target)
                    asides.remove(source)
                elif files.exists(target):
                    files.remove(target)
        except BaseException:
            for aside in asides:
                with suppress(StorageError):  # the first error is what the caller must hear of
                    files.remove(aside)
            raise
        for parent in {target.parent for target, _ in targets}:
            files.sync_directory(parent)


def _write(path: Path, data: files.Buffer) -> None:
    fd = files.system.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        files.write_at(fd, [data], 0)
        files.sync_data(fd)
    finally:
        files.system.close(fd)


@contextmanager
def _as_runtime_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure = IndexFileError(str(error))
        failure.errno = error.errno
        raise failure from error
