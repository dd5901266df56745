"""The end of a demo, for somebody who decides: what was flagged, how fast, at what cost, and where to look next.

watch → [summary] → terminal
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from shutil import which
from typing import TYPE_CHECKING

from rich.text import Text

from penstock.demo.options import DIRECTORY, KAFKA_DIRECTORY
from penstock.demo.page import Page, grid
from penstock.demo.pressure import BINDING_SHARE
from penstock.demo.summary_delivered import print_delivered, print_entrance
from penstock.demo.text import CALLED, DECISIONS, KINDS, SENTIMENTS, SIMULATED, counted, dollars, saving, seconds
from penstock.log.guarantee import label
from penstock.log.state import STATE_TOPIC

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.demo.place import Place
    from penstock.demo.watch import Picture
    from penstock.log.base import Guarantee
    from review_moderation.samples import Content, SampleEvent

OFFLINE = "A stand-in for Claude answered: its verdicts follow word lists."

PLANTED: dict[Content, str] = {
    "spam": "spam",
    "abuse": "abuse",
    "fake": "fake reviews",
    "injection": "orders to the model",
    "clean": "honest reviews",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What the summary knows beside the last picture."""

    place: Place
    kills: int
    is_finished: bool
    remarks: tuple[str, ...] = ()
    """What went wrong on the way, or must be known."""
    delivery: Guarantee = "exactly_once"
    commands: tuple[str, ...] = ()
    """To send an event of one's own, where the system runs on."""

    def is_promised(self, picture: Picture) -> bool:
        """Whether the log keeps what it promises: without transactions a worker's death may double endings."""
        is_once = not picture.doubled or self.delivery == "at_least_once"
        return is_once and not picture.lost and not picture.unproduced


def print_summary(console: Console, picture: Picture, planted: Iterable[SampleEvent] | None, ended: Ended) -> None:
    """All of it, below each other; 80 columns."""
    page = Page(console)
    _print_head(page, picture, ended)
    if planted is not None:
        _print_planted(page, picture, list(planted))
    else:
        _print_verdicts(page, picture)
    _print_speed(page, picture)
    _print_burst(page, picture)
    _print_cost(page, picture)
    print_delivered(page, picture, ended.place.store)
    _print_truth(page, picture, ended)
    for remark in ended.remarks:
        page.text(remark, style="yellow")
    _print_next(page, ended)
    if ended.commands:
        print_entrance(page, ended.commands)


def _print_head(page: Page, picture: Picture, ended: Ended) -> None:
    end = "every event has its ending" if ended.is_finished else "stopped on the way"
    page.title(f"{picture.title}: {end}", SIMULATED if picture.is_simulated else "")
    who = OFFLINE if picture.is_simulated else "The real Claude API answered; what it cost was paid."
    page.text(who)


def _print_planted(page: Page, picture: Picture, planted: list[SampleEvent]) -> None:
    tally = picture.tally
    page.title("What was flagged", SIMULATED if picture.is_simulated else "")
    table = grid(20, -7, -7, -5, -6, -6)
    table.add_row(*(Text(name, style="dim") for name in ("", "planted", "flagged", "", "held", "rejected")))
    expected = Counter(event.content for event in planted if event.ending == "result")
    for content, name in PLANTED.items():
        held, rejected = tally.flagged[content, "hold"], tally.flagged[content, "reject"]
        share = f"{(held + rejected) / expected[content] * 100:.0f} %" if expected[content] else ""
        table.add_row(name, f"{expected[content]:,}", f"{held + rejected:,}", share, f"{held:,}", f"{rejected:,}")
    page.table(table)
    unreadable = sum(event.ending == "dead_letter" for event in planted)
    passed_over = sum(event.ending == "skip" for event in planted)
    per_task = ", ".join(f"{row.found.dead_letters:,}" for row in picture.rows)
    again = Counter(event.planted for event in planted)
    page.text(f"among them {again['duplicate']:,} redeliveries and {again['edit']:,} edits, each judged for itself")
    page.text(f"malformed events: {unreadable:,} planted; dead letters per group: {per_task}")
    page.text(f"deleted reviews and tombstones: {passed_over:,} planted; passed over: {_each(picture, 'skipped')}")


def _each(picture: Picture, what: str) -> str:
    return ", ".join(f"{getattr(row.found, what):,}" for row in picture.rows)


def _print_verdicts(page: Page, picture: Picture) -> None:
    tally = picture.tally
    page.title("What was found", SIMULATED if picture.is_simulated else "")
    table = grid(14)
    for name, found, names in (
        ("decisions", tally.decisions, DECISIONS),
        ("violations", tally.violations, KINDS),
        ("sentiments", tally.sentiments, SENTIMENTS),
    ):
        table.add_row(
            name, "   ".join(f"{number:,} {CALLED.get(kind, kind)}" for kind, number in counted(found, names))
        )
    reasons: Counter[str] = Counter()
    for row in picture.rows:
        reasons.update(row.found.reasons)
    letters = "   ".join(f"{number:,} {reason}" for reason, number in reasons.most_common()) or "none"
    table.add_row("dead letters", letters)
    page.table(table)


def _print_speed(page: Page, picture: Picture) -> None:
    page.title("How fast", "from produced to committed")
    table = grid(20, -10, -10)
    table.add_row(*(Text(name, style="dim") for name in ("", "half in", "99 % in")))
    for row in picture.rows:
        found = picture.tally.latency_ms(row.task)
        table.add_row(row.name, *((seconds(ms) for ms in found) if found else ("-", "-")))
    page.table(table)


def _print_burst(page: Page, picture: Picture) -> None:
    """How the log took it, and which limit said how fast it went on."""
    found = picture.absorbed
    if found is None:
        return
    page.title(
        "The burst", f"{found.events:,} events in {found.seconds:.1f} s, {found.times:.0f} times as many as before"
    )
    if found.drained_seconds is None:
        page.text(f"{found.most_waiting:,} waited in the log at most, and some still do")
    else:
        page.text(
            f"{found.most_waiting:,} waited in the log at most; {found.drained_seconds:.0f} s after its begin they were answered"
        )
    if found.use is not None:
        bound = "bound" if found.use.share >= BINDING_SHARE else "were used most"
        saved = "some of it was saved up before; " if found.use.share > 1 else ""
        page.text(f"meanwhile {found.use} {bound}: {found.use.share:.0%} of the limit used,")
        page.text(f"{saved}{found.turned_away:,} of {found.calls:,} calls answered 429")


def _print_cost(page: Page, picture: Picture) -> None:
    spent, single = picture.spent_nanousd, picture.tally.single_nanousd
    results = sum(row.found.results for row in picture.rows)
    page.title("What it cost", "" if picture.paid_again is None else "at the real prices; nothing was paid")
    if results:
        page.text(f"{results:,} answers, {dollars(spent * 1000 // results)} per thousand")
    uncached = picture.tally.uncached_nanousd
    table = grid(-9, 40, -6)
    rows = ((spent, "here", ""), (single, "one call per event, its prompt read from the cache", saving(spent, single)),
            (uncached, "one call per event, nothing cached", saving(spent, uncached)))  # fmt: skip
    for nanousd, what, saved in rows:
        table.add_row(dollars(nanousd), what, Text(saved, style="green"))
    page.table(table)
    page.text("At least: same models, events and answers, by the tokens that were counted.", style="dim")


def _print_truth(page: Page, picture: Picture, ended: Ended) -> None:
    well = "Nothing lost, nothing doubled" if not picture.doubled else "Nothing lost; doubled as the delivery allows"
    page.title(well if ended.is_promised(picture) else "SOMETHING WENT WRONG")
    events, tasks = picture.findings.events, len(picture.rows)
    endings = sum(row.found.ended + row.found.skipped for row in picture.rows)
    page.text(f"{events:,} events for {tasks} groups: {endings:,} of {events * tasks:,} ended")
    if endings < events * tasks:
        page.text("the others wait in the log for the next run")
    counts = f"{picture.lost:,} lost, {picture.doubled:,} doubled"
    if picture.unproduced:
        page.text(f"{picture.unproduced:,} results or dead letters are of events that nobody produced")
    if picture.paid_again is None:
        page.text(f"{counts}: counted in the log, from outside the workers")
    else:
        page.text(f"{counts}, {picture.paid_again:,} paid again: counted in the log and")
        page.text("in the API's accounts, from outside the workers")
    if warning := label(ended.delivery):
        page.text(warning)
    if ended.kills:
        page.text(f"kill -9 struck {ended.kills} times; what was asked and not yet committed was asked again")


def _print_next(page: Page, ended: Ended) -> None:
    again = "the next day" if ended.is_finished else "goes on where this run stopped"
    page.title("Where to look next")
    place, prefix = ended.place, ended.place.stretch.prefix
    penstock = _own_name()
    usual = KAFKA_DIRECTORY if place.kafka else DIRECTORY
    demo = f"{penstock} demo" + (f" --kafka {place.kafka}" if place.kafka else "")
    demo += "" if place.path == usual else f" --dir {quote(str(place.path))}"
    rows = [
        (f"export PENSTOCK_LOG={quote(place.log)}", ""),
        (f"{penstock} tail {prefix}review-ai-results", "verdicts, reasons, quotes"),
        (f"{penstock} tail {prefix}review-dlq", "what could not be read, and why"),
        (f"{penstock} status", "how far each group is"),
        (f"{demo} --kill", "workers die, counters stay true"),
        *([] if ended.commands else [(f"{demo} --stay", "runs on after the day, for your own curl")]),
        (demo, again),
    ]
    width = max(len(command) for command, what in rows if what)
    for command, what in rows:
        page.text(Text.assemble((f"{command:{width}}" if what else command, "cyan"), "   ", (what, "dim")))
    if prefix:
        page.text(
            f"Its topics stay on the cluster for the next run (and {STATE_TOPIC}, which all tasks share). To remove them:"
        )
        tool = f"kafka-topics --bootstrap-server {place.kafka} --delete --topic '{prefix}.*'"
        page.text(Text(tool, "cyan"))


def _own_name() -> str:
    """`penstock` where the shell finds it, else the path under which it was started (`make demo`)."""
    if which("penstock"):
        return "penstock"
    return os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "penstock" else f"{sys.executable} -m penstock.cli"
