"""The end of a demo, for somebody who decides: what was flagged, how fast, at what cost, and where to look next.

watch → [summary] → terminal
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from penstock.demo.text import DECISIONS, KINDS, SENTIMENTS, SIMULATED, counted, dollars, saving, seconds

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.demo.place import Place
    from penstock.demo.watch import Picture
    from review_moderation.samples import Content, SampleEvent

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
    is_live: bool
    remarks: tuple[str, ...] = ()
    """What went wrong on the way, or must be known."""


def print_summary(console: Console, picture: Picture, planted: Iterable[SampleEvent] | None, ended: Ended) -> None:
    """All of it, below each other; 80 columns."""
    say = _Printer(console)
    _print_head(say, picture, ended)
    if planted is not None:
        _print_planted(say, picture, list(planted), is_live=ended.is_live)
    else:
        _print_verdicts(say, picture, is_live=ended.is_live)
    _print_speed(say, picture)
    _print_cost(say, picture, is_live=ended.is_live)
    _print_truth(say, picture, ended)
    for remark in ended.remarks:
        say.text(remark, style="yellow")
    _print_next(say, ended)


class _Printer:
    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, text: str, beside: str = "") -> None:
        self._console.print()
        self._console.print(
            Text.assemble((text, "bold"), (f"   {beside}" if beside else "", "magenta")), soft_wrap=True
        )

    def text(self, text: str | Text, style: str = "") -> None:
        self._console.print(Text.assemble("  ", text), style=style, soft_wrap=True)

    def table(self, table: Table) -> None:
        self._console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _grid(*widths: int) -> Table:
    table = Table.grid(padding=(0, 2))
    for width in widths:
        table.add_column(min_width=abs(width), justify="left" if width > 0 else "right", no_wrap=True)
    return table


def _print_head(say: _Printer, picture: Picture, ended: Ended) -> None:
    judged_by = "judged by the real API" if ended.is_live else f"{SIMULATED}: an offline stand-in answered"
    end = "all events have their ending" if ended.is_finished else "stopped on the way"
    say.title(f"{picture.title}: {end}", judged_by)


def _print_planted(say: _Printer, picture: Picture, planted: list[SampleEvent], *, is_live: bool) -> None:
    tally = picture.tally
    say.title("What was flagged", "" if is_live else SIMULATED)
    table = _grid(20, -7, -7, -5, -6, -6)
    table.add_row(*(Text(name, style="dim") for name in ("", "planted", "flagged", "", "held", "rejected")))
    expected = Counter(event.content for event in planted if event.ending == "result")
    for content, name in PLANTED.items():
        held, rejected = tally.flagged[content, "hold"], tally.flagged[content, "reject"]
        share = f"{(held + rejected) / expected[content] * 100:.0f} %" if expected[content] else ""
        table.add_row(name, f"{expected[content]:,}", f"{held + rejected:,}", share, f"{held:,}", f"{rejected:,}")
    say.table(table)
    unreadable = sum(event.ending == "dead_letter" for event in planted)
    passed_over = sum(event.ending == "skip" for event in planted)
    per_task = ", ".join(f"{row.found.dead_letters:,}" for row in picture.rows)
    say.text(f"malformed events: {unreadable:,} planted; dead letters per group: {per_task}")
    say.text(f"deleted reviews and tombstones: {passed_over:,} planted; passed over: {_each(picture, 'skipped')}")


def _each(picture: Picture, what: str) -> str:
    return ", ".join(f"{getattr(row.found, what):,}" for row in picture.rows)


def _print_verdicts(say: _Printer, picture: Picture, *, is_live: bool) -> None:
    tally = picture.tally
    say.title("What was found", "" if is_live else SIMULATED)
    table = _grid(14)
    for name, found, names in (
        ("decisions", tally.decisions, DECISIONS),
        ("violations", tally.violations, KINDS),
        ("sentiments", tally.sentiments, SENTIMENTS),
    ):
        table.add_row(name, "   ".join(f"{number:,} {kind}" for kind, number in counted(found, names)))
    reasons: Counter[str] = Counter()
    for row in picture.rows:
        reasons.update(row.found.reasons)
    letters = "   ".join(f"{number:,} {reason}" for reason, number in reasons.most_common()) or "none"
    table.add_row("dead letters", letters)
    say.table(table)


def _print_speed(say: _Printer, picture: Picture) -> None:
    say.title("How fast", "from produced to committed")
    table = _grid(20, -10, -10)
    table.add_row(*(Text(name, style="dim") for name in ("", "half in", "99 % in")))
    for row in picture.rows:
        found = picture.tally.latency_ms(row.name)
        table.add_row(row.name, *((seconds(ms) for ms in found) if found else ("-", "-")))
    say.table(table)


def _print_cost(say: _Printer, picture: Picture, *, is_live: bool) -> None:
    spent, single = picture.spent_nanousd, picture.tally.single_nanousd
    results = sum(row.found.results for row in picture.rows)
    say.title("What it cost", "" if is_live else "at the real prices; nothing was paid")
    if results:
        say.text(f"{results:,} answers, {dollars(spent * 1000 // results)} per thousand")
    uncached = picture.tally.uncached_nanousd
    table = _grid(-9, 40, -6)
    rows = ((spent, "here", ""), (single, "one call per event, its prompt read from the cache", saving(spent, single)),
            (uncached, "one call per event, nothing cached", saving(spent, uncached)))  # fmt: skip
    for nanousd, what, saved in rows:
        table.add_row(dollars(nanousd), what, Text(saved, style="green"))
    say.table(table)
    say.text("Both at least: same models, events and answers, by the tokens that were counted.", style="dim")


def _print_truth(say: _Printer, picture: Picture, ended: Ended) -> None:
    say.title("Nothing lost, nothing doubled" if not (picture.lost or picture.doubled) else "SOMETHING WENT WRONG")
    events, tasks = picture.findings.events, len(picture.rows)
    endings = sum(row.found.ended + row.found.skipped for row in picture.rows)
    say.text(f"{events:,} events for {tasks} groups: {endings:,} of {events * tasks:,} ended")
    say.text(
        f"{picture.lost:,} lost, {picture.doubled:,} doubled, {picture.paid_again} paid again: counted in the log and"
    )
    say.text("in the API's accounts, from outside the workers" if not ended.is_live else "from outside the workers")
    if ended.kills:
        say.text(f"{ended.kills} workers were killed with -9; what they had asked and not committed was asked again")


def _print_next(say: _Printer, ended: Ended) -> None:
    again = "the next day" if ended.is_finished else "goes on where this run stopped"
    say.title("Where to look next")
    table = _grid(42, 10)
    rows = (
        (f"export PENSTOCK_LOG={ended.place.log}", ""),
        ("penstock tail review-ai-results", "verdicts, reasons, quotes"),
        ("penstock tail review-dlq", "what could not be read, and why"),
        ("penstock status", "how far each group is"),
        ("penstock demo --kill", "workers die, the counters stay true"),
        ("penstock demo", again),
    )
    for command, what in rows:
        table.add_row(Text(command, style="cyan"), Text(what, style="dim"))
    say.table(table)
