"""
The examples of the documentation run, in order.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```python(?: needs (?P<package>\w+))?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md"])
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    assert blocks
    for block in blocks:
        if block["package"] is None or importlib.util.find_spec(block["package"]) is not None:
            line = text[: block.start()].count("\n") + 1
            exec(compile("\n" * line + block["code"], str(ROOT / name), "exec"), namespace)


def test_the_readme_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(iter(_BLOCK.finditer(text)))
    exec(compile(block["code"], "README.md", "exec"), {})
    shown = text[block.end() :].split("```\n")[1]
    assert shown == capsys.readouterr().out
