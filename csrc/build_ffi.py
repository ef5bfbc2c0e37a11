"""
How the extension `vecdb._core` is built: which sources, which headers, which flags.

`csrc/vecdb.h` is parsed as it stands for cffi's declarations. hnswlib's headers are used from outside the tree ($VECDB_HNSWLIB_INCLUDE,
or the build requirement assorthead) and are refused unless they are, byte for byte, those of hnswlib 0.8.0: the graph code relies on
their internals.
"""

import hashlib
import os
import sys
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).resolve().parent
ROOT = CSRC.parent

HNSWLIB_SHA256 = {
    "bruteforce.h": "da1f179e99d8e5a4c39b5db0c681bccf3c63e797aaa4982620519f8e001cb2c6",
    "hnswalg.h": "0fb2c1b1d3aae1ea959b536f96844f3f3ae6a2f32ce063f2c31f93d84a7e5c32",
    "hnswlib.h": "54403db81f55fd28246114c5c9f683e663a2a55ad64903b56578c73e6db5ad2c",
    "space_ip.h": "6a89b5275527fe3592a9b02ea4fc50293fdc68cbd9f7c1ec13683581e1ebbaf7",
    "space_l2.h": "c599d024657896412250b4fde1a95e39f8bc55cccd263f36c8948fa35779edf1",
    "stop_condition.h": "930da73eead77dff0c8c9f3281c5d12250051c90ef98fcfbab8f5f307bdae8d9",
    "visited_list_pool.h": "8e5bab8d12b5ef26e3b603b656b8a1acba6738498d1d98f44c9fdb1cb0e25110",
}


def hnswlib_include() -> str:
    """
    Return the directory to put on the include path, after checking hnswlib's headers in it.
    """
    include = os.environ.get("VECDB_HNSWLIB_INCLUDE")
    if include is None:
        import assorthead

        include = assorthead.includes()
    for name, expected in HNSWLIB_SHA256.items():
        header = Path(include, "hnswlib", name)
        if not header.is_file():
            sys.exit(f"{header} is missing: point VECDB_HNSWLIB_INCLUDE at a directory that holds hnswlib/ of version 0.8.0")
        found = hashlib.sha256(header.read_bytes()).hexdigest()
        if found != expected:
            sys.exit(
                f"{header} has SHA-256 {found}, expected {expected} (hnswlib 0.8.0): use the headers of the build requirement "
                "assorthead==0.2.2, or point VECDB_HNSWLIB_INCLUDE at an unchanged hnswlib 0.8.0"
            )
    return include


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
    code = ["-std=c++17", "-O3", "-ffp-contract=off", "-g0", "-fvisibility=hidden"]
    return [*code, "-Wall", "-Wextra", *strict, "-isystem", hnswlib_include()]


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
