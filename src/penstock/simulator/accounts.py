"""The true bill, as an auditor outside the workers reads it: totals, a ledger row a call, what was asked twice.

replies → [accounts] → http
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator.models import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_LEDGER_ROWS = 1_000_000
MAX_REMEMBERED = 4_000_000
_ROW = struct.Struct("<QHHIqqqqqqqqqBH")


@dataclass(slots=True)
class Call:
    """One POST to /v1/messages, from its first header to its last byte."""

    number: int
    started_ms: int
    model: str = ""
    status: int = 0
    nanousd: int = 0
    items: int = 0
    usage: Usage = field(default_factory=Usage)
    fault: str = ""
    body_hash: int = 0


class Remembered:
    """Hashes seen, bounded: when full, the older half is forgotten."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def add_all(self, hashes: Sequence[int]) -> int:
        """Remember them; how many were known before (or stand here twice)."""
        known = 0
        for number in hashes:
            if number in self._recent or number in self._older:
                known += 1
            self._recent.add(number)
        if len(self._recent) > self._half:
            self._older, self._recent = self._recent, set()
        return known


class Accounts:
    """Counts every call once it is billed, and once more when it has ended."""

    def __init__(self) -> None:
        self._nonce = os.urandom(8)
        self.reset()

    def reset(self) -> None:
        """Forget everything but the calls in flight."""
        self._in_flight: dict[int, Call] = getattr(self, "_in_flight", {})
        self._number: int = getattr(self, "_number", 0)
        self._most_in_flight = len(self._in_flight)
        self._ended = 0
        self._statuses: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._models: dict[str, Counter[str]] = {}
        self._totals: Counter[str] = Counter()
        self._ledger = bytearray()
        self._names: list[str] = []
        self._name_numbers: dict[str, int] = {}
        self._items = Remembered(MAX_REMEMBERED)
        self._bodies = Remembered(MAX_REMEMBERED // 8)

    def begin(self, now_ms: int) -> Call:
        """A call arrives."""
        self._number += 1
        call = Call(self._number, now_ms)
        self._in_flight[call.number] = call
        self._most_in_flight = max(self._most_in_flight, len(self._in_flight))
        return call

    def request_id(self, number: int) -> str:
        """Unique over calls and over runs."""
        return f"req_01{blake2b(number.to_bytes(8, 'little'), key=self._nonce, digest_size=11).hexdigest()}"

    def next_id(self) -> str:
        """An id for a request that is no call."""
        self._number += 1
        return self.request_id(self._number)

    def bill(self, call: Call, hashes: Sequence[int]) -> None:
        """The body has arrived and was accepted: from here on it is paid for, whoever reads the reply."""
        usage, totals = call.usage, self._totals
        totals["billed_calls"] += 1
        totals["nanousd"] += call.nanousd
        totals["items"] += call.items
        totals["items_asked_twice"] += self._items.add_all(hashes)
        totals["duplicate_bodies"] += self._bodies.add_all((call.body_hash,))
        totals["input_tokens"] += usage.input
        totals["cache_write_5m_tokens"] += usage.write_5m
        totals["cache_write_1h_tokens"] += usage.write_1h
        totals["cache_read_tokens"] += usage.read
        totals["output_tokens"] += usage.output
        totals["thinking_tokens"] += usage.thinking
        model = self._models.setdefault(call.model, Counter())
        model["calls"] += 1
        model["nanousd"] += call.nanousd
        model["items"] += call.items

    def end(self, call: Call, now_ms: int, *, delivered: bool) -> None:
        """The reply was written (or had nobody to read it)."""
        if self._in_flight.pop(call.number, None) is None:
            return
        self._ended += 1
        self._statuses[str(call.status) if call.status else call.fault or "cut"] += 1
        if call.fault:
            self._faults[call.fault] += 1
        if not delivered:
            self._totals["undelivered_calls"] += 1
            self._totals["undelivered_nanousd"] += call.nanousd
        usage = call.usage
        self._ledger += _ROW.pack(
                call.number, self._name(call.model), call.status, call.items, call.started_ms, now_ms, call.nanousd,
                usage.input, usage.write_5m, usage.write_1h, usage.read, usage.output, usage.thinking,
                delivered, self._name(call.fault),
        )  # fmt: skip
        if len(self._ledger) > MAX_LEDGER_ROWS * _ROW.size:
            del self._ledger[: MAX_LEDGER_ROWS // 4 * _ROW.size]

    @property
    def in_flight(self) -> int:
        """Calls that have begun and not ended."""
        return len(self._in_flight)

    def totals(self) -> dict[str, Any]:
        """What `GET /simulator/accounts` shows."""
        names = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "thinking")
        counted = ("billed_calls", "nanousd", "items", "items_asked_twice", "duplicate_bodies", "undelivered_calls", "undelivered_nanousd")  # fmt: skip
        return {
            "calls": self._ended + len(self._in_flight),
            "calls_by_status": dict(self._statuses),
            **{name: self._totals[name] for name in counted},
            "tokens": {name: self._totals[f"{name}_tokens"] for name in names},
            "in_flight": len(self._in_flight),
            "most_in_flight": self._most_in_flight,
            "faults": dict(self._faults),
            "models": {model: dict(counts) for model, counts in self._models.items()},
        }

    def rows(self, after: int, limit: int) -> Iterator[bytes]:
        """Ledger rows as JSON lines, in the order in which the calls ended; `seq` counts from 1."""
        first = self._ended - len(self._ledger) // _ROW.size + 1
        start = max(after + 1, first)
        for seq in range(start, min(self._ended, start + limit - 1) + 1):
            yield self._line(seq, (seq - first) * _ROW.size)

    def _line(self, seq: int, start: int) -> bytes:
        (number, model, status, items, started, ended, nanousd, uncached, write_5m, write_1h, read, output, thinking,
         delivered, fault) = _ROW.unpack_from(self._ledger, start)  # fmt: skip
        return orjson.dumps(
            {
                "seq": seq,
                "request_id": self.request_id(number),
                "model": self._names[model],
                "status": status,
                "fault": self._names[fault],
                "started_ms": started,
                "ended_ms": ended,
                "delivered": bool(delivered),
                "nanousd": nanousd,
                "items": items,
                "input_tokens": uncached,
                "cache_write_tokens": write_5m + write_1h,
                "cache_write_1h_tokens": write_1h,
                "cache_read_tokens": read,
                "output_tokens": output,
                "thinking_tokens": thinking,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    def _name(self, name: str) -> int:
        number = self._name_numbers.get(name)
        if number is None:
            number = self._name_numbers[name] = len(self._names)
            self._names.append(name)
        return number
