"""
What searches stand on: scanning against reading, building, memory, and how long the slowest searches take.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import report
from .cells import Spec
from .collection import CollectionEngine, python_latencies
from .filters import CellMaker
from .report import Table
from .session import Session

_SCANNED_TOGETHER = 8
_BUILD_EF = 100
_READS = 20
_LINKED_SHARES = (0.2, 0.1, 0.05, 0.02)
_LATENCY_SECONDS = 10
_GIGA = 1e9


def scan(session: Session) -> Table:
    """
    Compare the exact scan of everything with reading as many bytes, and eight queries a pass with one.
    """
    data, settings = session.data, session.settings
    queries = min(len(data.queries), 8 * _SCANNED_TOGETHER)
    asked = session.asked(session.unfiltered(10))
    read = session.stock.driver.call("read", bytes=data.rows.nbytes, passes=_READS, cpu=settings.cpu)
    # The best pass: what the machine can do.
    plain = data.rows.nbytes / min(read["pass_seconds"]) / _GIGA
    session.scanner.fill()
    sizes = {"f32": data.rows.nbytes, "codes": session.scanner.stats()["code_bytes"]}
    table = Table(f"{data.name}: exact scan of {len(data.rows):,} x {data.dim}, one thread", ["what", "q/s", "GB/s", "share of reading"])
    table.add("plain read", None, plain, 1.0)
    for name, size in sizes.items():
        if not size:
            table.notes.append(f"left out: {name}; this core keeps none")
            continue
        single = session.scanner.run(asked, 10, exact=name == "f32", queries=queries)
        together = session.scanner.run(asked, 10, exact=name == "f32", batch=_SCANNED_TOGETHER, queries=queries)
        scanned = single.qps * size / _GIGA
        table.add(f"{name}, one query a pass", single.qps, scanned, scanned / plain)
        table.add(f"{name}, {_SCANNED_TOGETHER} queries a pass", together.qps, None, None)
        table.notes.append(f"{name}: {_SCANNED_TOGETHER} queries a pass are {together.qps / single.qps:.2f} times as fast as one by one")
    return table


def build(session: Session, threads: Sequence[int]) -> Table:
    """
    Compare points per second until all are in the graph, and what the graphs find at one beam width.
    """
    data = session.data
    cell = session.unfiltered(10)
    asked = session.asked(cell)
    known = session.truth(cell, 10)
    columns = ["engine", "threads", "points/s", "x stock", f"recall, ef {_BUILD_EF}", "q/s"]
    table = Table(f"{data.name}: building {len(data.rows):,} x {data.dim}", columns)
    # One thread last: that graph stays for the other parts.
    for count in sorted(threads, reverse=True):
        theirs = len(data.rows) / session.stock.build(count)
        ours = len(data.rows) / session.core.build(count)
        samples = session.stock.at(asked, 10, session.recall_of(cell, known), _BUILD_EF)
        table.add("stock hnswlib", count, theirs, 1.0, report.recall(samples.recall), samples.qps)
        run = session.core.run(asked, 10, ef=_BUILD_EF)
        table.add("vecdb core", count, ours, ours / theirs, report.recall(session.score(cell, known, run.found).mean), run.qps)
    return table


def links(session: Session) -> Table:
    """
    Compare linking tags with building the graph, one thread: those tags that the core links of its own accord when all are searched, within
    its budget of memory, or all that are worth it, where an index asks for them.
    """
    data, core = session.data, session.core
    built = core.build(1)
    columns = ["cell", "tags", "linked", "members a point", "seconds", "us a member", "x build", "recall", "q/s"]
    table = Table(f"{data.name}: links of tags beside the build of {len(data.rows):,} x {data.dim}, which took {built:.1f} s", columns)
    table.notes = [f"why tags got links: {session.settings.links}"]
    maker = CellMaker(data)
    for share in _LINKED_SHARES:
        cell = maker.make(Spec(share, "tag", "none", 10))
        asked = session.asked(cell)
        core.attach(cell, asked.files)
        linked, seconds = -1, 0.0
        # Until searches make it link no more.
        while (seen := core.settle(asked, cell.spec.k, session.settings.links)).tags != linked:
            linked = seen.tags
            seconds += seen.seconds
        run = core.run(asked, cell.spec.k)
        core.detach()
        recall = report.recall(session.score(cell, session.truth(cell, cell.spec.k), run.found).mean)
        members = linked * sum(len(one) for one in cell.tags.values()) / len(cell.tags)
        each = seconds * 1e6 / members if members else None
        table.add(cell.spec.name, len(cell.tags), linked, members / len(data.rows), seconds, each, seconds / built, recall, run.qps)
    return table


def memory(session: Session, collection: CollectionEngine | None) -> Table:
    """
    Compare bytes a point, by part.
    """
    points = len(session.data.rows)
    table = Table(f"{session.data.name}: bytes a point", ["engine", "part", "bytes a point"])
    stats = session.core.stats()
    parts = {name: value for name, value in stats.items() if name.endswith("_bytes")}
    for name, value in parts.items():
        table.add("vecdb core", name.removesuffix("_bytes"), value / points)
    table.add("vecdb core", "all", sum(parts.values()) / points)
    table.add("stock hnswlib", "all (heap)", session.stock.heap_bytes() / points)
    table.add("stock hnswlib", "of these: vectors", session.data.rows.nbytes / points)
    if collection is not None:
        for name, size in collection.bytes().items():
            table.add("Collection", name, size / points)
    return table


def latency(session: Session, *, k: int, with_python: bool, seconds: int = _LATENCY_SECONDS) -> Table:
    """
    Measure the slowest searches, idle and beside a thread that inserts at full speed; half of the points are there before.
    """
    data = session.data
    half = len(data.rows) // 2
    queries = session.directory / "queries"
    first, rest = session.write("first_half", data.rows[:half]), session.write("second_half", data.rows[half:])
    table = Table(
        f"{data.name}: single searches of {half:,} points, k={k}",
        ["where", "beside", "p50 us", "p99 us", "max us", "x idle p99", "inserted/s"],
    )
    session.core.create(threads=1)
    session.core.driver.call("add", rows=first)
    session.core.driver.call("wait")
    idle = session.core.driver.call("latency", queries=queries, k=k, seconds=seconds)
    busy = session.core.driver.call("latency", queries=queries, k=k, seconds=seconds, rows=rest)
    table.add("core", "nothing", idle["p50_us"], idle["p99_us"], idle["max_us"], 1.0, None)
    took = busy["seconds"]
    table.add("core", "inserts", busy["p50_us"], busy["p99_us"], busy["max_us"], busy["p99_us"] / idle["p99_us"], busy["inserted"] / took)
    table.notes = [f"idle p99 is {idle['p99_us'] / idle['p50_us']:.2f} times the median; the core has one indexing worker"]
    if took < seconds:
        table.notes.append(f"the points to insert lasted for {took:.1f} s; only searches within them count")
    if with_python:
        quiet, loud, speed = python_latencies(data, session.settings.options, k=k, seconds=seconds)
        table.add("Collection.knn", "nothing", *quiet, 1.0, None)
        table.add("Collection.knn", "upserts", *loud, loud[1] / quiet[1], speed)
    session.core.ready()
    return table


def overhead(session: Session, collection: CollectionEngine, *, k: int) -> Table:
    """
    Measure what a knn call costs outside of the search.
    """
    table = Table(
        f"{session.data.name}: knn on 64 points, k={k}, filter cached: an upper bound of the time outside the core", ["call", "us a query"]
    )
    for name, micros in collection.overhead(k).items():
        table.add(name, micros)
    return table
