"""
The command line: arguments, the prompt, and answers as text.

Answers go to standard output, everything else to standard error. One thread.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Callable, Sequence

import vecdb
from stdlib_search.embedding import Embedder, MiniLM, MissingModel
from stdlib_search.progress import Progress
from stdlib_search.store import KINDS, Answer, Reporter, StdlibIndex, Wanted, open_index

DEFAULT_PATH = "stdlib.vecdb"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Read the command line; ends the process with status 2 when it is wrong.
    """
    parser = argparse.ArgumentParser(
        description="Ask the documentation of Python's standard library in plain English.",
        epilog="The first run embeds the documentation, which takes about half a minute; later runs answer at once.",
    )
    parser.add_argument("question", nargs="*", help="what to look for; without it you are asked, question after question")
    parser.add_argument("--kind", choices=KINDS, help="only this kind of object (properties count as methods)")
    parser.add_argument("--module", help="only this module and the modules inside it, for example asyncio")
    parser.add_argument("--max-lines", type=_positive, metavar="N", help="only docstrings of at most N lines")
    parser.add_argument("-k", type=_positive, default=5, metavar="N", help="number of answers (default %(default)s)")
    parser.add_argument("--path", default=DEFAULT_PATH, help="directory of the database (default %(default)s)")
    parser.add_argument("--rebuild", action="store_true", help="embed everything anew")
    return parser.parse_args(arguments)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)].rstrip() + "..."


def format_answer(answer: Answer, *, width: int) -> str:
    """
    Lay an answer out for a person: for each hit rank, score and name, and below it what it does.
    """
    narrowed = str(answer.wanted)
    lines = [answer.question if not narrowed else f"{answer.question}  [{narrowed}: {answer.matching:,} of {answer.points:,}]", ""]
    for rank, hit in enumerate(answer.hits, start=1):
        payload = hit.payload or {}
        about = f"{payload['lines']} {'line' if payload['lines'] == 1 else 'lines'}"
        if "since" in payload:
            about += f", since Python {payload['since']}"
        title = _cut(f"{rank:>3}  {hit.score:.2f}  {payload['kind']:<8}  {payload['name']}{payload['signature']}", width - len(about) - 4)
        lines.append(f"{title}  ({about})")
        lines.append(_cut(" " * 11 + payload["doc"], width))
    if not answer.hits:
        lines.append("  nothing matches the filter")
    milliseconds = f"question embedded in {answer.embed_seconds * 1000:.1f} ms, searched in {answer.search_seconds * 1000:.1f} ms"
    return "\n".join([*lines, "", f"{answer.points:,} points; {milliseconds}"])


def _answer(index: StdlibIndex, question: str, arguments: argparse.Namespace) -> None:
    wanted = Wanted(kind=arguments.kind, module=arguments.module, max_lines=arguments.max_lines)
    answer = index.ask(question, k=arguments.k, wanted=wanted)
    print(format_answer(answer, width=min(120, shutil.get_terminal_size().columns)))
    if arguments.module is not None and not answer.matching:
        public = [name for name in sys.stdlib_module_names if not name.startswith("_") and name != arguments.module]
        similar = difflib.get_close_matches(arguments.module, public, n=3)
        if similar:
            print(f"did you mean --module {' or '.join(similar)}?", file=sys.stderr)


def main(arguments: Sequence[str] | None = None, *, load_embedder: Callable[[], Embedder] = MiniLM) -> int:
    """
    Run the command and return its exit status: 0, 1 for what went wrong, 130 when stopped by Ctrl-C.
    """
    given = parse_arguments(arguments)
    progress = Progress(sys.stderr)
    try:
        with open_index(given.path, load_embedder(), reporter=Reporter(progress.say, progress.count), rebuild=given.rebuild) as index:
            if given.question:
                _answer(index, " ".join(given.question), given)
            else:
                _converse(index, given)
    except (MissingModel, vecdb.VecdbError) as error:
        print(f"search_stdlib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.say("stopped; what is embedded is kept, and the next run continues with it")
        return 130
    return 0


def _converse(index: StdlibIndex, given: argparse.Namespace) -> None:
    print(f"{len(index):,} points. Ask in plain English; an empty line ends.", file=sys.stderr)
    while True:
        try:
            question = input("? ").strip()
        except EOFError:
            return
        if not question:
            return
        _answer(index, question, given)
        print()
