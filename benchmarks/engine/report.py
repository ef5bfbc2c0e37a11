"""
What was measured, for people: tables on the terminal and, when recorded, at the end of RESULTS.md.
"""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .build import ROOT

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
_HEADER = """# Measured

What `benchmarks/engine.py --record` found, newest last: machine, commit, date and command stand before the tables of a run. Ratios are
within one run, on one machine; figures of different runs are not compared.
"""

Value = str | float | int | None


@dataclass
class Table:
    """
    A titled table; a None is a dash. `picture` is drawn from the same figures.
    """

    title: str
    header: Sequence[str]
    rows: list[Sequence[Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    picture: Path | None = None

    def add(self, *row: Value) -> None:
        """
        Append a row.
        """
        if len(row) != len(self.header):
            raise ValueError(f"a row of {len(row)} values, expected {len(self.header)}: {', '.join(self.header)}")
        self.rows.append(row)


def shown(value: Value) -> str:
    """
    Return a value as it is printed: three significant figures, no exponent.

    >>> shown(0.98765), shown(12345.6), shown(None)
    ('0.988', '12,346', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def recall(value: float) -> str:
    """
    Return a recall with the digits that its goals need.
    """
    return f"{value:.4f}"


def line(table: Table, row: Sequence[Value], widths: Sequence[int] | None = None) -> str:
    """
    Return a row of a table as text.
    """
    widths = widths or [max(len(name), 8) for name in table.header]
    cells = [shown(value) for value in row]
    return "  ".join([cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])


def text(table: Table) -> str:
    """
    Return a table for a terminal.
    """
    columns = zip(table.header, *(map(shown, row) for row in table.rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = [f"\n{table.title}", line(table, list(table.header), widths), *(line(table, row, widths) for row in table.rows)]
    return "\n".join(lines + [f"  {note}" for note in table.notes])


def markdown(table: Table) -> str:
    """
    Return a table in Markdown.
    """
    lines = [f"### {table.title}", "", "| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    lines += ["| " + " | ".join(map(shown, row)) + " |" for row in table.rows]
    if table.picture is not None:
        lines += ["", f"![{table.title}]({table.picture.relative_to(RESULTS.parent).as_posix()})"]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), *([""] if table.notes else [])])


def heading() -> list[str]:
    """
    Return the lines that say where, when and how: machine, commit, date, command.
    """
    return [
        f"machine: {cpu_name()}, {os.cpu_count()} CPUs, {memory_gib():.0f} GiB; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}",
        f"commit: {commit()}",
        f"date: {datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; load {os.getloadavg()[0]:.1f} before",
        f"command: `python {shlex.join([Path(sys.argv[0]).as_posix(), *sys.argv[1:]])}`",
    ]


def cpu_name() -> str:
    """
    Return the processor's name.
    """
    information = Path("/proc/cpuinfo")
    names = (
        [row.split(":", 1)[1].strip() for row in information.read_text().splitlines() if row.startswith("model name")]
        if (information.exists())
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def memory_gib() -> float:
    """
    Return the machine's memory.
    """
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit() -> str:
    """
    Return the commit that was measured, marked when files differ from it.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False).stdout.strip()

    changed = [row for row in git("status", "--porcelain", "--", "csrc", "vecdb", "benchmarks").splitlines() if "RESULTS.md" not in row]
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (f" with {len(changed)} files changed" if changed else "")


def record(title: str, about: Sequence[str], tables: Sequence[Table]) -> None:
    """
    Append a run to RESULTS.md.
    """
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _HEADER
    parts = [before.rstrip(), "", f"## {title}", "", *(f"- {row}" for row in about), ""]
    parts += [markdown(table) for table in tables]
    RESULTS.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")
