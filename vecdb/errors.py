"""
The exceptions of vecdb, one class for each thing a caller may do about a failure.

Every message says what was seen, what was expected and what to do. `error_for_status` maps the core's status codes; its table is built
from the classes, so that a code is declared once, beside the class it belongs to.
"""

from __future__ import annotations

from typing import ClassVar


class VecdbError(Exception):
    """
    The base of all errors that vecdb raises on purpose.
    """

    status: ClassVar[int]


class InvalidArgument(VecdbError, ValueError):
    """
    An argument is wrong; nothing was changed.
    """

    status = 1


class InvalidFilter(InvalidArgument):
    """
    A filter is wrong; the message names the path into it.
    """


class NotFound(VecdbError, KeyError):
    """
    A point, collection or label does not exist.
    """

    status = 2

    def __str__(self) -> str:
        """
        Return the message as it is, not its repr as KeyError does.
        """
        return str(self.args[0]) if self.args else ""


class Corruption(VecdbError):
    """
    Stored bytes are not what was written.
    """

    status = 3


class StorageError(VecdbError, OSError):
    """
    The file system or the medium refused.
    """

    status = 4


class OutOfMemory(VecdbError, MemoryError):
    """
    Memory for the call could not be had; nothing was changed.
    """

    status = 5


class CapacityExceeded(VecdbError, RuntimeError):
    """
    A fixed limit is reached, such as max_elements of `vecdb.hnsw.Index`.
    """

    status = 6


class InternalError(VecdbError, RuntimeError):
    """
    An invariant of the library does not hold; please report it.
    """

    status = 7


class AlreadyExists(VecdbError):
    """
    A point, collection or database exists already.
    """


class Locked(StorageError):
    """
    Another process writes this database.
    """


class MissingDatabase(StorageError, FileNotFoundError):
    """
    A database that was to be read is not there.
    """


class Closed(VecdbError):
    """
    The handle was closed.
    """


class ReadOnly(VecdbError):
    """
    The handle cannot write: it was opened read-only, or a failed write made it so.
    """


class Forked(VecdbError):
    """
    The handle belongs to the process before a fork.
    """


def _classes(base: type[VecdbError]) -> list[type[VecdbError]]:
    return [base, *(found for child in base.__subclasses__() for found in _classes(child))]


_BY_STATUS: dict[int, type[VecdbError]] = {kind.status: kind for kind in _classes(VecdbError) if "status" in vars(kind)}


def error_for_status(status: int, message: str) -> VecdbError:
    """
    Return the exception for a status code of the core.

    >>> error_for_status(1, "dim is 3, expected 4")
    InvalidArgument('dim is 3, expected 4')
    """
    return _BY_STATUS.get(status, InternalError)(message)
