"""
Compare ways to store payloads: msgspec's MessagePack (what vecdb uses), stdlib json, and ormsgpack where it is
installed.

Prints one table: microseconds to encode and to decode a payload, and its bytes, for three shapes of payload. Times
are the best of several rounds over the same payloads, one after the other in one run; the column `vecdb` is
`vecdb.storage.codec`, that is msgspec with the checks for depth and kinds. Run: python benchmarks/payload_codec.py
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vecdb.storage import codec

ROUNDS = 7
COUNT = 5000
SEED = 1


def flat(rng: random.Random) -> dict[str, Any]:
    """
    Return the payload of a shop's product.
    """
    return {
        "city": rng.choice(["London", "Berlin", "Paris"]),
        "price": rng.random() * 100,
        "count": rng.randrange(1000),
        "sold": rng.random() < 0.5,
        "title": "word " * rng.randrange(1, 8),
    }


def nested(rng: random.Random) -> dict[str, Any]:
    """
    Return a payload with lists and dicts inside.
    """
    return {
        "tags": [f"tag{rng.randrange(100)}" for _ in range(8)],
        "place": {"lat": rng.uniform(-90, 90), "lon": rng.uniform(-180, 180)},
        "reviews": [{"stars": rng.randrange(6), "by": "someone"} for _ in range(4)],
    }


def text(rng: random.Random) -> dict[str, Any]:
    """
    Return the payload of a chunk of a document.
    """
    return {"text": " ".join(f"word{rng.randrange(5000)}" for _ in range(200)), "page": rng.randrange(300)}


def microseconds(call: Callable[[Any], Any], values: list[Any]) -> float:
    """
    Return the time of one call, the best of some rounds over all values.
    """
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for value in values:
            call(value)
        best = min(best, time.perf_counter() - start)
    return best / len(values) * 1e6


def codecs() -> dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]]:
    """
    Return name -> (encode, decode) of what is installed.
    """
    found: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
        "vecdb": (codec.encode_payload, codec.decode_payload),
        "msgspec": (msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(dict[str, Any]).decode),
        "json": (lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), json.loads),
    }
    try:
        import ormsgpack
    except ImportError:
        print("ormsgpack is not installed and is left out: pip install ormsgpack")
    else:
        found["ormsgpack"] = (ormsgpack.packb, ormsgpack.unpackb)
    return found


def main() -> None:
    """
    Print the table.
    """
    rng = random.Random(SEED)
    found = codecs()
    print(f"{'payload':10} {'codec':10} {'encode us':>10} {'decode us':>10} {'bytes':>8}")
    for shape in (flat, nested, text):
        payloads = [shape(rng) for _ in range(COUNT)]
        for name, (encode, decode) in found.items():
            encoded = [encode(payload) for payload in payloads]
            assert payloads == [decode(data) for data in encoded], f"{name} does not give back what it took"
            size = sum(map(len, encoded)) / COUNT
            print(f"{shape.__name__:10} {name:10} {microseconds(encode, payloads):10.2f} {microseconds(decode, encoded):10.2f} {size:8.0f}")


if __name__ == "__main__":
    main()
