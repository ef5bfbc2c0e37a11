"""
Packages that vecdb works with and does not need: imported when they are asked for, or recognised when the caller has imported them.

No state; any thread.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def needed(package: str, what: str) -> Any:
    """
    Return an optional package; raises ImportError that says what needs it and how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{what} needs the package {package}: install it (pip install {package})", name=package) from error


def is_frame(value: object, package: str) -> bool:
    """
    Return whether a value is a DataFrame of a package; without importing it, since who has one has imported it.
    """
    module = sys.modules.get(package)
    return module is not None and isinstance(value, module.DataFrame)
