"""All pools of one account: which family of models shares which limits, and what its headers say.

api → [limits] → limiter
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.simulator.limiter import CLASSES, CountPool, Pool, Ramp, Rates
from penstock.simulator.models import BY_NAME, MODELS, Model, Usage

if TYPE_CHECKING:
    from penstock.simulator.clock import Clock
    from penstock.simulator.options import SimulatorOptions

SCARCE_LINES = ("fable", "mythos")


class Limits:
    """One pool per family, made when it is first needed; count_tokens apart."""

    def __init__(self, options: SimulatorOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self._counts = CountPool(CLASSES[options.usage_tier][2], options.burst_seconds, clock)
        self.counted = 0

    def admit(self, model: Model, usage: Usage) -> Pool:
        """Take a call's uncached input from its family's pool, or raise the 429."""
        pool = self.pool(model)
        pool.admit(usage.input + usage.write_5m + usage.write_1h)
        return pool

    def admit_count(self) -> None:
        """One count_tokens request."""
        self._counts.admit()
        self.counted += 1

    def pool(self, model: Model) -> Pool:
        """The pool that a model belongs to."""
        pool = self._pools.get(model.pool)
        if pool is None:
            options = self._options
            ramp = Ramp(options.ramp_floor_requests, options.ramp_growth) if options.ramp_floor_requests else None
            pool = Pool(model.pool, self.rates(model), options.burst_seconds, ramp, self._clock)
            self._pools[model.pool] = pool
        return pool

    def rates(self, model: Model) -> Rates:
        """Limits per minute: those of the usage tier unless given."""
        options = self._options
        plain, scarce, _ = CLASSES[options.usage_tier]
        base = scarce if model.line in SCARCE_LINES else plain
        return Rates(
            options.requests_per_minute or base.requests,
            options.input_tokens_per_minute or base.input_tokens,
            options.output_tokens_per_minute or base.output_tokens,
        )

    @property
    def count_rate(self) -> int:
        """count_tokens requests per minute."""
        return CLASSES[self._options.usage_tier][2]

    def headers_of(self, model: str) -> bytes:
        """The header lines of a model's pool."""
        return self.pool(BY_NAME[model]).headers()

    def count_headers(self) -> bytes:
        """The header lines of count_tokens."""
        return self._counts.headers()

    def used(self) -> dict[str, Any]:
        """How full each pool is used now, and how many calls it turned away."""
        return {name: pool.used() | {"rejected": pool.rejected} for name, pool in self._pools.items()}

    def families(self) -> dict[str, list[Model]]:
        """Models in service by pool."""
        found: dict[str, list[Model]] = {}
        for model in MODELS:
            if model.lifecycle != "retired":
                found.setdefault(model.pool, []).append(model)
        return found
