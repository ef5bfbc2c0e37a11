"""
Key paths: where in a payload a condition looks.

`a.b` goes into an object, `a[].b` into each element of an array, `a[0].b` into one of them; a name with dots or
brackets stands in double quotes, a double quote inside them doubled. The evaluator and the payload indexes walk by this
code alone, so they can't differ. Immutable, so it may be shared between threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vecdb.errors import InvalidArgument


class Each(Enum):
    """
    The step `[]`: every element of an array.
    """

    ELEMENT = "[]"


Step = str | int | Each
"""
One step of a path: a name in an object, an index in an array, or every element of an array.
"""

_NAME = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^.\[\]"]+)')
_BRACKETS = re.compile(r"\[(?P<index>[0-9]{0,20})\]")


@dataclass(frozen=True, slots=True)
class KeyPath:
    """
    A parsed key path; equal paths are equal however they were written.

    >>> KeyPath.parse('shop."opening.hours"[].from')
    KeyPath('shop."opening.hours"[].from')
    >>> KeyPath.parse("a[0]").steps
    ('a', 0)
    """

    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> KeyPath:
        """
        Return the path that text spells; InvalidArgument says where it is not one.
        """
        steps: list[Step] = []
        position = 0
        while True:
            name = _NAME.match(text, position)
            if name is None:
                raise _not_a_path(text, position, 'a name, or a name in double quotes like "dotted.key"')
            steps.append(name["bare"] if name["quoted"] is None else name["quoted"].replace('""', '"'))
            position = name.end()
            while (brackets := _BRACKETS.match(text, position)) is not None:
                steps.append(int(brackets["index"]) if brackets["index"] else Each.ELEMENT)
                position = brackets.end()
            if position == len(text):
                return cls(tuple(steps))
            if text[position] != ".":
                raise _not_a_path(text, position, "'.', '[]', '[number]' or the end")
            position += 1

    def each(self) -> KeyPath:
        """
        Return the path of this one's elements: itself when it ends in `[]`.
        """
        return self if self.steps[-1] is Each.ELEMENT else KeyPath((*self.steps, Each.ELEMENT))

    def __str__(self) -> str:
        """
        Return the path as `parse` reads it.
        """
        spelled = (f".{_spell(step)}" if isinstance(step, str) else "[]" if step is Each.ELEMENT else f"[{step}]" for step in self.steps)
        return "".join(spelled)[1:]

    def __repr__(self) -> str:
        """
        Return the spelled path.
        """
        return f"KeyPath({str(self)!r})"


def values(payload: Mapping[str, Any], key: KeyPath) -> list[Any]:
    """
    Return the values at a path, arrays and nulls as they are; none when the path leads nowhere.

    >>> values({"a": [{"b": 1}, {"b": [2, 3]}, {}]}, KeyPath.parse("a[].b"))
    [1, [2, 3]]
    """
    steps = key.steps
    if len(steps) == 1 and isinstance(steps[0], str):  # as most are
        return [payload[steps[0]]] if steps[0] in payload else []
    found: list[Any] = [payload]
    for step in steps:
        if isinstance(step, str):
            found = [value[step] for value in found if isinstance(value, (dict, Mapping)) and step in value]
        elif isinstance(step, int):
            found = [value[step] for value in found if isinstance(value, (list, tuple)) and step < len(value)]
        else:
            found = [element for value in found if isinstance(value, (list, tuple)) for element in value]
    return found


def elements(payload: Mapping[str, Any], key: KeyPath) -> Iterator[Any]:
    """
    Return what a predicate tests: the values at a path, an array unwrapped by one level, nulls left out.

    >>> list(elements({"grid": [[1, 2], None, [3]]}, KeyPath.parse("grid")))
    [[1, 2], [3]]
    """
    return unwrapped(values(payload, key))


def unwrapped(found: Iterable[Any]) -> Iterator[Any]:
    """
    Yield the elements of values.
    """
    for value in found:
        if isinstance(value, (list, tuple)):
            yield from (element for element in value if element is not None)
        elif value is not None:
            yield value


def _spell(name: str) -> str:
    bare = _NAME.fullmatch(name)
    return name if bare is not None and bare["bare"] is not None else '"' + name.replace('"', '""') + '"'


def _not_a_path(text: str, position: int, expected: str) -> InvalidArgument:
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    got = repr(text[position : position + 20]) if position < len(text) else "the end"
    return InvalidArgument(f"key {shown!r}: expected {expected} at character {position}, got {got}")
