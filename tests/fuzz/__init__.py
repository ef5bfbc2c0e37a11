"""
What reads bytes or dicts of others, given any: tests/fuzz/run.py drives it by coverage, tests/test_fuzz.py by a fixed seed.
"""
