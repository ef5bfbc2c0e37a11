"""
Transforms for the tests of upload: worker processes import them from here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def row(number: int) -> tuple[int, list[float], dict[str, Any]]:
    """
    Make a row of a number, with the process that did it.
    """
    return number, [1.0, float(number)], {"n": number, "pid": os.getpid()}


def fail_at_300(number: int) -> tuple[int, list[float]]:
    """
    Make a row of a number, but not of 300.
    """
    if number == 300:
        raise LookupError("300 is not there")
    return number, [1.0, float(number)]


def exit_at_40(number: int) -> tuple[int, list[float]]:
    """
    Make a row of a number; end the process at 40.
    """
    if number == 40:
        os._exit(3)
    return number, [1.0, float(number)]


def slow(number: int) -> tuple[int, list[float]]:
    """
    Make a row of a number, after a while.
    """
    time.sleep(0.02)
    return number, [1.0, float(number)]


class Noting:
    """
    A transform that notes in a file each time it arrives in a process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        """
        Arrive.
        """
        self.__dict__.update(state)
        with self.path.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def __call__(self, number: int) -> tuple[int, list[float]]:
        """
        Make a row of a number.
        """
        return number, [1.0, float(number)]
