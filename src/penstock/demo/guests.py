"""Events that the demo did not send itself: they came over HTTP. The way of each is told, from its verdict to its deliveries.

judge, deliveries, receiver → [guests] → watch
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.deadletters.letter import Letter
from penstock.demo.producer import MARK
from penstock.demo.text import seconds
from penstock.record import Position, Record, header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.demo.receiver import Receiver

MOST_FOLLOWED = 20
"""At once; whoever sends more sees them counted."""
MOST_SHOWN = 40
HELD_BACK = ("reject", "hold")


@dataclass(frozen=True, slots=True)
class Guest:
    """One event on its way."""

    event_id: str
    task: str
    """Which answered."""
    is_flagged: bool
    """Slack is told of it."""


class Guests:
    """Follows the latest ones; `note` is told twice of each: what was decided, and where that arrived."""

    def __init__(
        self,
        moderator: str,
        receiver: Receiver,
        has_row: Callable[[str, str], Awaitable[bool]],
        note: Callable[[str], None],
        *,
        prefix: str = "",
    ) -> None:
        self.count = 0
        """Of this stretch."""
        self._moderator, self._prefix = moderator, prefix
        self._receiver, self._has_row = receiver, has_row
        self._note = note
        self._places: OrderedDict[Position, None] = OrderedDict()
        self._answered: dict[str, Guest] = {}

    def see_event(self, record: Record) -> None:
        """An event of the topic, as the judge reads it."""
        if header(record.headers, MARK) is not None:
            return
        self.count += 1
        self._places[Position(record.topic, record.partition, record.offset)] = None
        if len(self._places) > MOST_FOLLOWED:
            self._places.popitem(last=False)

    def see_ending(self, task: str, ending: dict[str, Any] | Letter) -> None:
        """A result or dead letter."""
        if isinstance(ending, Letter):
            if ending.source in self._places:
                self._note(f"{_shown(ending.event_id)}: {self._short(task)} buried it ({ending.reason})")
            return
        place = ending["source"]
        if Position(place["topic"], place["partition"], place["offset"]) not in self._places:
            return
        event_id, times, output = ending["event_id"], ending["times"], ending["output"]
        took = seconds(max(0, times["committed"] - times["produced"]))
        said = ", ".join([str(output.get("decision") or output.get("sentiment")), *output.get("violations", ())])
        self._note(f"{_shown(event_id)}: {self._short(task)} says {said} after {took}")
        if task == self._moderator:
            self._answered[event_id] = Guest(event_id, task, output.get("decision") in HELD_BACK)
            if len(self._answered) > MOST_FOLLOWED:
                del self._answered[next(iter(self._answered))]

    async def look(self) -> None:
        """Tell of those that have arrived everywhere."""
        receiver = self._receiver
        for guest in list(self._answered.values()):
            if guest.event_id not in receiver.latest_events:
                continue
            digest = ""
            if guest.is_flagged:
                if not any(line.startswith(f"{guest.event_id} · ") for line in receiver.latest_lines):
                    continue
                digest = ", Slack digest caught"
            if await self._has_row(guest.task, guest.event_id):
                del self._answered[guest.event_id]
                self._note(f"{_shown(guest.event_id)}: row written, webhook verified{digest}")

    def _short(self, task: str) -> str:
        return task.removeprefix(self._prefix)


def _shown(event_id: str) -> str:
    """It came from outside: nothing that moves a cursor."""
    return "".join(sign if sign.isprintable() else "?" for sign in event_id[:MOST_SHOWN])
