"""The keys of the console, once: what the browser obeys, what the `?` sheet shows, and what a test presses.

[keyboard] → templates, static/console.js
"""

from __future__ import annotations

import json
from typing import NamedTuple


class Key(NamedTuple):
    """One key."""

    key: str
    """As the browser names it."""
    act: str
    """A function of `static/console.js`."""
    told: str
    shown: str = ""
    """What stands on it, where that is another."""

    @property
    def cap(self) -> str:
        """What stands on it."""
        return self.shown or self.key


KEYS = (
    Key("j", "next", "next row"),
    Key("k", "previous", "previous row"),
    Key("Enter", "open", "open the row", "↵"),
    Key("/", "search", "search"),
    Key(".", "show", "show what is new"),
    Key("n", "older", "older rows"),
    Key("g", "newest", "newest rows"),
    Key("u", "up", "up: from one event to the list"),
    Key("1", "overview", "overview"),
    Key("2", "events", "events"),
    Key("3", "letters", "dead letters"),
    Key("?", "help", "this sheet"),
    Key("Escape", "leave", "leave a field, close this sheet", "esc"),
)


def table() -> str:
    """For the browser: acts by key."""
    return json.dumps({one.key: one.act for one in KEYS})
