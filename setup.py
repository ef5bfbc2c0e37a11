"""
The part of the build that pyproject.toml cannot say: the cffi module, compiled on all cores and no source twice, and one abi3 wheel for
CPython 3.10 and later.
"""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OBJECTS = ROOT / "build" / "objects"


class ParallelBuildExt(build_ext):
    """
    Compile the sources of the extension side by side; setuptools itself takes one after the other.

    The object files of the core are kept in build/objects, under a digest of all they are made from: an editable installation, which
    setuptools builds in a directory of its own, and a wheel are made of the same.
    """

    def build_extension(self, ext: Extension) -> None:
        compile_all = self.compiler.compile
        headers = b"".join(path.read_bytes() for path in sorted([*ROOT.glob("csrc/*.h"), *ROOT.glob("csrc/*.hpp")]))
        command = [*self.compiler.compiler_so, *getattr(self.compiler, "compiler_so_cxx", []), *ext.extra_compile_args]
        version = subprocess.run([command[0], "--version"], check=True, capture_output=True).stdout
        common = repr((command, ext.define_macros, version, headers)).encode()
        core = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("csrc/*.cpp")}

        def compile_one(source: str, *args: object, **options: object) -> list[str]:
            if source not in core:  # what cffi generated
                return compile_all([source], *args, **options)
            name = hashlib.sha256(common + source.encode() + (ROOT / source).read_bytes()).hexdigest()
            kept = OBJECTS / f"{name}.o"
            if not kept.exists():
                made = Path(compile_all([source], *args, **options)[0])
                OBJECTS.mkdir(parents=True, exist_ok=True)
                passing = kept.with_suffix(f".{os.getpid()}")
                shutil.copyfile(made, passing)
                passing.replace(kept)
            return [str(kept)]

        def compile_each(sources: list[str], *args: object, **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = [one for some in pool.map(lambda source: compile_one(source, *args, **options), sources) for one in some]
            for outdated in {*map(str, OBJECTS.glob("*.o"))} - {*made}:
                Path(outdated).unlink(missing_ok=True)
            return made

        self.compiler.compile = compile_each
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": ParallelBuildExt},
    cffi_modules=["csrc/build_ffi.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
