"""
The structure of points.lmdb, checked without LMDB: damaged pages could end the process that LMDB reads them in.

lmdb's own verifier walks the bytes in Python: page numbers, types, bounds, order of keys, counters, loops, the list of free pages. What the
values hold is for their checksums. Thread rule: any thread; the file must not change meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb.verify

from vecdb.errors import Corruption, StorageError

_pages: Any = lmdb.verify


def page_problems(path: Path) -> list[str]:
    """
    Return what is wrong with the pages of an LMDB file; nothing when LMDB can read it safely.
    """
    try:
        return [f"{path}: {found}" for found in _pages.verify(str(path), subdir=False)]
    except _pages.VerifyError as error:
        return [f"{path}: {error}"]
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}; check the medium and the permissions of the file") from error


def check_pages(path: Path) -> None:
    """
    Raise Corruption when LMDB could not read the file safely.
    """
    found = page_problems(path)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise Corruption(f"{found[0]}{more}; restore a backup of the database, or open it with salvage=True")
