"""The shipped moderator under names of a run's own, and events to moderate: a made-up day's, evenly mixed.

review_moderation → [moderation] → classes
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice

from benchmarks.arrivals import Arrival
from benchmarks.tasks import RUN
from review_moderation.moderator import moderator_under
from review_moderation.policy import load_policy
from review_moderation.samples import day

by_moderator = moderator_under(
    load_policy(),
    name=f"bench-moderator{RUN}",
    reads=f"bench-events{RUN}",
    writes=f"bench-moderator{RUN}-results",
    dead_letters=f"bench-moderator{RUN}-dlq",
    start_from="earliest",
)
DAY_EVENTS = 20_000


def reviews(events: int, first_day: int = 1) -> Iterator[Arrival]:
    """Those that get a result: what is malformed or deleted is never asked, redeliveries would be counted twice."""
    return islice(_endless(first_day), events)


def _endless(first_day: int) -> Iterator[Arrival]:
    for seed in count(first_day):
        found = [event for event in day(seed, DAY_EVENTS) if event.ending == "result" and event.planted != "duplicate"]
        random.Random(seed).shuffle(found)
        yield from (Arrival(event.event_id, event.key, event.value, list(event.headers)) for event in found)
