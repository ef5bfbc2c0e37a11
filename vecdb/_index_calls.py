"""
How the calls of the core's index reach the core: what the parts of `vecdb.index.CoreIndex` share, which itself names the extension.

Any thread may call.
"""

from __future__ import annotations

from typing import Any

from vecdb._index_arrays import Pointers


class CoreCalls:
    """
    The base of those parts; `CoreIndex` fills it in.
    """

    _ffi: Any
    _lib: Any
    _to: Pointers

    def _open(self) -> Any:
        raise NotImplementedError

    def _number(self, c_type: str, function: Any, *arguments: Any) -> int:
        out = self._ffi.new(c_type)
        self._check(function(self._open(), *arguments, out))
        return int(out[0])

    @staticmethod
    def _check(status: int) -> None:
        raise NotImplementedError
