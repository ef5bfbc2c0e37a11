"""
Text predicates: tokens are maximal runs of Unicode alphanumerics, casefolded; an element is tested whole, by itself.

A query without a token matches nothing. Functions without state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

TextKind = Literal["text", "text_any", "phrase", "prefix"]

_TOKEN = re.compile(r"[^\W_]+")


def tokens(text: str) -> list[str]:
    """
    Return the tokens of a text in order.

    >>> tokens("Straße-12, naïve_Test")
    ['strasse', '12', 'naïve', 'test']
    """
    return [token.casefold() for token in _TOKEN.findall(text)]


def all_words(element: str, query: str) -> bool:
    """
    Return whether every token of the query occurs in the element.
    """
    wanted = set(tokens(query))
    return bool(wanted) and wanted <= set(tokens(element))


def any_word(element: str, query: str) -> bool:
    """
    Return whether a token of the query occurs in the element.
    """
    return not set(tokens(query)).isdisjoint(tokens(element))


def phrase(element: str, query: str) -> bool:
    """
    Return whether the tokens of the query occur in the element in this order and adjacent.
    """
    wanted, found = tokens(query), tokens(element)
    return bool(wanted) and any(found[start : start + len(wanted)] == wanted for start in range(len(found) - len(wanted) + 1))


def prefix(element: str, query: str) -> bool:
    """
    Return whether the element begins with the query, letter by letter.
    """
    return element.startswith(query)


PREDICATES: Mapping[TextKind, Callable[[str, str], bool]] = {"text": all_words, "text_any": any_word, "phrase": phrase, "prefix": prefix}
