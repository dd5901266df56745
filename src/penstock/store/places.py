"""The place of a row in the console's lists, as their addresses have it.

web/pages → [places] → queries
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

Kind = Literal["verdict", "letter"]
RANKS: dict[Kind, int] = {"verdict": 1, "letter": 0}
MOST_CHARS = 32_768
"""Of an address's place: names of tasks and events are far shorter."""


class Cursor(NamedTuple):
    """The place of a row in the order of the lists: by time, verdicts behind letters of the same moment, then by name."""

    at: datetime
    kind: Kind
    task: str
    id: str

    @property
    def order(self) -> tuple[Any, ...]:
        """To compare places by."""
        return self.at, RANKS[self.kind], self.task, self.id

    def earlier(self, seconds: float) -> Cursor:
        """So many seconds before it."""
        try:
            return self._replace(at=self.at - timedelta(seconds=seconds))
        except OverflowError:  # time begins with year 1
            return self

    def text(self) -> str:
        """For a URL."""
        content = json.dumps([self.at.astimezone(UTC).isoformat(), *self[1:]]).encode()
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    @classmethod
    def of(cls, text: str) -> Cursor:
        """The reverse. Raises `ValueError` where it is none, or none that a database could be asked for."""
        if len(text) > MOST_CHARS:
            raise ValueError("no place in a list: it is too long")
        try:
            at, kind, task, name = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            made = cls(datetime.fromisoformat(at).astimezone(UTC), kind, str(task), str(name))
            names = (made.task + made.id).encode()
        except (binascii.Error, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError("no place in a list") from error
        if not isinstance(kind, str) or kind not in RANKS or b"\0" in names:
            raise ValueError("no place in a list")
        return made
