"""What a reply's headers say about the account's limits; what cannot be true is not believed.

client → [headers] → account
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.flow.base import KINDS, Kind

_MOST = 10**13
_LONGEST_RESET_SECONDS = 120.0
"""No bucket holds more than a minute's limit: what claims to fill for longer was not said by the API."""
_NAMES = [(kind, f"anthropic-ratelimit-{kind.replace('_', '-')}") for kind in KINDS]
_WHOLE = re.compile(r"[0-9]{1,14}")


class Seen(NamedTuple):
    """One limit as one reply showed it."""

    limit: int
    """Per minute."""
    remaining: int | None = None
    full_in_seconds: float | None = None
    """By the API's own clock; None where it does not say, or says what cannot be."""


def read_limits(headers: Mapping[str, str]) -> dict[Kind, Seen]:
    """The limits that a reply names, by kind; empty where a proxy took the headers away or made them up."""
    seen: dict[Kind, Seen] = {}
    now = server_time(headers)
    for kind, name in _NAMES:
        limit = _count(headers.get(name + "-limit"))
        if not limit:
            continue
        remaining = _count(headers.get(name + "-remaining"))
        if remaining is not None and remaining > limit:
            continue
        seen[kind] = Seen(limit, remaining, _full_in(headers.get(name + "-reset"), now))
    return seen


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The `date` of a reply: moments it names are compared with this, never with our own clock."""
    try:
        moment = email.utils.parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _count(text: str | None) -> int | None:
    if text is None or not _WHOLE.fullmatch(text.strip()):
        return None
    count = int(text)
    return count if count <= _MOST else None


def _full_in(reset: str | None, now: datetime | None) -> float | None:
    if reset is None or now is None:
        return None
    try:
        seconds = (datetime.fromisoformat(reset.strip()) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    # Made when the call was let in and dated when it was answered: a little past means that it is full.
    return max(seconds, 0.0) if -_LONGEST_RESET_SECONDS <= seconds <= _LONGEST_RESET_SECONDS else None
