"""
Lowering: the program of a filter selects exactly the points that the rules say, whatever part of it the indexes
decide.

Three ways are compared: the program, run over naive sets; the reference evaluator; and the rules written down once
more, for the core conditions.
"""

import random
import struct
from collections.abc import Iterable
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from vecdb.filters import F, KeyPath, Program, keys, lower, matches, parse, terms

TAGS = ["x", "y", "z", "1", 0, 1, 2, True, False, 1.0, 2.5, 2**53, 2**53 + 1, -(2**63), "2024-02-29T10:00:00Z"]
PATHS = ["a", "b", "c.d", "e[]", "e[].f", "e[0].f", '"g.h"']


# ---- a naive core ----


def number_of(bits, rest):
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value, rest - 2**64 if rest >= 2**63 else rest


def run(program: Program, live: set[int], tags: dict[int, set[int]], columns: dict[int, list[tuple[int, tuple[float, int]]]]) -> set[int]:
    """
    Run a program by the text of vecdb.h, with sets of offsets on the stack.
    """
    words = iter(program.words.tolist())
    stack: list[set[int]] = []

    def take(count):
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return taken

    for op in words:
        if op == 1:
            stack.append(set(live))
        elif op == 2:
            stack.append(set())
        elif op == 3:
            stack.append(tags[next(words)] & live)
        elif op == 4:
            stack.append(set().union(*(tags[next(words)] for _ in range(next(words)))) & live)
        elif op == 5:
            column, bounds = next(words), next(words)
            low, high = number_of(next(words), next(words)), number_of(next(words), next(words))
            assert (bounds & 3) in (1, 2)
            assert (bounds & 12) in (4, 8)
            stack.append(
                {
                    offset
                    for offset, value in columns[column]
                    if offset in live
                    and (value > low or (bounds & 2 and value == low))
                    and (value < high or (bounds & 8 and value == high))
                }
            )
        elif op == 6:
            offsets = [next(words) for _ in range(next(words))]
            assert offsets == sorted(set(offsets))
            stack.append(set(offsets) & live)
        elif op in (7, 8):
            operands = take(next(words))
            assert len(operands) >= 2
            stack.append(set.intersection(*operands) if op == 7 else set.union(*operands))
        elif op == 9:
            operands, least = take(next(words)), next(words)
            stack.append({offset for offset in live if sum(offset in operand for operand in operands) >= least})
        else:
            assert op == 10
            stack.append(live - stack.pop())
    if not len(program.words):
        return set(live)
    assert len(stack) == 1
    return stack[0]


class NaiveCollection:
    """
    Points at offsets, their tags and columns, and what `lower` asks of a collection.
    """

    def __init__(self, points: dict[int, tuple[int | str, dict]]) -> None:
        self.points = points
        self.dictionary: dict[tuple, int] = {}
        self.tagged: dict[int, set[int]] = {}
        self.columns: list[list] = []
        self.column_of: dict[KeyPath, int] = {}
        self.indexed: set[KeyPath] = set()
        self.evaluated: list[int] = []

    def index(self, node) -> None:
        tag_keys, number_keys = keys(node)
        for key in sorted(tag_keys - self.indexed, key=str):
            self.indexed.add(key)
            for offset, (_, payload) in self.points.items():
                for term in terms(payload, key).tags:
                    tag = self.dictionary.setdefault((str(key), *term), len(self.dictionary) + 7)
                    self.tagged.setdefault(tag, set()).add(offset)
        for key in sorted(number_keys - set(self.column_of), key=str):
            self.column_of[key] = len(self.columns)
            self.columns.append([(offset, n) for offset, (_, payload) in self.points.items() for n in terms(payload, key).numbers])

    def tag(self, key, term):
        assert key in self.indexed
        return self.dictionary.get((str(key), *term))

    def column(self, key):
        return self.column_of[key]

    def offsets(self, ids):
        return [offset for offset, (one, _) in self.points.items() if one in ids]

    def test(self, node, offset):
        one, payload = self.points[offset]
        return matches(node, payload, id=one, has_vector=lambda name: name == "title" and offset % 2 == 0)

    def evaluate(self, node, candidates):
        among = run(candidates, set(self.points), self.tagged, dict(enumerate(self.columns)))
        self.evaluated.append(len(among))
        return [offset for offset in sorted(among, reverse=True) if self.test(node, offset)]

    def lower(self, filter) -> Program:
        node = parse(filter)
        self.index(node)
        return lower(node, self)

    def select(self, filter) -> set[int]:
        return run(self.lower(filter), set(self.points), self.tagged, dict(enumerate(self.columns)))


def collection_of(*payloads: dict) -> NaiveCollection:
    return NaiveCollection({offset + 3: (offset, payload) for offset, payload in enumerate(payloads)})


# ---- the rules once more, for the core conditions ----


def at(value, path: str) -> list:
    """
    Return the values at one of PATHS.
    """
    steps = {"e[]": ["e", None], "e[].f": ["e", None, "f"], "e[0].f": ["e", 0, "f"], "c.d": ["c", "d"], '"g.h"': ["g.h"]}.get(path, [path])

    def walk(here, rest):
        if not rest:
            return [here]
        if isinstance(rest[0], str):
            return walk(here[rest[0]], rest[1:]) if type(here) is dict and rest[0] in here else []
        if type(here) is not list:
            return []
        chosen = here if rest[0] is None else here[rest[0] : rest[0] + 1]
        return [found for one in chosen for found in walk(one, rest[1:])]

    return walk(value, steps)


def same(a, b) -> bool:
    return type(a) is type(b) and a == b


def holds(condition: dict, point_id, payload: dict) -> bool:
    if "has_id" in condition:
        return any(same(point_id, one) for one in condition["has_id"])
    if "key" not in condition:
        return brute(condition, point_id, payload)
    found = at(payload, condition["key"])
    if "is_empty" in condition:
        return all(value in (None, []) for value in found) == condition["is_empty"]
    elements = [e for value in found for e in (value if type(value) is list else [value]) if e is not None]
    if "range" in condition:
        numbers = [e for e in elements if type(e) in (int, float)]
        tests = {"gt": lambda v, b: v > b, "gte": lambda v, b: v >= b, "lt": lambda v, b: v < b, "lte": lambda v, b: v <= b}
        return any(all(tests[name](v, bound) for name, bound in condition["range"].items()) for v in numbers)
    ((kind, wanted),) = condition["match"].items()
    if kind == "value":
        return any(same(e, wanted) for e in elements)
    if kind == "any":
        return any(same(e, w) for e in elements for w in wanted)
    if kind == "except":
        return any(not any(same(e, w) for w in wanted) for e in elements)
    return any(type(e) is str and e.startswith(wanted) for e in elements)


def brute(filter: dict, point_id, payload: dict) -> bool:
    results = {name: [holds(c, point_id, payload) for c in filter.get(name, [])] for name in ("must", "should", "must_not")}
    at_least = filter.get("min_should")
    enough = at_least is None or sum(holds(c, point_id, payload) for c in at_least["conditions"]) >= at_least["min_count"]
    return all(results["must"]) and (not results["should"] or any(results["should"])) and not any(results["must_not"]) and enough


# ---- random payloads and filters ----


def random_value(rng: random.Random, depth: int = 2):
    kind = rng.random()
    if kind < 0.6 or not depth:
        return rng.choice([*TAGS, None])
    if kind < 0.9:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {name: random_value(rng, depth - 1) for name in rng.sample("dfx", rng.randrange(3))}


def random_payload(rng: random.Random) -> dict:
    payload = {name: random_value(rng) for name in ("a", "b", "g.h") if rng.random() < 0.8}
    if rng.random() < 0.7:
        payload["c"] = rng.choice([{"d": random_value(rng)}, [{"d": "x"}], "x"])
    if rng.random() < 0.7:
        payload["e"] = [rng.choice([{"f": random_value(rng)}, random_value(rng)]) for _ in range(rng.randrange(4))]
    return payload


def random_range(rng: random.Random) -> dict:
    bounds = [0, 1, 1.0, 1.5, -1, 2**53, 2**53 + 1, float(2**53), -(2**63), 2**64, 0.1, 2**70]
    return {name: rng.choice(bounds) for name in rng.sample(["gt", "gte", "lt", "lte"], rng.randint(1, 3))}


def random_condition(rng: random.Random, depth: int) -> dict:
    if depth and rng.random() < 0.35:
        return random_filter(rng, depth - 1)
    if rng.random() < 0.08:
        return {"has_id": rng.sample([*range(40), "id-1", "1"], rng.randrange(12))}
    strs, ints = [v for v in TAGS if type(v) is str], [v for v in TAGS if type(v) is int]
    several = lambda: (chosen := rng.choice([strs, ints])) and rng.sample(chosen, rng.randrange(len(chosen)))  # noqa: E731
    predicate = rng.choice(
        [
            lambda: {"match": {"value": rng.choice([v for v in TAGS if type(v) is not float])}},
            lambda: {"match": {"any": several()}},
            lambda: {"match": {"except": several()}},
            lambda: {"range": random_range(rng)},
            lambda: {"match": {"prefix": rng.choice(["", "x", "2024"])}},
            lambda: {"is_empty": rng.random() < 0.5},
        ]
    )
    return {"key": rng.choice(PATHS), **predicate()}


def random_filter(rng: random.Random, depth: int = 3) -> dict:
    filter: dict = {}
    for clause in ("must", "should", "must_not"):
        if rng.random() < 0.45:
            filter[clause] = [random_condition(rng, depth) for _ in range(rng.randrange(4))]
    if rng.random() < 0.2:
        filter["min_should"] = {
            "conditions": [random_condition(rng, depth) for _ in range(rng.randint(1, 4))],
            "min_count": rng.randint(1, 3),
        }
    return filter


@pytest.mark.parametrize("seed", range(20))
def test_program_evaluator_and_rules_agree_on_random_payloads_and_filters(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    points = {
        offset: (rng.choice([offset, str(offset), f"id-{offset}"]), random_payload(rng)) for offset in sorted(rng.sample(range(100), 40))
    }
    collection = NaiveCollection(points)
    sizes = set()
    for _ in range(60):
        filter = random_filter(rng)
        expected = {offset for offset, (one, payload) in points.items() if brute(filter, one, payload)}
        assert expected == {offset for offset in points if collection.test(parse(filter), offset)}, filter
        assert expected == collection.select(filter), filter
        assert parse(filter) == parse(parse(filter).to_dict())
        sizes.add(len(expected))
    assert len(sizes) > 5


# ---- what the program looks like ----


def test_a_filter_that_matches_everything_has_no_words():
    collection = collection_of({})
    for filter in (None, {}, {"must": []}, {"must_not": {"must_not": {}}}, {"should": [{}, {"has_vector": "title"}]}):
        program = collection.lower(filter)
        assert program.words.tolist() == []
        assert program.words.dtype == np.uint64
        assert not program.state_bound


def test_a_value_no_point_has_matches_nothing_without_asking_for_payloads():
    collection = collection_of({"a": "x"})
    filter = (F("a") == "unknown") & F("a").prefix("x")
    assert collection.lower(filter).words.tolist() == [2]
    assert collection.evaluated == []


def test_equality_becomes_a_tag_and_a_list_one_union():
    collection = collection_of({"a": "x"}, {"a": "y"}, {"a": 1})
    assert len(collection.lower(F("a") == "x").words) == 2
    words = collection.lower((F("a") == "x") | F("a").any_of("y", "unknown") | (F("a") == 1)).words.tolist()
    assert words[:2] == [4, 3]
    assert len(words) == 5


def test_the_same_condition_twice_is_evaluated_once():
    collection = collection_of({"a": "x"}, {"a": "y"})
    once = F("a") == "x"
    assert collection.lower(once).words.tolist() == collection.lower({"must": [once, once], "should": [once, once]}).words.tolist()


def test_a_condition_and_its_opposite_are_nothing_or_everything():
    collection = collection_of({"a": "x"}, {"a": "y"})
    one = F("a") == "x"
    assert collection.lower(one & ~one).words.tolist() == [2]
    assert collection.lower(one | ~one).words.tolist() == []


def test_the_tighter_of_two_bounds_counts():
    collection = collection_of(*({"n": n} for n in (1, 2, 2.5, 3, 4)))
    assert {6} == collection.select({"key": "n", "range": {"gt": 2, "gte": 2.75, "lt": 4, "lte": 4}})
    assert {5, 6} == collection.select({"key": "n", "range": {"gt": 2, "gte": 2, "lte": 3}})
    for empty in ({"gt": 2, "lt": 2}, {"gte": 3, "lt": 3}, {"gt": 3, "lte": 2}):
        assert collection.lower({"key": "n", "range": empty}).words.tolist() == [2]


def test_integers_beyond_the_precision_of_doubles_are_compared_exactly():
    numbers = [2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**53) - 1, 1e300, -1e300]
    collection = collection_of(*({"n": n} for n in numbers))
    for bound in [*numbers, 2**64, 2**1023, -(2**1023), 2**1024 - 1, float(2**53), float("inf"), float("-inf"), 0.1]:
        for name, expected in {
            "gt": {n for n in numbers if n > bound},
            "gte": {n for n in numbers if n >= bound},
            "lt": {n for n in numbers if n < bound},
            "lte": {n for n in numbers if n <= bound},
        }.items():
            found = collection.select({"key": "n", "range": {name: bound}})
            assert expected == {numbers[offset - 3] for offset in found}, (name, bound)


def test_a_range_without_bounds_asks_for_any_number():
    collection = collection_of({"n": 1}, {"n": "1"}, {"n": [None, 2.5]}, {"n": True}, {})
    assert {3, 5} == collection.select({"key": "n", "range": {}})


def test_long_unions_keep_the_stack_of_the_core_short():
    collection = collection_of(*({"n": n} for n in range(200)))
    filter = {"should": [{"key": "n", "range": {"gte": 2 * n, "lt": 2 * n + 1}} for n in range(100)]}
    words = collection.lower(filter).words.tolist()
    assert {offset + 3 for offset in range(0, 200, 2)} == collection.select(filter)
    assert max(count for op, count in pairwise(words) if op == 8) <= 16


def test_programs_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        collection_of({"a": "x"}).lower(F("a") == "x").words[0] = 1


# ---- what is left to the evaluator ----


def test_only_the_candidates_of_the_other_conditions_are_evaluated():
    collection = collection_of(*({"a": n % 10, "t": f"word{n % 3}"} for n in range(100)))
    assert {offset + 3 for offset in range(0, 100, 30)} == collection.select((F("a") == 0) & F("t").text("word0"))
    assert collection.evaluated == [10]


def test_alternatives_evaluate_only_what_is_not_decided_yet():
    collection = collection_of(*({"a": n % 10, "t": f"word{n % 3}"} for n in range(100)))
    filter = {"must": [{"key": "a", "range": {"lt": 5}}], "should": [F("a").any_of(0, 1), F("t").text("word0")]}
    expected = {n + 3 for n in range(100) if n % 10 < 5 and (n % 10 < 2 or n % 3 == 0)}
    assert expected == collection.select(filter)
    assert collection.evaluated == [30]


def test_below_must_not_the_candidates_are_what_the_rest_leaves():
    collection = collection_of(*({"a": n % 10, "t": f"word{n % 3}"} for n in range(100)))
    filter = {"must": [F("a") == 0], "must_not": [(F("a") < 5) & F("t").text("word0")]}
    assert {n + 3 for n in range(0, 100, 10) if n % 3} == collection.select(filter)
    assert collection.evaluated == [10]


def test_several_such_conditions_of_one_clause_are_evaluated_together():
    collection = collection_of(*({"t": f"word{n % 3}", "u": f"word{n % 2}"} for n in range(12)))
    assert {3, 9} == collection.select({"must": [F("t").text("word0"), F("u").prefix("w")], "must_not": [F("u").text("word1")]})
    assert collection.evaluated == [12]


def test_except_asks_the_evaluator_only_about_mixed_values():
    values = ["x", "y", ["x"], ["x", "y"], ["x", "z"], ["z", None], [], None, 1.5, {"k": 1}, ["x", 1.5], ["x", "x"]]
    collection = collection_of(*({"a": value} for value in values), {})
    found = collection.select(F("a").except_("x", "y"))
    assert [["x", "z"], ["z", None], 1.5, {"k": 1}, ["x", 1.5]] == [values[offset - 3] for offset in sorted(found)]
    assert collection.evaluated == [3]


def test_only_programs_with_offsets_are_bound_to_a_state():
    collection = collection_of({"a": "x", "t": "w"}, {"a": ["x", "y"]})
    assert not collection.lower((F("a") == "x") & (F("b") < 3)).state_bound
    assert not collection.lower(F("a").except_("z")).state_bound
    assert collection.lower(F("a").except_("x")).state_bound
    assert collection.lower(F.has_id([77])).state_bound
    assert collection.lower(F("t").text("nowhere")).state_bound


def test_ids_become_offsets_in_order():
    collection = NaiveCollection({9: ("b", {}), 4: (7, {}), 6: ("7", {})})
    assert [6, 2, 4, 9] == collection.lower(F.has_id([7, "b", "unknown"])).words.tolist()


def test_keys_names_what_must_be_indexed():
    node = parse(
        {"must": [F("a") == 1, F("n") < 3, F("o").nested(F("x") == 1)], "should": [F("b[].c").except_("x"), F("t") < "2024-01-01"]}
    )
    tag_keys, number_keys = keys(node)
    assert {"a", "b[].c"} == {str(key) for key in tag_keys}
    assert {"n"} == {str(key) for key in number_keys}


def test_the_deepest_filter_lowers():
    collection = collection_of({"a": "x", "t": "w"}, {"a": "y", "t": "w"})
    filter: Iterable = {"must": [F("a") == "x", F("t").text("w")]}
    for _ in range(60):
        filter = {"must_not": [filter]}
    assert {3} == collection.select(filter)


def test_a_duck_typed_resolver_is_enough():
    resolver = SimpleNamespace(tag=lambda key, term: 5, column=lambda key: 0, offsets=lambda ids: [], evaluate=lambda node, candidates: [])
    assert [3, 5] == lower(parse(F("a") == 1), resolver).words.tolist()
