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
from filter_samples import random_condition as any_condition
from filter_samples import random_filter as any_filter
from filter_samples import random_payload as any_payload

from vecdb.filters import F, GeoPoint, Program, keys, lower, matches, parse, terms
from vecdb.filters.geo import distance, in_box, in_polygon
from vecdb.filters.leaves import MOST_PREFIXED

TAGS = ["x", "y", "z", "1", 0, 1, 2, True, False, 1.0, 2.5, 2**53, 2**53 + 1, -(2**63), "2024-02-29T10:00:00Z"]
PATHS = ["a", "b", "c.d", "e[]", "e[].f", "e[0].f", '"g.h"']


# ---- a naive core ----


def number_of(bits, rest):
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value, rest - 2**64 if rest >= 2**63 else rest


def degree_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def is_in_area(shape: int, operands: list[int], point: GeoPoint) -> bool:
    if shape == 1:
        lat, lon, metres = map(degree_of, operands)
        return distance(GeoPoint(lat, lon), point) < metres
    if shape == 2:
        top, left, bottom, right = map(degree_of, operands)
        return in_box(point, GeoPoint(top, left), GeoPoint(bottom, right))
    assert shape == 3
    rings = []
    while operands:
        size, operands = operands[0], operands[1:]
        degrees = list(map(degree_of, operands[: 2 * size]))
        rings.append([GeoPoint(*degrees[i : i + 2]) for i in range(0, 2 * size, 2)])
        operands = operands[2 * size :]
    return in_polygon(point, rings[0], rings[1:])


def run(program: Program, live: set[int], tags: dict[int, set[int]], columns: dict[int, list]) -> set[int]:
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
        elif op == 11:
            column, shape = next(words), next(words)
            operands = [next(words) for _ in range(next(words))]
            stack.append({offset for offset, point in columns[column] if offset in live and is_in_area(shape, operands, point)})
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
        self.column_of: dict[tuple, int] = {}
        self.indexed: set[tuple] = set()
        self.without: set[str] = set()
        self.evaluated: list[int] = []

    def index(self, node) -> None:
        for key, kind in sorted(keys(node) - self.indexed, key=str):
            if kind in self.without:
                continue
            self.indexed.add((key, kind))
            given = [(offset, one) for offset, (_, payload) in self.points.items() for one in terms(payload, key, [kind])[kind]]
            if kind in ("tags", "words", "presence"):
                for offset, term in given:
                    tag = self.dictionary.setdefault((str(key), kind, *term), len(self.dictionary) + 7)
                    self.tagged.setdefault(tag, set()).add(offset)
            else:
                self.column_of[key, kind] = len(self.columns)
                self.columns.append(given)

    def has(self, key, kind):
        return (key, kind) in self.indexed

    def tag(self, key, kind, term):
        assert (key, kind) in self.indexed
        return self.dictionary.get((str(key), kind, *term))

    def prefixed(self, key, prefix, most):
        assert most == MOST_PREFIXED
        assert (key, "tags") in self.indexed
        return [tag for name, tag in self.dictionary.items() if name[:3] == (str(key), "tags", "str") and name[3].startswith(prefix)]

    def column(self, key, kind):
        return self.column_of[key, kind]

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


@pytest.mark.parametrize("seed", range(20))
def test_program_and_evaluator_agree_on_every_kind_of_condition(seed):
    """
    Whatever of the indexes is there; rarely much is decided payload by payload.
    """
    print(f"seed {seed}")
    rng = random.Random(seed)
    points = {offset: (offset, any_payload(rng)) for offset in sorted(rng.sample(range(100), 40))}
    collection = NaiveCollection(points)
    collection.without = set(rng.sample(["words", "points", "counts", "tags", "times"], rng.choice([0, 0, 0, 2])))
    for _ in range(60):
        filter = any_filter(rng) if rng.random() < 0.5 else any_condition(rng, 0)
        assert {offset for offset in points if collection.test(parse(filter), offset)} == collection.select(filter), filter
        assert parse(filter) == parse(parse(filter).to_dict())


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


def test_times_are_decided_by_their_column_but_for_bounds_finer_than_nanoseconds():
    texts = ["2024-01-01T00:00:00.0000000001Z", "2024-01-01T00:00:00.0000000002Z", "2024-01-01T00:00:00.0000000003Z", "2024-01-01"]
    collection = collection_of(*({"t": text} for text in [*texts, "2024-01-01T00:00:00.000000001Z", "2024-01-01T01:00:00+01:00"]))
    for bound, name, expected in (
        ("2024-01-01", "gt", {3, 4, 5, 7}),
        ("2024-01-01", "lte", {6, 8}),
        ("2024-01-01T00:00:00.000000001", "lt", {3, 4, 5, 6, 8}),
        ("2024-01-01T00:00:00.000000001", "gte", {7}),
    ):
        assert expected == collection.select({"key": "t", "range": {name: bound}})
    assert collection.evaluated == []
    assert {5, 7} == collection.select({"key": "t", "range": {"gt": texts[1]}})
    assert {3, 4, 6, 8} == collection.select({"key": "t", "range": {"lte": texts[1]}})
    assert {4} == collection.select({"key": "t", "range": {"gt": texts[0], "lt": texts[2]}})
    assert collection.evaluated == [3, 3, 3]


def test_words_are_looked_for_in_payloads_only_where_there_are_several_texts():
    collection = collection_of({"t": "one two"}, {"t": ["one", "two"]}, {"t": ["two one", 3]}, {"t": ["x", "one two"]}, {"t": "one"})
    assert {3, 5, 6} == collection.select(F("t").text("two one two"))
    assert collection.evaluated == [2]
    assert {3, 4, 5, 6, 7} == collection.select(F("t").text("one")) == collection.select(F("t").phrase("one"))
    assert {3, 4, 5, 6} == collection.select(F("t").text_any("two three"))
    assert set() == collection.select(F("t").text("-")) == collection.select(F("t").text_any(""))
    assert collection.evaluated == [2]
    assert {3, 6} == collection.select(F("t").phrase("one two"))
    assert collection.evaluated == [2, 4]


def test_nested_conditions_read_the_payloads_that_have_all_values_somewhere():
    values = [[{"x": 1, "y": 2}], [{"x": 1}, {"y": 2}], {"x": 1, "y": 2}, [{"x": 1}], [[{"x": 1, "y": 2}]], [{"x": [1], "y": [3, 2]}]]
    collection = collection_of(*({"a": value} for value in values))
    assert {3, 4, 6, 8} == collection.select(F("a").nested(F("x") == 1))
    assert collection.evaluated == []
    assert {3, 8} == collection.select(F("a").nested((F("x") == 1) & (F("y") < 3)))
    assert collection.evaluated == [3]
    assert {4, 6} == collection.select(F("a").nested((F("x") == 1) & ~(F("y") == 2)))
    assert collection.evaluated == [3, 4]
    assert {4, 6} == collection.select(F("a").nested((F("x") == 1) & F("y").is_empty()))


def test_presence_counts_and_areas_ask_for_no_payload():
    collection = collection_of({"a": None}, {"a": []}, {"a": [None]}, {"a": [1, 2]}, {}, {"a": {"lat": 10, "lon": 5}}, {"a": "x"})
    for filter, expected in (
        (F("a").is_empty(), {3, 4, 7}),
        (F("a").is_null(), {3, 5}),
        (~F("a").is_null(), {4, 6, 7, 8, 9}),
        (F("a").count >= 1, {5, 6, 8, 9}),
        (F("a").count <= 1, {3, 4, 5, 7, 8, 9}),
        (F("a").geo_radius(10, 5.1, 20_000), {8}),
        (F("a").geo_box((11, 4), (9, 6)), {8}),
        (F("a").geo_polygon([(0, 0), (0, 9), (90, 9), (0, 0)]), {8}),
        (F("a").prefix(""), {9}),
    ):
        assert expected == collection.select(filter)
        assert not collection.lower(filter).state_bound
    assert collection.evaluated == []


def test_only_the_candidates_of_the_other_conditions_are_evaluated():
    collection = collection_of(*({"a": n % 10, "t": f"word{n % 3}"} for n in range(100)))
    collection.without = {"words"}
    assert {offset + 3 for offset in range(0, 100, 30)} == collection.select((F("a") == 0) & F("t").text("word0"))
    assert collection.evaluated == [10]


def test_alternatives_evaluate_only_what_is_not_decided_yet():
    collection = collection_of(*({"a": n % 10, "t": f"word{n % 3}"} for n in range(100)))
    collection.without = {"words"}
    filter = {"must": [{"key": "a", "range": {"lt": 5}}], "should": [F("a").any_of(0, 1), F("t").text("word0")]}
    expected = {n + 3 for n in range(100) if n % 10 < 5 and (n % 10 < 2 or n % 3 == 0)}
    assert expected == collection.select(filter)
    assert collection.evaluated == [30]


def test_below_must_not_the_candidates_are_what_the_rest_leaves():
    collection = collection_of(*({"a": n % 10, "t": f"word{n % 3}"} for n in range(100)))
    collection.without = {"words"}
    filter = {"must": [F("a") == 0], "must_not": [(F("a") < 5) & F("t").text("word0")]}
    assert {n + 3 for n in range(0, 100, 10) if n % 3} == collection.select(filter)
    assert collection.evaluated == [10]


def test_several_such_conditions_of_one_clause_are_evaluated_together():
    collection = collection_of(*({"t": f"word{n % 3}", "u": f"word{n % 2}"} for n in range(12)))
    collection.without = {"words", "tags"}
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
    assert not collection.lower(F("t").text("nowhere")).state_bound
    assert collection.lower(F("t").nested(~(F("x") == 1))).state_bound


def test_ids_become_offsets_in_order():
    collection = NaiveCollection({9: ("b", {}), 4: (7, {}), 6: ("7", {})})
    assert [6, 2, 4, 9] == collection.lower(F.has_id([7, "b", "unknown"])).words.tolist()


def test_keys_names_what_must_be_indexed():
    node = parse(
        {
            "must": [F("a") == 1, F("n") < 3, F("o").nested(F("x") == 1), F("w").text("two words"), F("w").text("-"), F("w").prefix("t")],
            "should": [F("b[].c").except_("x"), F("t") < "2024-01-01", F("p").geo_radius(1, 2, 3), F("q").count > 1],
            "must_not": [F("e").is_empty(), F("e").is_null(), F.has_id([1]), F.has_vector("v")],
        }
    )
    assert {
        ("a", "tags"),
        ("n", "numbers"),
        ("w", "words"),
        ("w", "tags"),
        ("b[].c", "tags"),
        ("t", "times"),
        ("p", "points"),
        ("q", "counts"),
        ("q", "presence"),
        ("e", "presence"),
        ("o[].x", "tags"),
    } == {(str(key), kind) for key, kind in keys(node)}


def test_the_deepest_filter_lowers():
    collection = collection_of({"a": "x", "t": "w"}, {"a": "y", "t": "w"})
    filter: Iterable = {"must": [F("a") == "x", F("t").text("w")]}
    for _ in range(60):
        filter = {"must_not": [filter]}
    assert {3} == collection.select(filter)


def test_a_duck_typed_resolver_is_enough():
    resolver = SimpleNamespace(
        has=lambda key, kind: True,
        tag=lambda key, kind, term: 5,
        prefixed=lambda key, prefix, most: None,
        column=lambda key, kind: 0,
        offsets=lambda ids: [],
        evaluate=lambda node, candidates: [],
    )
    assert [3, 5] == lower(parse(F("a") == 1), resolver).words.tolist()
