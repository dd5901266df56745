"""A day of shop reviews, written for this project: what a demo, a soak test or a first look runs on.

phrases → [samples] → producers → review-events
The key of a record is the product: raids and campaigns aim at products, and edits of a review follow it in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import accumulate
from random import Random
from typing import Any, Literal, NamedTuple

from review_moderation import phrases
from review_moderation.envelopes import Headers, broken, wrapped
from review_moderation.phrases import Draft, Product

Planted = Literal["clean", "spam", "abuse", "fake", "injection", "duplicate", "edit", "malformed"]
Content = Literal["clean", "spam", "abuse", "fake", "injection", "malformed"]
Ending = Literal["result", "dead_letter", "skip"]

DAY_MS = 86_400_000
FIRST_DAY = date(2026, 11, 2)

_HOUR_MS = 3_600_000
_MINUTE_MS = 60_000
# Reviews per hour of the day, in proportion: people write at lunch and in the evening.
_HOURS = (8, 5, 3, 2, 2, 4, 10, 20, 32, 40, 45, 46, 48, 50, 46, 44, 46, 52, 60, 70, 72, 58, 36, 18)


class SampleEvent(NamedTuple):
    """One record to produce, and what was planted in it: for the demo's judge only, never sent."""

    at_ms: int
    """Milliseconds since midnight; the day is in this order."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    event_id: str
    planted: Planted
    content: Content
    """What the text is: of a duplicate, what it repeats."""
    ending: Ending
    """How it must end: a malformed event as a dead letter, a tombstone or a deleted review as a skip."""
    note: str = ""
    """What is particular: `spam wave`, `broken json`, `control characters`, …"""


@dataclass(frozen=True, slots=True)
class _Wave:
    """Events of one kind that come together. `share` of the day's events between two times, on so many products."""

    content: Content
    note: str
    share: float
    first_ms: int
    last_ms: int
    products: int = 0


_WAVES = (
    _Wave("abuse", "abuse raid", 0.025, 16 * _HOUR_MS + 10 * _MINUTE_MS, 16 * _HOUR_MS + 50 * _MINUTE_MS, 1),
    _Wave("fake", "campaign", 0.045, 14 * _HOUR_MS, 14 * _HOUR_MS + 40 * _MINUTE_MS, 3),
    _Wave("spam", "spam wave", 0.045, 19 * _HOUR_MS, 20 * _HOUR_MS + 15 * _MINUTE_MS),
    # A newsletter, a lunch break and a television spot bring honest crowds, which must not look like a wave.
    _Wave("clean", "newsletter", 0.03, 10 * _HOUR_MS, 10 * _HOUR_MS + 12 * _MINUTE_MS),
    _Wave("clean", "lunch break", 0.03, 12 * _HOUR_MS + 20 * _MINUTE_MS, 12 * _HOUR_MS + 45 * _MINUTE_MS),
    _Wave("clean", "television spot", 0.03, 20 * _HOUR_MS + 15 * _MINUTE_MS, 20 * _HOUR_MS + 21 * _MINUTE_MS, 1),
)
_ALL_DAY: tuple[tuple[Content, float], ...] = (
    ("spam", 0.015), ("abuse", 0.01), ("fake", 0.01), ("injection", 0.012), ("malformed", 0.018),
)  # fmt: skip
_ODD = {"markup": 0.004, "control characters": 0.004, "long": 0.003, "null key": 0.002}
_DUPLICATES, _EDITS, _DELETED = 0.02, 0.02, 0.002


def day(seed: int = 0, events: int = 3200, on: date = FIRST_DAY) -> Iterator[SampleEvent]:
    """A day of so many events in their order of arrival. The same seed gives the same bytes."""
    return iter(_Day(seed, events, on).written())


class _Day:
    def __init__(self, seed: int, events: int, on: date) -> None:
        self.rng = Random(seed)
        self.events = events
        self.midnight = datetime(on.year, on.month, on.day, tzinfo=UTC)
        self.products = phrases.assortment(self.rng)
        self.popularity = list(accumulate(1 / rank**1.1 for rank in range(1, len(self.products) + 1)))
        self.hours = list(accumulate(_HOURS))
        self.broken = 0
        self.reviews: dict[str, tuple[dict[str, Any], Product]] = {}

    def written(self) -> list[SampleEvent]:
        """Waves first, then what happens all day, honest reviews to fill up, and what repeats or changes them."""
        written = [event for wave in _WAVES for event in self._wave(wave)]
        for content, share in _ALL_DAY:
            written += [self._event(content, self._any_time(), self._any_product()) for _ in range(self._count(share))]
        for note, share in _ODD.items():
            written += [self._odd(note) for _ in range(self._count(share))]
        repeated, edited, deleted = self._count(_DUPLICATES), self._count(_EDITS), self._count(_DELETED)
        missing = max(0, self.events - len(written) - repeated - edited - deleted)
        honest = [self._event("clean", self._any_time(), self._any_product()) for _ in range(missing)]
        written += honest
        sound = [event for event in written if event.content != "malformed"]
        written += [self._duplicate(event) for event in self.rng.sample(sound, min(repeated, len(sound)))]
        for number, event in enumerate(self.rng.sample(honest, min(edited + deleted, len(honest)))):
            written.append(self._edit(event, "deleted" if number < deleted else "edited"))
        written.sort(key=lambda event: event.at_ms)
        return written

    def _wave(self, wave: _Wave) -> list[SampleEvent]:
        products = self.rng.sample(self.products[: max(40, wave.products)], wave.products) if wave.products else None
        written = []
        for _ in range(self._count(wave.share)):
            product = self.rng.choice(products) if products else self._any_product()
            at_ms = int(self.rng.triangular(wave.first_ms, wave.last_ms))
            written.append(self._event(wave.content, at_ms, product, wave.note))
        return written

    def _event(self, content: Content, at_ms: int, product: Product, note: str = "") -> SampleEvent:
        if content == "malformed":
            return self._malformed(at_ms, product)
        compose = _COMPOSED[content]
        if note in ("abuse raid", "campaign"):
            compose = _COMPOSED[note]
        return self._sent(compose(self.rng, product), product, at_ms, content, note)

    def _odd(self, note: str) -> SampleEvent:
        """Unusual but sound: must be judged like any other."""
        product = self._any_product()
        event = self._sent(_COMPOSED[note](self.rng, product), product, self._any_time(), "clean", note)
        return event._replace(key=None) if note == "null key" else event

    def _malformed(self, at_ms: int, product: Product) -> SampleEvent:
        review = self._review(phrases.honest(self.rng, product), product, at_ms)
        value, note = broken(review, self.broken)
        self.broken += 1
        ending: Ending = "skip" if value is None else "dead_letter"
        # A tombstone under a product's key would delete what was said of all its reviews.
        key = str(review["review_id"] if value is None else product.id).encode()
        return SampleEvent(at_ms, key, value, (), review["event_id"], "malformed", "malformed", ending, note)

    def _duplicate(self, event: SampleEvent) -> SampleEvent:
        """The log delivers at least once: the same bytes again, seconds or minutes later."""
        at_ms = min(event.at_ms + self.rng.randint(1_000, 10 * _MINUTE_MS), DAY_MS - 1)
        return event._replace(at_ms=at_ms, planted="duplicate", note="redelivery")

    def _edit(self, event: SampleEvent, kind: str) -> SampleEvent:
        """The customer comes back to a review: the same review id under a new event id."""
        review, product = self.reviews[event.event_id]
        at_ms = min(event.at_ms + self.rng.randint(_MINUTE_MS, 6 * _HOUR_MS), DAY_MS - 1)
        later = phrases.honest(self.rng, product)
        changed = {
            **review,
            "event_id": self._id("evt"),
            "kind": kind,
            "text": f"{review['text']} Update: {later.text}",
            "created_at": self._written_at(at_ms),
        }
        value, headers = wrapped(self.rng, changed)
        ending: Ending = "skip" if kind == "deleted" else "result"
        return SampleEvent(
            at_ms, product.id.encode(), value, headers, changed["event_id"], "edit", "clean", ending, kind
        )

    def _sent(self, draft: Draft, product: Product, at_ms: int, content: Content, note: str) -> SampleEvent:
        review = self._review(draft, product, at_ms)
        self.reviews[review["event_id"]] = (review, product)
        value, headers = wrapped(self.rng, review)
        return SampleEvent(
            at_ms, product.id.encode(), value, headers, review["event_id"], content, content, "result", note
        )

    def _review(self, draft: Draft, product: Product, at_ms: int) -> dict[str, Any]:
        review = {
            "event_id": self._id("evt"),
            "kind": "created",
            "review_id": self._id("rev"),
            "product_id": product.id,
            "user_id": self._id("usr"),
            "rating": draft.rating,
            "title": draft.title,
            "text": draft.text,
            "language": draft.language,
            "created_at": self._written_at(at_ms),
        }
        return {name: value for name, value in review.items() if value is not None}

    def _written_at(self, at_ms: int) -> str:
        """A moment before it arrives; one in a hundred was held up on a phone without a network."""
        late_ms = self.rng.randint(0, 2 * _HOUR_MS) if self.rng.random() < 0.01 else self.rng.randint(50, 3_000)
        moment = self.midnight + timedelta(milliseconds=at_ms - late_ms)
        return moment.isoformat(timespec="milliseconds")

    def _any_time(self) -> int:
        hour = self.rng.choices(range(24), cum_weights=self.hours)[0]
        return hour * _HOUR_MS + self.rng.randrange(_HOUR_MS)

    def _any_product(self) -> Product:
        return self.rng.choices(self.products, cum_weights=self.popularity)[0]

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{self.rng.getrandbits(64):016x}"

    def _count(self, share: float) -> int:
        return round(self.events * share)


_COMPOSED: dict[str, Callable[[Random, Product], Draft]] = {
    "clean": phrases.honest,
    "spam": phrases.spam,
    "abuse": phrases.abuse,
    "fake": phrases.fake,
    "injection": phrases.injection,
    "abuse raid": partial(phrases.abuse, raid=True),
    "campaign": partial(phrases.fake, campaign=True),
    "markup": phrases.with_markup,
    "control characters": phrases.with_control_characters,
    "long": partial(phrases.honest, clauses=60),
    "null key": phrases.honest,
}
