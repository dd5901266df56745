"""The live picture on a terminal: calm, aligned, 80 columns and 23 lines at most.

watch → [board] → terminal
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from penstock.demo.text import (
    CALLED,
    DECISIONS,
    KINDS,
    SENTIMENTS,
    SIMULATED,
    ceiling,
    counted,
    dollars,
    saving,
    seconds,
)

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.demo.watch import Picture

WIDTH = 80
LABEL = 14
SHOWN_NOTES = 3
_COLOURS = {
    "publish": "green", "hold": "yellow", "reject": "red", "positive": "green", "negative": "red", "mixed": "yellow",
}  # fmt: skip


class Board:
    """Redrawn at every `show`; leaves no half a picture behind."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stderr=False)

    def open(self) -> None:
        """Take the lower part of the terminal."""
        self._live.start()

    def tell(self, lines: Sequence[str]) -> None:
        """Above the picture, for good."""
        for line in lines:
            self._live.console.print(Text(line), soft_wrap=True)
        self._live.refresh()  # what stands below was drawn without wrapping

    def say(self, text: str) -> None:
        """Before there is a picture."""
        self._live.update(Padding(Text(text, style="dim"), (1, 2)), refresh=True)

    def show(self, picture: Picture) -> None:
        """Draw it."""
        self._live.update(render(picture), refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def render(picture: Picture) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = [
        _head(picture),
        _stream(picture),
        Text(),
        _groups(picture),
        Text(),
        _verdicts(picture),
        Text(),
        _money(picture),
        _ways(picture),
        _truth(picture),
        Text(),
        *(Text(note[: WIDTH - 4], style="dim") for note in picture.notes[-SHOWN_NOTES:]),
        Text("Ctrl-C stops cleanly; the next run goes on from there.", style="dim"),
    ]
    return Padding(Group(*parts), (1, 1, 0, 1), expand=False)


def _line(left: Text, right: Text) -> Table:
    grid = Table.grid(expand=False)
    grid.add_column(width=WIDTH - 4 - right.cell_len, overflow="ellipsis", no_wrap=True)
    grid.add_column(width=right.cell_len, justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


def _head(picture: Picture) -> Table:
    label = SIMULATED if picture.is_simulated else "live"
    if picture.ceiling_usd is not None:
        label += f", at most {ceiling(picture.ceiling_usd)}"
    return _line(Text(picture.title, style="bold"), Text(label, style="bold magenta"))


def _stream(picture: Picture) -> Table:
    total = f" of {picture.total:,}" if picture.total is not None else ""
    clock = f"{picture.day_time}  " if picture.day_time else ""
    right = Text(f"{picture.sent:,}{total} events  {picture.seconds:3.0f} s")
    grid = Table.grid(expand=False, padding=(0, 1))
    width = WIDTH - 6 - len(clock) - right.cell_len
    bar = ProgressBar(
        total=picture.total or 1, completed=picture.sent if picture.total else 0, width=width,
        pulse=picture.total is None, animation_time=picture.seconds,
    )  # fmt: skip
    grid.add_row(Text(clock.strip(), style="cyan"), bar, right)
    return grid


def _groups(picture: Picture) -> Table:
    table = Table.grid(expand=False, padding=(0, 2))
    table.add_column(width=18, no_wrap=True)
    names = ("events/s", "lag", "results", "dead letters", "skipped")
    for name in names:
        table.add_column(width=max(8, len(name)), justify="right", no_wrap=True)
    table.add_row(Text("group", style="dim"), *(Text(name, style="dim") for name in names))
    for row in picture.rows:
        found = row.found
        numbers = (
            f"{row.per_second:,.0f}",
            f"{row.lag:,}",
            f"{found.results:,}",
            f"{found.dead_letters:,}",
            f"{found.skipped:,}",
        )
        table.add_row(row.name, *numbers)
    return table


def _verdicts(picture: Picture) -> Table:
    tally = picture.tally
    table = Table.grid(expand=False, padding=(0, 1))
    table.add_column(width=LABEL, no_wrap=True)
    for _ in range(4):
        table.add_column(width=15, no_wrap=True)
    table.add_row("decisions", *_counts(tally.decisions, DECISIONS))
    table.add_row("violations", *_counts(tally.violations, KINDS))
    table.add_row("sentiments", *_counts(tally.sentiments, SENTIMENTS))
    return table


def _counts(found: Counter[str], names: tuple[str, ...]) -> list[Text]:
    return [
        Text.assemble((f"{number:,} ", "bold"), (CALLED.get(name, name), _COLOURS.get(name, "")))
        for name, number in counted(found, names)[:4]
    ]


def _money(picture: Picture) -> Table:
    findings, single = picture.findings, picture.tally.single_nanousd
    grid = Table.grid(expand=False, padding=(0, 1))
    grid.add_column(width=LABEL, no_wrap=True)
    grid.add_column(no_wrap=True)
    if picture.calls_in_flight is not None:
        in_flight = f"{picture.calls_in_flight:,} calls in flight, {findings.billed_calls:,} answered and billed"
        grid.add_row("offline Claude", in_flight)
    if picture.limit:
        grid.add_row("account", Text(picture.limit, style="yellow" if " bind: " in picture.limit else ""))
    cost = Text.assemble(
        (dollars(picture.spent_nanousd), "bold"), "   one call per event: ", dollars(single),
        (f"   {saving(picture.spent_nanousd, single)}", "green"),
    )  # fmt: skip
    grid.add_row("cost so far", cost)
    return grid


def _ways(picture: Picture) -> Table:
    """Where events come in, and how far results have come."""
    grid = Table.grid(expand=False, padding=(0, 1))
    grid.add_column(width=LABEL, no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_row("gateway", f"{picture.gateway}   events besides the demo's own: {picture.guests:,}")
    found = picture.delivered
    lag = f"   lag {seconds(found.lag_ms)}" if found.lag_ms is not None else ""
    counts = Text(f"{found.rows:,} rows   {found.webhooks:,} webhooks   {found.digests:,} digests")
    counts.append(f"   {found.refused:,} refused" if found.refused else lag, "bold red" if found.refused else "")
    grid.add_row("delivered", counts)
    return grid


def _truth(picture: Picture) -> Table:
    grid = Table.grid(expand=False, padding=(0, 1))
    grid.add_column(width=LABEL, no_wrap=True)
    grid.add_column(no_wrap=True)
    wrong = "bold red"
    again = "" if picture.paid_again is None else f"{picture.paid_again:,} paid again   "
    counts = Text.assemble(
        (f"{picture.lost:,} lost", wrong if picture.lost else "green"), "   ",
        (f"{picture.doubled:,} doubled   ", wrong if picture.doubled else "green"),
        (again, "yellow" if picture.paid_again else "green"), ("not told by the workers", "dim"),
    )  # fmt: skip
    grid.add_row("from outside", counts)
    return grid
