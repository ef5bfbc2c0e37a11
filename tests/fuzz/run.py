"""
Fuzz one target by coverage: python tests/fuzz/run.py log|derived|filters|payload [--seconds 600] [--corpus DIRECTORY]

Needs `pip install atheris` and vecdb; a crash is written as a file `crash-...` where it runs, to be given back as an argument after `--`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["vecdb"]):
    from fuzz import targets


def main() -> None:
    """
    Write the seeds into the corpus and fuzz.
    """
    parser = argparse.ArgumentParser(description="Fuzz a target by coverage.")
    parser.add_argument("target", choices=sorted(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="where inputs are kept; default: a directory that is not kept")
    parser.add_argument("rest", nargs="*", help="arguments of libFuzzer, or files to run")
    options = parser.parse_args()
    logging.disable()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="vecdb-corpus-"))
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(targets.TARGETS[options.target][1]()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        targets.run_one(options.target, data)

    given = [argument for argument in options.rest if not Path(argument).is_file()]
    inputs = [argument for argument in options.rest if Path(argument).is_file()] or [str(corpus)]
    limits = [f"-max_total_time={options.seconds}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *limits, *given, *inputs], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
