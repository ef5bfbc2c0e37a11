"""
Collect the docstrings of the standard library: public modules, classes, functions, methods and properties.

Invariant: one entry for one documented object, under its most public name; sorted by name, so that two runs of one Python agree.
Imports modules into this process with output and warnings silenced (file descriptors 1 and 2 are redirected): not while other
threads print.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import pkgutil
import re
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

# Left out on purpose: programs, test suites, demonstrations, and modules whose import prints, opens a browser or changes the terminal.
SKIPPED_MODULES = frozenset(
    {
        "antigravity", "distutils", "idlelib", "lib2to3", "nt", "posix", "pydoc_data", "readline", "rlcompleter", "test", "this", "turtle",
        "turtledemo", "xxlimited", "xxlimited_35", "xxsubtype",
    }
)  # fmt: skip
SKIPPED_PARTS = frozenset({"test", "tests"})
# A hundred generated character maps that all say the same; the package itself stays.
LEAF_PACKAGES = frozenset({"encodings"})

LONGEST_DEFAULT = 30  # characters of a default value in a signature

_SIGNATURE_LINE = re.compile(r"^[\w.]+\(.*\)\s*(->.*|--.*|[-:]\s.*)?$")
_SINCE = re.compile(r"(?:versionadded::|(?:new|added) in (?:python )?(?:version )?)\s*(3\.\d+|2\.\d+)", re.IGNORECASE)
_GENERATED = re.compile(r"An enumeration\.$|Alias for field number ")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Entry:
    """
    Hold one documented object; `module` is the importable module, `name` the dotted name within all of the library.
    """

    name: str
    module: str
    kind: str  # "module", "class", "function" or "method" (properties count as methods)
    signature: str
    doc: str

    @property
    def text(self) -> str:
        """
        Build what is embedded: the name as one writes it, then the first sentence; more than that made answers worse in trials.
        """
        sentence = _SENTENCE_END.split(self.summary, maxsplit=1)[0]
        return f"{self.name.removeprefix('builtins.')}: {sentence[:200]}"

    @property
    def lines(self) -> int:
        """
        Count the lines of the docstring.
        """
        return self.doc.count("\n") + 1

    @property
    def since(self) -> str | None:
        """
        Find the Python version that the docstring says this was added in, if it does.
        """
        found = _SINCE.search(self.doc)
        return found.group(1) if found else None

    @property
    def summary(self) -> str:
        """
        Take the first paragraph on one line, without a leading signature such as `compress(data) -> bytes`.
        """
        return " ".join(_summary_paragraph(self.doc).split())


@dataclass(frozen=True)
class Library:
    """
    Hold everything that was collected, and the modules that could not be imported with the reason.
    """

    entries: list[Entry]
    failed: list[tuple[str, str]]


def _summary_paragraph(doc: str) -> str:
    """
    Find the first paragraph that is prose; of signature lines only prose after the arrow is kept.
    """
    text = ""
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        lines = []
        for line in paragraph.split("\n"):
            found = _SIGNATURE_LINE.match(line)
            described = found.group(1) or "" if found else line
            if not found or len(described.split()) > 3:
                lines.append(described.lstrip("->: ") if found else line)
        text = "\n".join(lines).strip()
        if text and not text.startswith("("):
            return text
    return text


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """
    Send everything that Python or C code writes to standard output and error to nowhere, and ignore warnings.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as stack:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            yield
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def _is_wanted(name: str) -> bool:
    parts = name.split(".")
    return parts[0] not in SKIPPED_MODULES and not any(part.startswith("_") or part in SKIPPED_PARTS for part in parts)


def import_modules(names: list[str] | None = None) -> tuple[dict[str, types.ModuleType], list[tuple[str, str]]]:
    """
    Import the public modules of the standard library below `names` (all of them by default), silently.

    Returns the modules by name, and (name, reason) for each that this machine cannot import, such as those of another system.
    """
    waiting = sorted(name for name in (sys.stdlib_module_names if names is None else names) if _is_wanted(name))
    modules: dict[str, types.ModuleType] = {}
    failed: list[tuple[str, str]] = []
    with silence():
        while waiting:
            name = waiting.pop(0)
            try:
                module = importlib.import_module(name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may fail in any way; it is listed
                failed.append((name, f"{type(error).__name__}: {error}"))
                continue
            modules["os.path" if module is os.path else name] = module
            if name not in LEAF_PACKAGES:
                below = (f"{name}.{found.name}" for found in pkgutil.iter_modules(getattr(module, "__path__", [])))
                waiting.extend(sorted(child for child in below if _is_wanted(child)))
    return dict(sorted(modules.items())), failed


def _public_members(name: str, module: types.ModuleType) -> Iterator[tuple[str, object, int]]:
    """
    Yield (attribute, value, rank) for what a module offers; rank 0 is at home here, 1 is taken in from elsewhere.
    """
    exported = getattr(module, "__all__", None)
    for attribute in sorted(set(exported if exported is not None else vars(module))):
        if attribute.startswith("_"):
            continue
        try:
            value = getattr(module, attribute)
        except AttributeError:  # a name in __all__ that this system does not have
            continue
        home = getattr(value, "__module__", None) or ""
        at_home = home in (name, module.__name__) or home.startswith(f"{name}.")
        if at_home or exported is not None or home.startswith("_"):
            yield attribute, value, 0 if at_home else 1


class _Unshown:
    """
    Stand for a default that is not shown: cgi.parse's is the whole environment, and others hold addresses.
    """

    def __repr__(self) -> str:
        return "..."


def _shown_default(default: object) -> object:
    plain = type(default) in (bool, int, float, str, bytes, tuple, type(None)) and len(repr(default)) <= LONGEST_DEFAULT
    return default if plain or default is inspect.Parameter.empty else _Unshown()


def _signature(value: object, doc: str) -> str:
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
        shown = [parameter.replace(default=_shown_default(parameter.default)) for parameter in signature.parameters.values()]
        return _ADDRESS.sub("", str(signature.replace(parameters=shown)))
    except Exception:  # noqa: BLE001 - the defaults in it are evaluated, which may fail in any way; often the docstring starts with one
        head = doc.partition("\n")[0]
        return head[head.index("(") : head.rindex(")") + 1] if _SIGNATURE_LINE.match(head) else ""


def _own_doc(value: object) -> str:
    doc = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", None)
    return inspect.cleandoc(doc) if isinstance(doc, str) else ""


def _says_something(entry: Entry) -> bool:
    """
    Tell documentation from what is absent, generated, or only repeats the name.
    """
    own_name = entry.name.rpartition(".")[2]
    return entry.summary.lower().rstrip(".") not in ("", own_name.lower()) and not _GENERATED.match(entry.doc)


def _methods(owner: Entry, cls: type) -> Iterator[Entry]:
    for attribute, value in sorted(vars(cls).items()):
        plain = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        is_property = isinstance(plain, property) or inspect.isdatadescriptor(plain)
        if attribute.startswith("_") or not (is_property or inspect.isroutine(plain)):
            continue
        doc = _own_doc(plain)
        signature = "" if is_property else _signature(getattr(cls, attribute, plain), doc)
        yield Entry(f"{owner.name}.{attribute}", owner.module, "method", signature, doc)


def collect(names: list[str] | None = None) -> Library:
    """
    Collect the documented public objects of the standard library, or of the modules `names` and below.

    An object that several modules offer is listed once: at home before elsewhere, then in the outermost package (asyncio.create_task,
    not asyncio.tasks.create_task). Objects without a docstring of their own are left out.
    """
    modules, failed = import_modules(names)
    best: dict[int, tuple[tuple[int, int, str], str, object]] = {}
    with silence():  # lazy attributes may import or warn
        for module_name, module in modules.items():
            for attribute, value, rank in _public_members(module_name, module):
                if inspect.isclass(value) or inspect.isroutine(value) or hasattr(value, "__wrapped__"):
                    name = f"{module_name}.{attribute}"
                    key = (rank, name.count("."), name)
                    if id(value) not in best or key < best[id(value)][0]:
                        best[id(value)] = (key, module_name, value)
        entries = [Entry(name, name, "module", "", inspect.cleandoc(module.__doc__)) for name, module in modules.items() if module.__doc__]
        for (_, _, name), module_name, value in best.values():
            doc = _own_doc(value)
            entry = Entry(name, module_name, "class" if inspect.isclass(value) else "function", _signature(value, doc), doc)
            entries.append(entry)
            if inspect.isclass(value):
                entries.extend(_methods(entry, value))
    telling = {entry.name: entry for entry in entries if _says_something(entry)}
    return Library([telling[name] for name in sorted(telling)], sorted(failed))
