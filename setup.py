"""
The part of the build that pyproject.toml cannot say: the cffi module, and one abi3 wheel for CPython 3.10 and later.
"""

from setuptools import setup

setup(
    cffi_modules=["csrc/build_ffi.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
