"""
Verification of a live collection: its files, its core, and that the two describe the same points.

Invariant: nothing is changed; what is wrong is listed and never raised. Thread rule: any thread; a compaction waits meanwhile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecdb._progress import progress_bar
from vecdb._state import CollectionState
from vecdb.storage.codec import decode_payload
from vecdb.storage.findings import Findings
from vecdb.types import Report

_BLOCK = 4096


def verify(state: CollectionState, *, progress: bool) -> Report:
    """
    Check a collection; see `Collection.verify`.
    """
    findings = Findings()
    # Held: what would take the files away, a compaction or the end of the collection, waits.
    with state.compacting, state.declared.unchanged(), progress_bar(2 * state.store.live_count, "verify", shown=progress) as advance:
        state.check_open()

        def done(count: int) -> None:
            state.check_open()
            advance(count)

        state.store.verify(findings, done)
        with findings.collecting():
            state.core.verify()
        offsets = state.core.select()[0] if findings.readable else np.empty(0, np.uint32)
        for start in range(0, len(offsets), _BLOCK):
            with findings.collecting():
                _compare(state, offsets[start : start + _BLOCK], findings)
            done(len(offsets[start : start + _BLOCK]))
        with findings.collecting():
            _count(state, findings)
        for field in state.fields:
            report = state.core.check_graph(field.number)
            findings.counts["graph nodes"] += report.nodes
            if report.unreachable:
                findings.note(f"{report.unreachable} vectors of field {field.number} have no path in its graph yet; workers link them")
    return Report(state.name, *findings.finish())


def _compare(state: CollectionState, offsets: NDArray[np.uint32], findings: Findings) -> None:
    """
    Compare what core and store say of offsets that lived a moment ago.
    """

    def read() -> list[str]:
        listed = offsets.tolist()
        payloads = state.store.payloads_of(listed)
        ids = state.core.get_ids(offsets)
        leads = state.store.offsets_of(ids)
        wrong = []
        for offset, payload, one, found in zip(listed, payloads, ids, leads, strict=True):
            if payload is None:
                continue  # died meanwhile
            if found != offset:
                wrong.append(f"the core has the id {one!r} at offset {offset}, the store at {found}")
            decode_payload(payload)
        return wrong

    for problem in state.whole(read):
        findings.problem(problem)


def _count(state: CollectionState, findings: Findings) -> None:
    stored, live, offsets, next_offset = state.whole(
        lambda: (state.store.live_count, state.core.stats().live, state.core.stats().offsets, state.store.next_offset)
    )
    if (stored, next_offset) != (live, offsets):
        findings.problem(f"the store has {stored} points and {next_offset} offsets, the core {live} and {offsets}")
    findings.counts["points"] = stored
