"""How a sample review travels: as plain JSON or as a CloudEvent, and the ways in which it arrives broken.

phrases → [envelopes] → samples
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

Headers = tuple[tuple[str, bytes | None], ...]

SOURCE = "/shop/reviews"
TYPE = "com.example.review.submitted.v1"


def wrapped(rng: Random, review: Mapping[str, Any]) -> tuple[bytes, Headers]:
    """Value and headers: most producers write plain JSON, some trace, some speak CloudEvents in either mode."""
    mode = rng.choices(("plain", "traced", "binary", "structured"), (70, 12, 12, 6))[0]
    if mode == "plain":
        return as_json(review), ()
    trace = f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01".encode()
    if mode == "traced":
        return as_json(review), (("traceparent", trace),)
    event_id = str(review["event_id"])
    if mode == "structured":
        envelope = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": TYPE, "data": review}
        return as_json(envelope), (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": SOURCE,
        "ce_type": TYPE,
        "ce_subject": str(review["review_id"]),
        "ce_market": rng.choice(("eu", "asia", "americas")),
        "content-type": "application/json",
    }
    return as_json(review), (*((name, text.encode()) for name, text in headers.items()), ("traceparent", trace))


def as_json(content: Any) -> bytes:
    """Compact JSON, as a producer writes it."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def broken(review: Mapping[str, Any], number: int) -> tuple[bytes | None, str]:
    """A value that is no review any more, and what was done to it; each way in turn."""
    note = list(_BREAKS)[number % len(_BREAKS)]
    return _BREAKS[note](review), note


def _cut_short(review: Mapping[str, Any]) -> bytes:
    whole = as_json(review)
    return whole[: len(whole) * 2 // 3]


def _without_id(review: Mapping[str, Any]) -> bytes:
    return as_json({name: value for name, value in review.items() if name != "review_id"})


def _latin_1(review: Mapping[str, Any]) -> bytes:
    return as_json({**review, "text": "Tr~s bon, tr~s l~ger, je recommande."}).replace(b"~", b"\xe8")


_BREAKS: dict[str, Callable[[Mapping[str, Any]], bytes | None]] = {
    "broken json": _cut_short,
    "no json": lambda review: f"{review['review_id']};{review['rating']};{review['product_id']}".encode(),
    "wrong schema: rating": lambda review: as_json({**review, "rating": "five stars"}),
    "wrong schema: text": lambda review: as_json({**review, "text": [review["text"]]}),
    "wrong schema: no review id": _without_id,
    "wrong schema: no object": lambda review: as_json([review["text"]]),
    "not utf-8": _latin_1,
    "empty text": lambda review: as_json({**review, "text": ""}),
    "blank text": lambda review: as_json({**review, "text": " \u200b\n\t"}),
    "empty value": lambda _: b"",
    "tombstone": lambda _: None,
}
