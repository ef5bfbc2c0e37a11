"""
The engine's benchmark: recall and speed of vecdb beside stock hnswlib and the libraries a user would pick instead.

    python benchmarks/engine.py --data DIRECTORY_WITH_NPY [--sets glove,wordnet,synthetic-1m,...] [--parts unfiltered,filtered,...]
        [--cells listed|full|"tag 10% none k10;and2 1% far k10"] [--points N] [--queries N] [--quick] [--record]

Needs a C++ compiler, hnswlib's headers (assorthead==0.2.2, or $VECDB_HNSWLIB_INCLUDE) and numpy. `Collection.knn` and the
peers (hnswlib, usearch, faiss-cpu) are measured where they can be imported; the picture is drawn by matplotlib where it is installed.
Nothing else should run on the machine; --cpu keeps searches on one CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from engine import cells, churn, collection, costs, data, filtered, peers, plot, report, unfiltered
from engine.report import Table
from engine.session import Session, Settings
from engine.stock import Options

PARTS = ("unfiltered", "filtered", "scan", "build", "links", "churn", "latency", "bytes", "overhead")


def arguments() -> argparse.Namespace:
    """
    Return the options of the command line.
    """
    parser = argparse.ArgumentParser(description="Recall and speed of vecdb beside stock hnswlib and other libraries.")
    parser.add_argument("--data", type=Path, help="the directory of the real sets' .npy files")
    parser.add_argument("--sets", default="glove", help=f"some of {','.join(data.NAMES)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--cells", default="listed", help="listed, full, or names of cells with ; between them")
    parser.add_argument(
        "--stock", choices=("listed", "all", "none"), default="listed", help="the filtered cells stock hnswlib is measured in"
    )
    parser.add_argument("--python", choices=("listed", "all", "none"), default="listed", help="those of Collection.knn and the peers")
    parser.add_argument("--peers", default="all", help="all, none, or some of " + ",".join(peer.name for peer in peers.PEERS))
    parser.add_argument("--points", type=int, help="at most so many points a set")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", default="10,100", help="numbers of neighbours")
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=200)
    parser.add_argument("--quantization", choices=("auto", "none"), default="auto", help="vecdb's codes")
    parser.add_argument("--links", choices=("searched", "asked"), default="searched", help="why tags get links: use, or an index's m")
    parser.add_argument("--threads", default="1,2", help="thread counts of the build")
    parser.add_argument("--rounds", type=int, default=churn.ROUNDS, help="rounds of deleting and inserting")
    parser.add_argument("--passes", type=int, default=3, help="passes for the clock; the median counts")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds a slow engine gets for a pass")
    parser.add_argument("--cpu", type=int, help="keep the C++ searches on this CPU")
    parser.add_argument(
        "--quick", action="store_true", help="200 queries, one pass, short budgets, k=10, three rounds: to see that it runs"
    )
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md, pictures beside it")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vecdb-bench", help="binaries, graphs, pictures; kept")
    options = parser.parse_args()
    if options.quick:
        options.queries, options.passes, options.budget, options.k, options.rounds = min(options.queries, 200), 1, 0.3, "10", 3
    unknown = [name for name in options.sets.split(",") if name not in data.NAMES] + [
        part for part in options.parts.split(",") if part not in PARTS
    ]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def chosen(name: str, points: int, ks: tuple[int, ...]) -> list[cells.Spec]:
    """
    Return the cells that --cells names.
    """
    if name in ("listed", "full"):
        return cells.full(points, ks) if name == "full" else cells.listed(points, ks)
    specs = [cells.parsed(one.strip()) for one in name.split(";")]
    for spec in specs:
        if not cells.feasible(spec, points):
            raise ValueError(f"{spec.name} is not feasible with {points} points")
    return specs


def among(word: str, listed: list[cells.Spec]) -> Callable[[cells.Spec], bool]:
    """
    Return the test for listed, all or none.
    """
    return {"all": lambda spec: True, "none": lambda spec: False, "listed": lambda spec: spec in listed}[word]


def measure(name: str, options: argparse.Namespace, pictures: Path, tables: list[Table]) -> None:
    """
    Measure the parts for one set, adding their tables.
    """
    parts = options.parts.split(",")
    ks = tuple(int(k) for k in options.k.split(","))
    build_options = Options(options.m, options.ef_construction, None if options.quantization == "none" else options.quantization)
    loaded = data.load(name, options.data, points=options.points, queries=options.queries)
    hardness = data.difficulty(loaded)
    tables.append(Table(f"{name}: the set", ["points", "dim", "queries", "relative contrast", "local intrinsic dimension"]))
    tables[0].add(len(loaded.rows), loaded.dim, len(loaded.queries), *hardness)
    print(report.text(tables[0]), flush=True)
    session = Session(loaded, options.work, Settings(build_options, options.passes, options.budget, options.cpu, options.links))

    def show(table: Table) -> None:
        tables.append(table)
        print(report.text(table), flush=True)

    if "build" in parts:
        show(costs.build(session, [int(count) for count in options.threads.split(",")]))
    if "links" in parts:
        show(costs.links(session))
    session.stock.ready()
    session.core.ready()
    engine, rivals = None, []
    if {"unfiltered", "filtered", "bytes", "overhead"} & set(parts) and options.python != "none":
        why_not = collection.missing()
        if why_not is None:
            engine = collection.CollectionEngine(loaded, build_options)
        else:
            print(f"left out: Collection.knn ({why_not})")
        if {"unfiltered", "filtered"} & set(parts):
            wanted = [] if options.peers == "none" else peers.available()
            rivals = [peer(loaded, build_options) for peer in wanted if options.peers == "all" or peer.name in options.peers.split(",")]
    if "bytes" in parts:
        show(costs.memory(session, engine))
    if "overhead" in parts and engine is not None:
        show(costs.overhead(session, engine, k=ks[0]))
    if "scan" in parts:
        show(costs.scan(session))
    if "unfiltered" in parts:
        for k in ks:
            made, curves = unfiltered.measure(session, k, engine, rivals)
            for table in made:
                show(table)
            tables[-2].picture = plot.draw(pictures / f"{name}-{len(loaded.rows)}-k{k}.svg", made[0].title, curves)
            print(f"drawn: {tables[-2].picture}")
    if "filtered" in parts:
        listed = cells.listed(len(loaded.rows), ks) if options.cells in ("listed", "full") else chosen(options.cells, len(loaded.rows), ks)
        who = filtered.Rivals(engine, rivals, among(options.stock, listed), among(options.python, listed))
        tables.append(filtered.empty_table(session, who))
        filtered.measure(session, chosen(options.cells, len(loaded.rows), ks), who, tables[-1])
        print("\n".join(tables[-1].notes), flush=True)
    if engine is not None:
        engine.close()
    if "latency" in parts:
        show(costs.latency(session, k=ks[0], with_python=collection.missing() is None and options.python != "none"))
    if "churn" in parts:
        show(churn.measure(session, rounds=options.rounds))
    session.close()


def main() -> int:
    """
    Measure all sets; record each when it is done.
    """
    options = arguments()
    about = report.heading()
    print("\n".join(about))
    options.work.mkdir(parents=True, exist_ok=True)
    pictures = report.RESULTS.parent / "pictures" if options.record else options.work / "pictures"
    for name in options.sets.split(","):
        tables: list[Table] = []
        ended = "whole"
        try:
            measure(name, options, pictures, tables)
        except BaseException as error:
            ended = f"cut short by {type(error).__name__}: {error}"
            raise
        finally:
            # Hours of measuring are not lost to what came after them.
            if options.record and tables:
                report.record(f"{name}, {options.parts}", [*about, f"run: {ended}"], tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
