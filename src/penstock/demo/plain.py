"""Progress where there is no terminal: a line every few seconds.

watch → [plain] → pipe, file
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.demo.text import dollars

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.demo.watch import Picture

LINE_SECONDS = 3.0


class PlainLines:
    """One line per moment and nothing that moves; notes as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._noted = 0

    def open(self) -> None:
        """Nothing to prepare."""

    def tell(self, lines: Sequence[str]) -> None:
        """Several lines."""
        for text in lines:
            self._print(text)

    def say(self, text: str) -> None:
        """Before there is a picture."""
        self._print(text)

    def show(self, picture: Picture) -> None:
        """What is new, if it is time."""
        for note in picture.notes[-(picture.noted - self._noted) :] if picture.noted > self._noted else ():
            self._print(note.strip())
        self._noted = picture.noted
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            self._print(line(picture))

    def close(self) -> None:
        """Nothing to give back."""

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)


def line(picture: Picture) -> str:
    """One moment in one line; every number with its word."""
    total = f"/{picture.total:,}" if picture.total is not None else ""
    groups = "; ".join(
        f"{r.name} {r.found.ended + r.found.skipped:,} done, lag {r.lag:,}, {r.per_second:.0f}/s" for r in picture.rows
    )
    in_flight = f", {picture.calls_in_flight} calls in flight" if picture.calls_in_flight is not None else ""
    limit = f"; {picture.limit}" if picture.limit else ""
    delivered = picture.delivered
    refused = f", {delivered.refused:,} refused" if delivered.refused else ""
    again = f", {picture.paid_again:,} paid again" if picture.paid_again is not None else ""
    return (
        f"{picture.seconds:4.0f} s  {picture.sent:,}{total} events; {groups}{in_flight}{limit}; "
        f"{picture.dead_letters:,} dead letters; {dollars(picture.spent_nanousd)} "
        f"(one call per event {dollars(picture.tally.single_nanousd)}); "
        f"{picture.lost:,} lost, {picture.doubled:,} doubled{again}; {picture.guests:,} events over HTTP; "
        f"{delivered.rows:,} rows, {delivered.webhooks:,} webhooks, {delivered.digests:,} digests{refused}"
    )


class Silence:
    """For who asked for quiet: nothing until the summary."""

    def open(self) -> None:
        """Nothing."""

    def tell(self, lines: Sequence[str]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def show(self, picture: Picture) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
