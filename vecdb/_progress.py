"""
Progress of a long call, shown by tqdm where it was asked for.

tqdm is not needed otherwise, and imported only then. Thread rule: one thread a bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vecdb._convert import flag
from vecdb.errors import InvalidArgument


def check_progress(progress: object) -> bool:
    """
    Return whether progress is to be shown; raises InvalidArgument for what is no bool, and where tqdm is missing.
    """
    shown = flag(progress, "progress")
    if shown:
        try:
            import tqdm.auto  # noqa: F401
        except ImportError:
            raise InvalidArgument("progress=True needs the package tqdm: install it (pip install tqdm), or leave progress out") from None
    return shown


@contextmanager
def progress_bar(total: int | None, what: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """
    Yield what is to be called with how many more are done.
    """
    if not shown:
        yield lambda count: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=what, unit="points") as bar:
        yield bar.update
