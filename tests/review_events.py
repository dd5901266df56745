"""What the tests must know of sample reviews as they stand in the log."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from penstock import Erase, Record
from penstock.codecs import Undecodable, decode
from review_moderation import Review


def erasable(events: Sequence[Record]) -> int:
    """Events of reviews that are deleted later: where they were still in flight then, they have no ending."""
    written: list[str] = []
    deleted: set[str] = set()
    for event in events:
        if event.value is None:
            continue
        try:
            with contextlib.suppress(Undecodable):
                written.append(decode(event, Review).review_id)
        except Erase as erase:
            deleted.add(erase.subject)
    return sum(review in deleted for review in written)
