"""The end of a demo, its way in and its ways out: what came over HTTP, and what arrived in database, webhook and Slack.

watch → [summary_delivered] → summary
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from penstock.demo.deliveries import DATABASE, SLACK, WEBHOOK
from penstock.demo.text import SIMULATED, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from penstock.demo.page import Page
    from penstock.demo.watch import Picture

SHOWN_LINES, SHOWN_SIGNS = 5, 74


def print_delivered(page: Page, picture: Picture, store: Path) -> None:
    """Counted on the other side: in the database, and by what received."""
    found = picture.delivered
    page.title("What was delivered", SIMULATED if picture.is_simulated else "")
    page.text(f"{found.rows:,} rows of verdicts in {store}")
    marked = f" ({found.simulated:,} simulated)" if picture.is_simulated else ""
    verdicts, erasures = f"{found.webhooks - found.erasures:,} verdicts{marked}", f"{found.erasures:,} erasures"
    page.text(f"{found.webhooks:,} webhooks verified: {verdicts}, {erasures}")
    page.text(
        "each signature checked with the standard's own library"
        + (f"; {found.repeats:,} came twice" * bool(found.repeats))
    )
    if spread := found.spread_ms():
        page.text(f"half came within {seconds(spread[0])} of the commit, 99 % within {seconds(spread[1])}")
    page.text(f"{found.digests:,} Slack digests caught" + (", of which the last said:" if found.last_digest else ""))
    for line in [part for text in found.last_digest for part in text.splitlines()][:SHOWN_LINES]:
        page.text(Text(f"  {line[:SHOWN_SIGNS]}", "dim"))
    if found.refused:
        page.text(f"{found.refused:,} messages without a right signature or form were refused", style="bold red")
    waiting = [(found.waits(sink), sink.partition(".")[0]) for sink in (DATABASE, WEBHOOK)]
    if late := ", ".join(f"{count:,} for the {name}" for count, name in waiting if count):
        page.text(f"still waiting in the log: {late}")
    if found.waits(SLACK):
        page.text("what came last is still held for a digest; the log keeps it")
    if picture.guests:
        page.text(f"came over HTTP, besides the demo's own events: {picture.guests:,}")


def print_entrance(page: Page, commands: Sequence[str]) -> None:
    """How somebody sends an event now."""
    page.title("The day is over, the system still runs: send a review of your own")
    for command in commands:
        page.text(Text(command, "cyan"))
    page.text("What becomes of it is told here. Ctrl-C ends it.")
