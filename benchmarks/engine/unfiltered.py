"""
No filter: the curves of recall against speed, and the ratios to stock where both have the same recall.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import report
from .collection import CollectionEngine
from .curves import Sample, ladder, qps_at, ratio
from .peers import EFS, Peer
from .report import Table
from .session import Session

_LARGEST_EF = 4000
_NEARLY_ALL = 0.9975


def measure(
    session: Session, k: int, collection: CollectionEngine | None, peers: Sequence[Peer]
) -> tuple[list[Table], dict[str, list[Sample]]]:
    """
    Return the table of ratios, the table of samples, and the curves by engine.
    """
    cell = session.unfiltered(k)
    asked = session.asked(cell)
    known = session.truth(cell, k)
    recall_of = session.recall_of(cell, known)
    curves: dict[str, list[Sample]] = {"vecdb core": [], "stock hnswlib": []}
    default = session.core.run(asked, k)
    for ef in ladder(k, max(_LARGEST_EF, 10 * k)):
        run = session.core.run(asked, k, ef=ef)
        curves["vecdb core"].append(Sample(ef, recall_of(run), run.qps))
        if curves["vecdb core"][-1].recall >= _NEARLY_ALL:
            break
    curves["stock hnswlib"] = session.stock.curve(asked, k, recall_of)
    score = session.score(cell, known, default.found)
    plan = session.core.plan(cell, asked.files, k)
    name = f"{session.data.name}: unfiltered, k={k}, {len(session.data.rows):,} x {session.data.dim}"
    ratios = Table(name, ["recall", "core q/s", "stock q/s", "core / stock"])
    for recall in (0.9, 0.95, 0.99):
        ours, theirs = qps_at(curves["vecdb core"], recall), qps_at(curves["stock hnswlib"], recall)
        ratios.add(str(recall), ours, theirs, None if ours is None else ratio(ours, theirs))
    theirs = qps_at(curves["stock hnswlib"], score.mean)
    ratios.add(f"default: {report.recall(score.mean)}", default.qps, theirs, ratio(default.qps, theirs))
    ratios.notes = [
        f"default: {plan.strategy} ef={plan.ef}, 5th percentile {report.recall(score.p5)}, short {score.short:.4f}, "
        f"p50 {default.p50_us:.0f} us, p99 {default.p99_us:.0f} us"
    ]
    budget = session.settings.budget
    if collection is not None:
        timed = collection.run(cell, k, budget=budget, passes=session.settings.passes)
        curves["Collection.knn"] = [Sample(0, session.score(cell, known, timed.found).mean, timed.qps)]
    for peer in peers:
        curves[peer.name] = []
        for ef in EFS if peer.has_ef else (0,):
            if ef:
                peer.set_ef(max(ef, k))
            timed = peer.run(cell, k, budget=budget, passes=session.settings.passes)
            curves[peer.name].append(Sample(ef, session.score(cell, known, timed.found).mean, timed.qps))
    samples = Table(f"{name}: samples", ["engine", "ef", "recall", "q/s"])
    for engine, curve in curves.items():
        for one in curve:
            samples.add(engine, one.ef if one.ef else "default", report.recall(one.recall), one.qps)
    return [ratios, samples], curves
