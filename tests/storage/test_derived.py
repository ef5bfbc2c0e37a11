"""
Derived files are saved when they have grown, loaded when they verify, dropped otherwise, and never cost more than time.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vecdb.storage import files

Open = Callable[..., Any]


def test_a_graph_is_saved_when_it_has_grown_and_loaded_again(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    graph = home / "gen-1" / "derived" / "graph-0.derived"
    collection = open_collection(home)
    collection.upsert(list(range(3000)))
    collection.core.indexed[0] = 1000
    collection.store.checkpoint()
    assert not graph.exists()
    collection.core.indexed[0] = 2000
    collection.store.checkpoint()
    first = graph.read_bytes()
    collection.upsert([5], version=1)
    collection.core.indexed[0] = 2400
    collection.store.checkpoint()
    assert first == graph.read_bytes()
    collection.core.indexed[0] = 2500
    collection.store.checkpoint()
    assert first != graph.read_bytes()
    collection.core.indexed[0] = 2600
    collection.close()
    again = open_collection(home)
    assert {0: 2600} == again.core.graph_rows
    assert "load_graph" == again.core.calls[-1]
    saved = graph.read_bytes()
    again.close()
    assert saved == graph.read_bytes()


def test_a_derived_file_that_does_not_verify_is_dropped_with_a_warning(
    tmp_path: Path, open_collection: Open, worlds: Any, caplog: pytest.LogCaptureFixture, rng: random.Random
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(2000)))
    collection.core.indexed[0] = 2000
    collection.close()
    whole = (tmp_path / "c-0" / "gen-1" / "derived" / "graph-0.derived").read_bytes()
    changed = [whole[:i] + bytes([whole[i] ^ (1 << rng.randrange(8))]) + whole[i + 1 :] for i in range(len(whole))]
    for number, content in enumerate([b"", whole[:-1], whole + b"\0", *changed]):
        home = tmp_path / f"copy-{number}"
        worlds[0](tmp_path / "c-0", home)
        graph = home / "gen-1" / "derived" / "graph-0.derived"
        graph.write_bytes(content)
        (home / "gen-1" / "derived" / "graph-0.tmp").write_bytes(b"left by a crash")
        caplog.clear()
        again = open_collection(home)
        assert {} == again.core.graph_rows
        assert "will be built again" in caplog.text
        assert [] == list((home / "gen-1" / "derived").iterdir())
        again.close()


def test_a_graph_that_cannot_be_saved_does_not_fail_the_checkpoint(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(2000)))
    collection.core.indexed[0] = 2000

    class Full(files.System):
        def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
            if "derived" in str(files.path_of(fd)):
                raise OSError(errno.ENOSPC, "injected")
            return super().pwritev(fd, buffers, offset)

    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Full())
        collection.store.checkpoint()
    assert "is not saved" in caplog.text
    assert collection.store.info().applied_lsn == collection.store.info().checkpoint_lsn
    collection.store.checkpoint()
    assert collection.store.info().derived_bytes > 0


def test_a_graph_from_beyond_the_checkpoint_is_dropped(
    tmp_path: Path, open_collection: Open, worlds: Any, caplog: pytest.LogCaptureFixture
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(2000)))
    collection.store.checkpoint()
    worlds[0](tmp_path / "c-0", tmp_path / "older")
    collection.patch([1], {"later": True})
    collection.core.indexed[0] = 2000
    collection.close()
    name = "gen-1/derived/graph-0.derived"
    (tmp_path / "older" / name).write_bytes((tmp_path / "c-0" / name).read_bytes())
    older = open_collection(tmp_path / "older")
    assert {} == older.core.graph_rows
    assert "beyond the checkpoint" in caplog.text


def test_a_derived_file_is_synced_before_it_gets_its_name(tmp_path: Path, open_collection: Open, system: Any) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(2000)))
    collection.core.indexed[0] = 2000
    calls: list[str] = []
    system.after = calls.append
    collection.store.checkpoint()
    system.after = lambda call: None
    graph = tmp_path / "c-0" / "gen-1" / "derived" / "graph-0"
    renamed = calls.index(f"rename {graph}.derived")
    assert calls.index(f"sync_data {graph}.tmp") < renamed
    assert "sync_directory" == calls[renamed + 1]
