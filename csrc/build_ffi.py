"""
How the extension `vecdb._core` is built: which sources, which flags.

`csrc/vecdb.h` is parsed as it stands for cffi's declarations.
"""

import os
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).resolve().parent
ROOT = CSRC.parent


def declarations() -> str:
    """
    Return `vecdb.h` without what only a C compiler needs: preprocessor lines and the extern "C" braces.
    """
    lines = (CSRC / "vecdb.h").read_text(encoding="utf-8").splitlines()
    kept: list[str] = []
    inside_guard = False
    for line in lines:
        if line.startswith("#"):
            inside_guard = line.startswith("#ifdef __cplusplus")
        elif not inside_guard:
            kept.append(line)
    return "\n".join(kept)


def extra_flags() -> list[str]:
    """
    Return the compiler flags; debug symbols would make the wheel several times as large.

    Products and sums are never contracted: geo predicates must round as Python's do (kernels say by intrinsics what they fuse).
    VECDB_WERROR=1 turns warnings in our code into errors, as the project's own checks do.
    """
    strict = ["-Werror"] if os.environ.get("VECDB_WERROR") == "1" else []
    return ["-std=c++17", "-O3", "-ffp-contract=off", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra", *strict]


# cffi generates its module from the declarations; that generated file is not held to our warnings.
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wcast-function-type"
#include "vecdb.h"
"""

ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "vecdb._core",
    PREAMBLE,
    source_extension=".cpp",
    sources=[str(path.relative_to(ROOT)) for path in sorted(CSRC.glob("*.cpp"))],
    depends=[str(path.relative_to(ROOT)) for path in sorted([*CSRC.glob("*.h"), *CSRC.glob("*.hpp")])],
    include_dirs=[str(CSRC.relative_to(ROOT))],
    extra_compile_args=extra_flags(),
    extra_link_args=["-pthread"],
)
