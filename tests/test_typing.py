"""
A program with every public call is right for mypy --strict, and runs.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import typed_program

import vecdb

ROOT = Path(__file__).resolve().parent.parent


def test_the_program_runs(path: Path) -> None:
    typed_program.main(path)


def test_the_program_uses_every_public_method() -> None:
    text = Path(typed_program.__file__).read_text(encoding="utf-8")
    left_out = {"to_pandas", "to_arrow"}  # of optional packages
    methods = {name for name in dir(vecdb.Collection) if not name.startswith("_")} - left_out
    assert {name for name in methods if f".{name}" not in text} == set()


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_the_program_is_right_for_mypy() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-version=3.10"]
    done = subprocess.run([*command, typed_program.__file__], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
