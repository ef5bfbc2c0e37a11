"""
The cells: vecdb's core at its default settings, beside its own exact scan, stock hnswlib at equal recall, and Python's choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import report
from .cells import Spec
from .collection import CollectionEngine, Timed
from .curves import Sample, qps_at, ratio
from .filters import Cell, CellMaker
from .peers import EFS, Peer
from .report import Table, Value
from .session import Session
from .truth import Truth

GOAL = 0.95
# Stock is not asked for more than this: its curve ends in exhaustive search, where a ratio says nothing about graphs.
MOST_EQUAL = 0.99


class Rivals(NamedTuple):
    """
    Who is measured beside the core, and in which cells.
    """

    collection: CollectionEngine | None
    peers: Sequence[Peer]
    stock_in: Callable[[Spec], bool]
    python_in: Callable[[Spec], bool]


def header(rivals: Rivals) -> list[str]:
    """
    Return the columns.
    """
    own = ["cell", "filters", "plan", "recall", "p5", "short", "core q/s", "p99/p50", "x exact", "x scan"]
    links = ["linked", "links s", "links B/pt"]
    stock = ["stock q/s .95", "x .95", "stock recall", "x equal"]
    return [*own, *links, *stock, "knn q/s", *(f"{peer.name} q/s" for peer in rivals.peers)]


def empty_table(session: Session, rivals: Rivals) -> Table:
    """
    Return the table that `measure` fills.
    """
    table = Table(f"{session.data.name}: filtered, {len(session.data.rows):,} x {session.data.dim}", header(rivals))
    table.notes = [
        "core q/s at default settings; x exact: to its own exact=True; x scan: to its default search without a graph",
        f"linked: tags that got links ({session.settings.links}), the seconds of one thread and the bytes a point they took",
        f"x .95 and x equal: to stock hnswlib in C++ where its recall is .95 or the core's (at most {MOST_EQUAL})",
        "the recall of Python's rows follows their speed where it is below .95",
    ]
    return table


def measure(session: Session, specs: Sequence[Spec], rivals: Rivals, table: Table) -> None:
    """
    Measure the cells, printing each as it is done.
    """
    session.scanner.fill()
    maker = CellMaker(session.data)
    print(report.line(table, list(table.header)))
    for spec in specs:
        table.add(*_cell(session, maker.make(spec), rivals, table.notes))
        print(report.line(table, table.rows[-1]), flush=True)
    table.notes += session.faults


def _cell(session: Session, cell: Cell, rivals: Rivals, notes: list[str]) -> list[Value]:
    spec, settings = cell.spec, session.settings
    asked = session.asked(cell)
    known = session.truth(cell, spec.k)
    for core in (session.core, session.scanner):
        core.attach(cell, asked.files)
    links = session.core.settle(asked, spec.k, settings.links)
    ours = session.core.run(asked, spec.k)
    score = session.score(cell, known, ours.found)
    scan = session.scanner.run(asked, spec.k)
    exact = session.core.run(asked._replace(passes=1), spec.k, exact=True)
    exactness = session.score(cell, known, exact.found).mean
    if exactness < 1:
        notes.append(f"FAULT in {spec.name}: exact=True has recall {exactness}")
    plan = session.core.plan(cell, asked.files, spec.k)
    for core in (session.core, session.scanner):
        core.detach()
    row: list[Value] = [spec.name, max(1, len(cell.programs)), f"{plan.strategy} {plan.ef}" if plan.ef else plan.strategy]
    row += [report.recall(score.mean), report.recall(score.p5), score.short, ours.qps, ours.p99_us / ours.p50_us]
    row += [ours.qps / exact.qps, ours.qps / scan.qps]
    row += [links.tags, links.seconds, links.bytes / len(session.data.rows)] if links.tags else [None] * 3
    if rivals.stock_in(spec):
        equal = min(score.mean, MOST_EQUAL)
        recall_of = session.recall_of(cell, known)
        samples = session.stock.curve_to(asked, spec.k, recall_of, target=max(GOAL, equal), budget=settings.budget)
        at_goal = qps_at(samples, GOAL)
        row += [
            at_goal,
            ratio(ours.qps, at_goal),
            report.recall(max(one.recall for one in samples)),
            ratio(ours.qps, qps_at(samples, equal)),
        ]
    else:
        row += [None] * 4
    if not rivals.python_in(spec):
        return row + [None] * (1 + len(rivals.peers))
    row.append(_collection(session, cell, known, rivals.collection, notes))
    for peer in rivals.peers:
        peer.prepare(cell)
        row.append(_speed(_best(session, cell, known, peer)))
    return row


def _collection(session: Session, cell: Cell, known: Truth, engine: CollectionEngine | None, notes: list[str]) -> Value:
    if engine is None:
        return None
    why_not = engine.attach(cell)
    if why_not is not None:
        notes.append(f"Collection.knn is left out of {cell.spec.name}: {why_not}")
        return None
    timed = engine.run(cell, cell.spec.k, budget=session.settings.budget, passes=session.settings.passes)
    return _speed(_sample(session, cell, known, timed, 0))


def _best(session: Session, cell: Cell, known: Truth, peer: Peer) -> Sample:
    """
    Return the peer at the least beam width that reaches the goal, or at its best recall.
    """
    best = Sample(0, -1.0, 0.0)
    for ef in EFS if peer.has_ef else (0,):
        if ef:
            peer.set_ef(max(ef, cell.spec.k))
        timed = peer.run(cell, cell.spec.k, budget=session.settings.budget / 2, passes=1)
        best = max(best, _sample(session, cell, known, timed, ef), key=lambda one: (one.recall, one.qps))
        if best.recall >= GOAL:
            break
    return best


def _sample(session: Session, cell: Cell, known: Truth, timed: Timed, ef: int) -> Sample:
    return Sample(ef, session.score(cell, known, timed.found).mean, timed.qps)


def _speed(sample: Sample) -> Value:
    return sample.qps if sample.recall >= GOAL else f"{report.shown(sample.qps)} ({sample.recall:.2f})"
