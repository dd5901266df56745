"""After the day: the system runs on, and what becomes of events that somebody sends is told as it happens.

run → [stay] → terminal
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import LogUnavailable

if TYPE_CHECKING:
    from penstock.demo.crew import Crew
    from penstock.demo.ending import Interruption
    from penstock.demo.page import Page
    from penstock.demo.watch import Picture, Watch

LOOK_SECONDS = 0.5


async def stay(watch: Watch, crew: Crew, interruption: Interruption, say: Page) -> None:
    """Until somebody ends it; raises where a role cannot go on."""
    told = watch.noted
    while not interruption.happened:
        if crew.failed.done():
            crew.failed.result()
        try:
            await watch.look()
        except LogUnavailable as weather:
            watch.note(str(weather))
        for note in watch.notes[-(watch.noted - told) :] if watch.noted > told else ():
            say.text(note.strip())
        told = watch.noted
        await interruption.wait(LOOK_SECONDS)


def print_farewell(say: Page, picture: Picture) -> None:
    """What came after the day, and whether it holds."""
    events = picture.findings.events
    endings = sum(row.found.ended + row.found.skipped for row in picture.rows)
    say.text(
        f"{events:,} events, {picture.guests:,} besides the demo's own: {endings:,} of {events * len(picture.rows):,} ended"
    )
    say.text(f"{picture.lost:,} lost, {picture.doubled:,} doubled; {picture.delivered.webhooks:,} webhooks verified")
