"""Who is dead: heartbeat counters that stand still, as each neighbour sees them on its own clock.

membership → [liveness] → group
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Liveness:
    """Judges neighbours by their heartbeat counters on this process's own monotonic clock.

    Silence counts only while this process itself looks: one look adds two heartbeats of silence at most, so neither a
    pause of ours nor a jump of any clock expires anybody.
    """

    def __init__(
        self, session_timeout_seconds: float, heartbeat_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session_timeout_seconds = session_timeout_seconds
        self._longest_step_seconds = 2 * heartbeat_seconds
        self._clock = clock
        self._looked_at = clock()
        self._silent: dict[str, tuple[int, float]] = {}

    def dead(self, beats: Mapping[str, int]) -> list[str]:
        """Members whose counter has stood still for the session time-out."""
        now = self._clock()
        step = min(now - self._looked_at, self._longest_step_seconds)
        self._looked_at = now
        seen: dict[str, tuple[int, float]] = {}
        for member, beat in beats.items():
            old_beat, silent_seconds = self._silent.get(member, (beat, -step))
            seen[member] = (beat, silent_seconds + step if beat == old_beat else 0.0)
        self._silent = seen
        return [member for member, (_, silent) in seen.items() if silent >= self._session_timeout_seconds]
