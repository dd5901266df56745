"""Options of `penstock deliver`: `[deliver]`.

settings → [options] → delivery, offering
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from penstock.errors import SettingsError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """How `penstock deliver` works: `[deliver]`."""

    tasks: tuple[str, ...] = ()
    """MODULE:TASK of the tasks whose results are delivered, where the command line names none."""
    sinks: tuple[str, ...] = ()
    """Sinks to run, where the command line names none: `database`, or MODULE:SINK."""
    group_prefix: str = "sink."
    """A sink's consumer group is this and its name. Two databases fed from the same topics need two prefixes."""
    first_wait_seconds: float = 0.5
    """After the first failure; then twice as long each time, with jitter."""
    max_wait_seconds: float = 60.0
    """The longest wait between two tries; a sink that says how long it wants is obeyed."""
    max_attempts: int = 5
    """Tries of a delivery that fails by itself while its neighbours pass."""
    max_buffer_bytes: int = 16 * 1024 * 1024
    """Read and not delivered yet, per sink."""
    look_seconds: float = 1.0
    """How often a person's orders (pause, resume, redeliver) are looked for."""
    drain_seconds: float = 25.0
    """How long a stopping sink may finish its batch."""
    simulated: Literal["refuse", "deliver"] = "refuse"
    """Made-up verdicts of the offline simulator: `deliver` is for demos."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for name in ("first_wait_seconds", "max_wait_seconds", "look_seconds", "drain_seconds"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"deliver.{name}={getattr(self, name)!r}: write a number greater than 0")
        if self.max_attempts < 1 or self.max_buffer_bytes < 1:
            raise SettingsError("deliver.max_attempts and deliver.max_buffer_bytes: at least 1")
        if not NAME.fullmatch(f"{self.group_prefix}x"):
            raise SettingsError(f"deliver.group_prefix={self.group_prefix!r}: letters, digits, '.', '_', '-'")


DEFAULTS = DeliveryOptions()
