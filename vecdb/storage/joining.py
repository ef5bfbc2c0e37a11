"""
Calls that became durable together, joined: applying a call has a price of its own, which is that of some twenty points.

Invariant: applying what `joined` yields, in order, leaves what applying the calls one by one leaves. Only calls that put points are joined,
and none that touches a point of the same run. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vecdb.storage.effects import Effects, FieldRows

# Beyond this, copying the rows costs more than applying them apart.
MOST_POINTS = 1024


def joined(calls: Sequence[tuple[int, Effects]]) -> Sequence[tuple[int, Effects]]:
    """
    Return calls, given with their LSNs in order, with runs of them as one call, which has the LSN of its last.
    """
    return calls if len(calls) < 2 else list(_joined(calls))


def _joined(calls: Iterable[tuple[int, Effects]]) -> Iterator[tuple[int, Effects]]:
    run: list[Effects] = []
    last = points = 0
    for lsn, effects in calls:
        points += len(effects.put_ids)
        if run and (points > MOST_POINTS or not _continues(run[0], effects)):
            yield last, _join(run)
            run, points = [], len(effects.put_ids)
        run.append(effects)
        last = lsn
    if run:
        yield last, _join(run)


def _continues(first: Effects, effects: Effects) -> bool:
    if not (_only_puts(first) and _only_puts(effects)) or first.put_vectors.keys() != effects.put_vectors.keys():
        return False
    return len(effects.tombstones) == 0 or int(effects.tombstones[-1]) < first.first_offset


def _only_puts(effects: Effects) -> bool:
    if effects.deleted_ids or len(effects.patch_offsets):
        return False
    return all(given.positions is None for given in effects.put_vectors.values())


def _join(run: Sequence[Effects]) -> Effects:
    first = run[0]
    if len(run) == 1:
        return first
    return Effects(
        first.first_offset,
        [one for effects in run for one in effects.put_ids],
        [payload for effects in run for payload in effects.put_payloads],
        {field: FieldRows(None, np.concatenate([effects.put_vectors[field].rows for effects in run])) for field in first.put_vectors},
        np.sort(np.concatenate([effects.tombstones for effects in run])),
    )
