"""What a user may say about the demo.

cli → [options] → demo
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """One run of `penstock demo`; the numbers' defaults stand here, the command line shows them."""

    settings: Settings
    """Limits and the API key come from here; the demo keeps a log of its own in `directory`."""
    input_file: str | None = None
    """The user's own events (JSON lines, .gz, `-` for stdin) instead of the made-up day."""
    events: int = 3_000
    seconds: float = 60.0
    workers: int = 1
    """Worker processes per task."""
    kills: bool = False
    is_live: bool = False
    ceiling_usd: float | None = None
    directory: Path = Path("penstock-demo")
    is_plain: bool = False
    is_quiet: bool = False
