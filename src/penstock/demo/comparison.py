"""What one call per event would have cost: the same models, prompt and answers, from the tokens that were counted.

endings → [comparison] → terminal

Per event and model that was asked: the whole prompt (from the cache, which only the first call writes), its own input
and its own output. The frame around a question and a reply is left out, so the truth lies above.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from penstock.deadletters.letter import Letter

if TYPE_CHECKING:
    from penstock.claude.models import Model, Models, Prices
    from penstock.task import Task

_REMEMBERED_CALLS = 2_000


class Comparison:
    """One task. Everything is in nanodollars."""

    def __init__(self, task: Task[Any, Any], models: Models) -> None:
        self._route = [models.resolve(step.tier) if isinstance(step.tier, str) else None for step in task.route.steps]
        self._names = [step.name for step in task.route.steps]
        self._paid = 0
        self._asked = [0] * len(self._route)
        self._prompt_tokens = 0
        self._calls: dict[str, int] = {}

    def add(self, ending: dict[str, Any] | Letter) -> None:
        """What one event was asked and cost."""
        if isinstance(ending, Letter):
            self._add(ending.nanousd, [0] * len(ending.calls))
            return
        asked, usage = ending["calls"], ending["usage"]
        last = self._names.index(ending["tier"]) if ending["tier"] in self._names else 0
        # One call a step, or more where an answer was asked again: then the cheapest is assumed.
        steps = list(range(last + 1)) if len(asked) == last + 1 else [0] * (len(asked) - 1) + [last] * bool(asked)
        self._add(ending["nanousd"] - self._prompt_share(usage, self._route[last]), steps)
        if len(asked) == 1:
            self._learn_prompt(asked[0][0], usage["cache_read_tokens"] + usage["cache_write_tokens"])

    def cached_nanousd(self) -> int:
        """The whole bill of one call per event, at least: the first call of a step writes the prompt, others read it."""
        prompts = sum(
            _nanousd(self._prompt_tokens, model.cache_write_5m)
            + (n - 1) * _nanousd(self._prompt_tokens, model.cache_read)
            for n, model in self._steps()
        )
        return self._paid + prompts

    def uncached_nanousd(self) -> int:
        """The same where the prompt is sent and paid for anew each time."""
        return self._paid + sum(n * _nanousd(self._prompt_tokens, model.input) for n, model in self._steps())

    def _steps(self) -> Iterator[tuple[int, Prices]]:
        """How often each model was asked, and its prices for short prompts."""
        return ((n, model.prices[0]) for n, model in zip(self._asked, self._route, strict=True) if n and model)

    def _add(self, nanousd: int, steps: list[int]) -> None:
        self._paid += nanousd
        for step in steps:
            self._asked[step] += 1

    def _prompt_share(self, usage: dict[str, int], model: Model | None) -> int:
        """What the event paid for its part of the shared prompt; at most that, where a cheaper model was asked first."""
        if model is None:
            return 0
        prices = model.prices[0]
        return _nanousd(usage["cache_write_tokens"], prices.cache_write_5m) + _nanousd(
            usage["cache_read_tokens"], prices.cache_read
        )

    def _learn_prompt(self, call: str, tokens: int) -> None:
        """The parts of a call's items add up to the prompt as the API counted it."""
        seen = self._calls[call] = self._calls.pop(call, 0) + tokens
        self._prompt_tokens = max(self._prompt_tokens, seen)
        if len(self._calls) > _REMEMBERED_CALLS:
            del self._calls[next(iter(self._calls))]


def _nanousd(tokens: int, usd_per_mtok: Decimal) -> int:
    return int(tokens * usd_per_mtok * 1_000)
