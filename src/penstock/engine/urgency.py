"""What an event says about its own urgency: the headers `penstock.priority` and `penstock.deadline`.

record → [urgency] → reader → line
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from penstock.tier import HIGH, LOW, NORMAL

if TYPE_CHECKING:
    from penstock.record import Headers

PREFIX = "penstock."
PRIORITY = "penstock.priority"
DEADLINE = "penstock.deadline"
_PRIORITIES = {b"high": HIGH, b"normal": NORMAL, b"low": LOW}
_UNIX_MS = re.compile(rb"[1-9]\d{12}")
"""From 2001 to 2286: whoever wrote seconds or nanoseconds is not taken at his word."""


class Urgency(NamedTuple):
    """What the headers of one event say."""

    priority: int = NORMAL
    deadline_ms: int = 0
    """Unix time in milliseconds; 0: none."""
    ignored: tuple[str, ...] = ()
    """Headers that mean nothing: the event is treated as if it had none of them."""


def urgency_of(headers: Headers) -> Urgency:
    """Never an error: an event is not lost for what its producer wrote here. Of a repeated header the last counts."""
    priority, deadline_ms = NORMAL, 0
    ignored: dict[str, None] = {}
    for name, value in headers:
        if not name.startswith(PREFIX):
            continue
        if name == PRIORITY:
            found = _PRIORITIES.get((value or b"").strip().lower())
            priority = NORMAL if found is None else found
            _note(ignored, name, is_wrong=found is None)
        elif name == DEADLINE:
            text = (value or b"").strip()
            is_time = _UNIX_MS.fullmatch(text) is not None
            deadline_ms = int(text) if is_time else 0
            _note(ignored, name, is_wrong=not is_time)
    return Urgency(priority, deadline_ms, tuple(ignored))


def _note(ignored: dict[str, None], name: str, *, is_wrong: bool) -> None:
    if is_wrong:
        ignored[name] = None
    else:
        ignored.pop(name, None)
