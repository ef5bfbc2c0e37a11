"""
Examples in docstrings that need an optional package are left out where it is missing.
"""

from __future__ import annotations

import importlib.util

import pytest

NEEDED = {"Reading.to_pandas": "pandas", "Reading.to_arrow": "pyarrow"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark the examples whose package is not installed as skipped.
    """
    for item in items:
        package = next((package for name, package in NEEDED.items() if item.name.endswith(name)), None)
        if package is not None and importlib.util.find_spec(package) is None:
            item.add_marker(pytest.mark.skip(reason=f"{package} is not installed"))
