"""What a user may say about the demo.

cli → [options] → demo
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.demo.lines import Lines
    from penstock.settings import Settings

DAY_EVENTS = 3_000
DAY_SECONDS = 60.0
CEILING_USD = 1.0
DIRECTORY = Path("penstock-demo")
KAFKA_DIRECTORY = Path("penstock-demo-kafka")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """One run of `penstock demo`."""

    settings: Settings
    """Limits and the API key come from here; the demo keeps a log of its own in `directory`."""
    input: Lines | None = None
    """The user's own events instead of the made-up day."""
    events: int | None = None
    """None: a day of `DAY_EVENTS`, or every line of the input."""
    seconds: float | None = None
    """How long the stream lasts. None: a day in `DAY_SECONDS`, an input as fast as it is taken."""
    workers: int = 1
    """Worker processes per task."""
    kills: bool = False
    is_live: bool = False
    ceiling_usd: float = CEILING_USD
    """With `is_live`: what all workers of this run together may spend."""
    directory: Path = DIRECTORY
    kafka: str = ""
    """`host:port`, separated by commas: the events go through this cluster instead of the embedded log."""
    stays: bool = False
    """After a finished day everything runs on until somebody ends it."""
    is_plain: bool = False
    is_quiet: bool = False
    """Only the summary."""
