"""The tasks and events that the benchmarks run: reviews of about 300 bytes, a verdict with order and without.

`BENCH_RUN` in the environment gives a run topics of its own, `BENCH_POLICY` a longer prompt.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Literal

import orjson
from pydantic import BaseModel

from penstock import NewRecord, Route, Step, Task

RUN = os.environ.get("BENCH_RUN", "")
RULES = "Decide whether this customer review may be published, and what its sentiment is."
WORDS = [
    "kettle",
    "boils",
    "fast",
    "quiet",
    "lid",
    "handle",
    "plastic",
    "smell",
    "gift",
    "mother",
    "kitchen",
    "water",
    "base",
    "light",
    "red",
    "button",
    "month",
    "still",
    "works",
    "broke",
    "after",
    "second",
    "week",
    "seller",
    "answered",
    "refund",
    "quick",
    "box",
    "damaged",
    "colour",
    "nice",
    "small",
    "cup",
    "tea",
    "every",
    "morning",
    "price",
    "fair",
    "would",
    "buy",
    "again",
    "not",
    "sure",
]


class BenchReview(BaseModel):
    review_id: str
    product_id: str
    text: str
    rating: int | None = None


class Verdict(BaseModel):
    decision: Literal["publish", "hold", "reject"]
    sentiment: Literal["positive", "negative", "neutral"]
    reason: str = ""


def verdicts(order: Literal["none", "key"] = "none") -> Task[BenchReview, Verdict]:
    return Task(
        f"bench-{order}{RUN}",
        reads=f"bench-events{RUN}",
        input=BenchReview,
        output=Verdict,
        instructions=f"{RULES}\n{os.environ.get('BENCH_POLICY', '')}",
        route=Route(Step("haiku")),
        event_id="review_id",
        show={"text", "rating"},
        order=order,
        max_batch_items=50,
        start_from="earliest",
    )


by_none = verdicts("none")
by_key = verdicts("key")


def zipf_keys(count: int, products: int, exponent: float, rng: random.Random) -> list[int]:
    weights = [1 / (rank**exponent) for rank in range(1, products + 1)]
    return rng.choices(range(products), weights, k=count)


def events(count: int, *, seed: int = 1, products: int = 2_000, first: int = 0) -> Iterator[NewRecord]:
    """About 300 bytes each, all texts different, product keys by Zipf(1.1)."""
    rng = random.Random(seed)
    for number, product in enumerate(zipf_keys(count, products, 1.1, rng), first):
        text = " ".join(rng.choices(WORDS, k=34))
        value = {"review_id": f"r{number}", "product_id": f"p{product}", "text": text, "rating": rng.randint(1, 5)}
        yield NewRecord(f"bench-events{RUN}", f"p{product}".encode(), orjson.dumps(value))
