"""
A transform in worker processes: items in, results out in the same order, never far ahead of what is used.

Workers are spawned, so that no lock or thread of this process is copied; each gets the transform once, when it starts. Ctrl-C reaches this
process alone: workers end with it. Thread rule: one thread per generator.
"""

from __future__ import annotations

import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from vecdb.errors import InvalidArgument

CHUNK = 32  # items that travel together
_AHEAD = 2  # chunks for each worker that are on their way or done

_transform: Callable[[Any], Any]
_stopped: Any


def check_picklable(transform: Callable[[Any], Any]) -> bytes:
    """
    Return the pickled transform; raises InvalidArgument when it cannot be sent to another process.
    """
    try:
        return pickle.dumps(transform)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidArgument(
            f"transform is {transform!r}, which cannot be sent to worker processes ({error}): use a function defined at the top of a "
            "module, or workers=0"
        ) from None


def transformed(items: Iterable[Any], pickled: bytes, workers: int) -> Iterator[Any]:
    """
    Yield transform(item) for each item, computed by so many processes.
    """
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(pickled, stop))
    source = iter(items)
    waiting: deque[Future[list[Any]]] = deque()
    try:
        while True:
            while len(waiting) < _AHEAD * workers and (chunk := list(islice(source, CHUNK))):
                waiting.append(pool.submit(_work, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process of upload ended before its work was done: a script that uses workers must start its own work under "
            "`if __name__ == '__main__':`, and the transform must be importable there"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _start(pickled: bytes, stopped: Any) -> None:
    """
    Begin a worker.
    """
    global _transform, _stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _transform = pickle.loads(pickled)
    _stopped = stopped


def _work(chunk: list[Any]) -> list[Any]:
    """
    Transform some items, in a worker; nobody wants the rest once it was stopped.
    """
    results: list[Any] = []
    for item in chunk:
        if _stopped.is_set():
            break
        results.append(_transform(item))
    return results
