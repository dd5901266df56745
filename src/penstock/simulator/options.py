"""The simulator's settings, checked where they are declared.

__main__ → [options] → server
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.simulator.faults import FaultError, read_fault, read_rates
from penstock.simulator.limiter import CLASSES
from penstock.simulator.spend import KINDS


class OptionError(ValueError):
    """A setting that cannot be; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How the simulated API behaves. The defaults answer at once and limit nothing."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: a free port."""
    seed: int = 0
    answer_book: str = ""
    """JSONL file of recorded answers."""
    api_keys: tuple[str, ...] = ()
    """Keys that are accepted; any key where empty."""
    latency_ms: float = 0.0
    per_item_ms: float = 0.0
    jitter: float = 0.0
    """Spread of the latency (sigma of a log-normal), with one call in a hundred much slower."""
    schema_compile_ms: float = 0.0
    """What the first use of a schema takes longer."""
    usage_tier: str = "unlimited"
    """start, build, scale or unlimited."""
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    burst_seconds: float = 60.0
    """How many seconds of its limit a bucket holds: 1 enforces a limit per second."""
    ramp_floor_requests: int = 0
    """Requests a minute below which usage may grow freely; 0: no ramp limit."""
    ramp_growth: float = 2.0
    max_in_flight: int = 0
    """More calls than this at once are answered 529; 0: no such limit."""
    spend_cap_usd: float | None = None
    spend_cap_kind: str = "tier"
    refusal_marker: str = ""
    """A call whose text contains this is refused whole."""
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    fault_script: tuple[Any, ...] = ()
    stall_seconds: float = 600.0
    drip_ms: float = 20.0
    exit_with_parent: bool = False

    def __post_init__(self) -> None:
        """Say at once what cannot work."""
        _need(0 <= self.port <= 65_535, f"port={self.port}: a port is 0 to 65535")
        _need(self.usage_tier in CLASSES, f"usage_tier={self.usage_tier!r}: one of {', '.join(CLASSES)}")
        _need(self.spend_cap_kind in KINDS, f"spend_cap_kind={self.spend_cap_kind!r}: one of {', '.join(KINDS)}")
        for name in (
            "latency_ms",
            "per_item_ms",
            "jitter",
            "schema_compile_ms",
            "drip_ms",
            "ramp_floor_requests",
            "max_in_flight",
        ):
            _need(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: not below 0")
        for name in ("burst_seconds", "stall_seconds", "ramp_growth"):
            _need(getattr(self, name) > 0, f"{name}={getattr(self, name)}: more than 0")
        for name in ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute"):
            _need(getattr(self, name) is None or getattr(self, name) >= 1, f"{name}={getattr(self, name)}: at least 1")
        _need(self.spend_cap_usd is None or self.spend_cap_usd >= 0, f"spend_cap_usd={self.spend_cap_usd}: not below 0")
        try:
            read_rates(dict(self.fault_rates))
            for fault in self.fault_script:
                read_fault(fault)
        except FaultError as error:
            raise OptionError(str(error)) from None


def _need(good: bool, text: str) -> None:  # noqa: FBT001 — an assertion with words
    if not good:
        raise OptionError(text)
