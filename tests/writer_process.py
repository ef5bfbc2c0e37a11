"""
Another process that has vecdb: what a test sends it, it does.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from types import TracebackType
from typing import Any

LOOP = """
import json, sys
import numpy as np
import vecdb
from vecdb import F
names = {"np": np, "vecdb": vecdb, "F": F}
for line in sys.stdin:
    asked = json.loads(line)
    names.update(asked["names"], result=None)
    try:
        exec(asked["code"], names)
        print(json.dumps({"result": names["result"]}), flush=True)
    except Exception as error:
        print(json.dumps({"error": type(error).__name__ + ": " + str(error)}), flush=True)
"""


class OtherProcess:
    """
    A process with a namespace of its own, in which `do` runs statements.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, code: str, **names: Any) -> Any:
        """
        Run statements and return what they left in `result`; raise RuntimeError with what they raised.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"code": code, "names": names}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def kill(self) -> None:
        """
        End it without a chance to clean up.
        """
        self._process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """
        Let it end.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
