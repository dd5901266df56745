"""The offline Claude of the demo: a process of its own, and its accounts, kept over the runs of a stretch.

run → [offline] → simulator; simulator → [offline] → judge
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from penstock.simulator import SimulatorOptions, SimulatorProcess, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LIKE_THE_API = SimulatorOptions(latency_ms=300, per_item_ms=8, jitter=0.15)
"""Answers take as long as a small model's do."""
_KEPT = ("request_id", "nanousd", "items", "ended_ms")


class OfflineClaude:
    """Promises: a row that was read is on disk before anybody judges by it; numbers go on where the last run stopped."""

    def __init__(
        self,
        ledger: Path,
        tell: Callable[[str], None],
        account: SimulatorOptions = LIKE_THE_API,
        on_calls: Callable[[Sequence[dict[str, Any]]], None] | None = None,
    ) -> None:
        self.in_flight = 0
        """Calls in flight at the last look."""
        self.account = account
        self._on_calls = on_calls
        self._ledger = ledger
        self._tell = tell
        self._simulator: SimulatorProcess | None = None
        self._read_before: list[dict[str, Any]] | None = None
        self._seq = 0
        self._simulator_seq = 0

    async def start(self) -> str:
        """Start it; the URL that workers take."""
        self._simulator = await asyncio.to_thread(spawn, self.account)
        return self._simulator.url

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._simulator is not None
        return self._simulator.pid

    async def rows(self, after: int) -> Sequence[dict[str, Any]]:
        """Billed calls that nobody has seen yet: first those of earlier runs, then what is new (a `Ledger`)."""
        del after  # whoever reads here reads all of it, in order
        earlier: list[dict[str, Any]] = []
        if self._read_before is None:
            earlier = self._read_before = await asyncio.to_thread(self._read_ledger)
        try:
            ended = await asyncio.to_thread(self._read_simulator)
        except (OSError, json.JSONDecodeError):
            await self._revive()
            return earlier
        if self._on_calls is not None:
            self._on_calls(ended)
        return earlier + await asyncio.to_thread(self._keep, ended)

    async def stop(self) -> None:
        """End it."""
        if self._simulator is not None:
            await asyncio.to_thread(self._simulator.stop)

    async def _revive(self) -> None:
        """The workers know its address: it comes back there. What it had billed and nobody had read is forgotten."""
        assert self._simulator is not None
        self._tell(
            "the offline Claude ended by itself and is started again; calls of its last second are in no account"
        )
        await asyncio.to_thread(self._simulator.stop)
        port = urlsplit(self._simulator.url).port or 0
        self._simulator_seq = 0
        self._simulator = await asyncio.to_thread(spawn, replace(self.account, port=port))

    def _read_simulator(self) -> list[dict[str, Any]]:
        assert self._simulator is not None
        self.in_flight = int(self._simulator.accounts()["in_flight"])
        rows = []
        for row in self._simulator.calls(self._simulator_seq):
            self._simulator_seq = row["seq"]
            rows.append(row)
        return rows

    def _keep(self, ended: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What was billed, on disk."""
        rows = [self._numbered({name: row[name] for name in _KEPT}) for row in ended if row["nanousd"]]
        if rows:
            with self._ledger.open("ab") as file:
                file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        return rows

    def _read_ledger(self) -> list[dict[str, Any]]:
        if not self._ledger.exists():
            return []
        rows = []
        for line in self._ledger.read_bytes().splitlines():
            try:
                rows.append(self._numbered(orjson.loads(line)))
            except orjson.JSONDecodeError:  # the machine stopped in the middle of a line
                continue
        return rows

    def _numbered(self, row: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        return {**row, "seq": self._seq}
