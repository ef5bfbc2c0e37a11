"""
Text predicates: tokens, and what a query finds.
"""

import sys

import pytest

from vecdb.filters.text import all_words, any_word, phrase, prefix, tokens


def test_tokens_are_maximal_runs_of_alphanumerics_in_lower_case():
    assert ["the", "fox", "s", "x1", "straße".casefold(), "東京", "№5"[1:], "²"] == tokens("The fox's x1_Straße 東京—№5 ²")


def test_tokens_agree_with_isalnum_for_every_character():
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        assert (tokens(character) != []) is character.isalnum(), hex(code)


@pytest.mark.parametrize("query", ["", " ", "!?", "_"])
def test_a_query_without_a_token_matches_nothing(query):
    for predicate in (all_words, any_word, phrase):
        assert not predicate("a b _ !?", query)


def test_text_wants_all_words_in_any_order():
    assert all_words("The quick Brown fox", "FOX quick")
    assert not all_words("The quick brown fox", "quick dog")
    assert not all_words("foxes", "fox")


def test_text_any_wants_one_word():
    assert any_word("The quick brown fox", "dog fox")
    assert not any_word("The quick brown fox", "dog cat")


def test_a_phrase_wants_the_words_adjacent_and_in_order():
    assert phrase("the quick, brown fox", "Quick brown")
    assert phrase("a a b", "a b")
    assert not phrase("the quick brown fox", "brown quick")
    assert not phrase("the quick brown fox", "quick fox")
    assert not phrase("quick", "quick quick")


def test_a_prefix_is_compared_letter_by_letter():
    assert prefix("London", "Lon")
    assert prefix("London", "")
    assert not prefix("London", "lon")
    assert not prefix("New London", "Lon")
