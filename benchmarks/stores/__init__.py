"""
The parts of benchmarks/storage.py.
"""
