"""
The part of the build that pyproject.toml cannot say: the cffi module, compiled on all cores, and one abi3 wheel for CPython 3.10 and later.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class ParallelBuildExt(build_ext):
    """
    Compile the sources of the extension side by side; setuptools itself takes one after the other.
    """

    def build_extension(self, ext: Extension) -> None:
        compile_all = self.compiler.compile

        def compile_each(sources: list[str], *args: object, **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return [made for some in pool.map(lambda source: compile_all([source], *args, **options), sources) for made in some]

        self.compiler.compile = compile_each
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": ParallelBuildExt},
    cffi_modules=["csrc/build_ffi.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
