"""What the next call will take, learned from what the last ones took: estimates for the limits, room for the reply.

reply → [expectation] → gate
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.claude.models import Model, Tokens
from penstock.claude.schema import Size

_LEARNING = 0.1
"""Of the latest reply in the means; the first ones count for more, so that a wrong guess is soon forgotten."""
_FIRST_ITEM_TOKENS = 150.0
_THINKING_TOKENS, _THINKING_TOKENS_PER_ITEM = 4_000, 200
_MARGIN = 4.0
"""Room for a reply over its mean: `max_tokens` is free unless used, a cut reply is not."""
_LEAST_ROOM = 160
_MOST_STRETCH = 64.0


class Means(NamedTuple):
    """What is expected by now, as plain numbers: for who plans many calls at once."""

    prompt_tokens: float
    """Instructions and schema of one call, cached or not."""
    input_ratio: float
    """Billed tokens of events to estimated ones."""
    reply_tokens: float
    """Of one item."""


class Expectation:
    """Of one task on one model."""

    __slots__ = (
        "_input_ratio",
        "_model",
        "_output",
        "_prefix",
        "_seen",
        "_size",
        "_stretch",
        "_thinks",
        "_whole_prefix",
        "item_tokens",
    )

    def __init__(self, model: Model, size: Size, prefix_tokens: int, *, thinks: bool) -> None:
        self._model = model
        self._size = size
        self._thinks = thinks
        self._whole_prefix = self._prefix = float(prefix_tokens)
        """Uncached tokens of a call beside its events: falls towards 0 once the prefix is read from the cache."""
        self._output = float(size.typical + (_THINKING_TOKENS_PER_ITEM if thinks else 0))
        self._input_ratio = 1.0
        self._stretch = 1.0
        self._seen = 0
        self.item_tokens = _FIRST_ITEM_TOKENS
        """Estimated input tokens of an average event."""

    def input_tokens(self, events_tokens: float) -> int:
        """Uncached input of a call whose events are estimated so long."""
        return int(self._prefix + events_tokens * self._input_ratio) + 1

    def output_tokens(self, items: int) -> int:
        """Output of a call for so many items, on average."""
        return int(self._output * items) + 1

    def max_tokens(self, items: int) -> int:
        """Room for the reply: far more than the mean, at least one item at its longest."""
        per_item = max(_LEAST_ROOM, self._output * _MARGIN)
        thinking = _THINKING_TOKENS + _THINKING_TOKENS_PER_ITEM * items if self._thinks else 0
        room = (self._size.ceiling + per_item * items + thinking) * self._stretch
        return min(int(room), self._model.max_output_tokens)

    def most_items(self) -> int:
        """How many items' replies fit into the longest reply of the model."""
        return max(1, int(self._model.max_output_tokens / (max(_LEAST_ROOM, self._output * _MARGIN) * self._stretch)))

    def most_event_tokens(self, prefix_tokens: int) -> int:
        """Estimated tokens of events that keep a call inside the cheapest price band and half of the context."""
        band = self._model.prices[0].up_to_prompt_tokens or self._model.context_tokens
        room = min(band, self._model.context_tokens // 2) * 0.9 - prefix_tokens
        return max(1, int(room / max(self._input_ratio, 0.5)))

    def learn(self, items: int, events_tokens: int, tokens: Tokens, *, cut: bool) -> None:
        """A reply came: move the means towards it. A cut one doubles the room."""
        if cut:
            self._stretch = min(self._stretch * 2.0, _MOST_STRETCH)
            return
        self._seen += 1
        self._move(max(_LEARNING, 1.0 / (self._seen + 1)), items, events_tokens, tokens)

    def believe(self, items: int, events_tokens: float, tokens: Tokens, *, of_items_only: bool = False) -> None:
        """This was measured over so many items: it takes the place of the guess. `of_items_only`: prompts left out."""
        self._seen = max(self._seen, 1)
        if of_items_only:
            self._input_ratio, self._output = tokens.input / events_tokens, tokens.output / items
            return
        if cached := tokens.cache_read or tokens.cache_write:
            self._whole_prefix = float(cached)
        self._move(1.0, items, events_tokens, tokens)

    @property
    def means(self) -> Means:
        """As they are now."""
        return Means(self._whole_prefix, self._input_ratio, self._output)

    def _move(self, learning: float, items: int, events_tokens: float, tokens: Tokens) -> None:
        if tokens.cache_read or tokens.cache_write:
            self._prefix += learning * (tokens.cache_write - self._prefix)
            self._input_ratio += learning * (tokens.input / events_tokens - self._input_ratio)
        else:  # too short for the cache: instructions and events are counted as one
            ratio = tokens.input / (self._whole_prefix + events_tokens)
            self._input_ratio += learning * (ratio - self._input_ratio)
            self._prefix = self._whole_prefix * self._input_ratio
        self._output += learning * (tokens.output / items - self._output)
        self.item_tokens += learning * (events_tokens / items - self.item_tokens)
