"""The models that the simulated API serves: prices, windows, and what each of them accepts.

validation | cache | accounts → [models]

Dated 2026-11-23. Prices are whole nanodollars per token, so that every bill is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OLD_CHARS_PER_10_TOKENS = 33
NEW_CHARS_PER_10_TOKENS = 25

ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
OFF_EFFORTS = frozenset({"low", "medium", "high"})


@dataclass(frozen=True, slots=True)
class Price:
    """Nanodollars per token (a dollar per million tokens is 1,000 of them)."""

    input: int
    output: int
    write_5m: int
    write_1h: int
    read: int


@dataclass(frozen=True, slots=True)
class ThinkingRules:
    """What a model does with `thinking`."""

    by_default: bool
    accepts: frozenset[str]
    off: str = ""
    """The type that turns it off; empty where nothing does."""
    off_efforts: frozenset[str] = frozenset(ALL_EFFORTS)
    """Efforts at which it may be turned off."""
    default_effort: str = "high"


ALWAYS = ThinkingRules(by_default=True, accepts=frozenset({"adaptive"}))
OPTIONAL_OFF = frozenset({"adaptive", "disabled"})
HAIKU_5_5 = ThinkingRules(
    by_default=True, accepts=OPTIONAL_OFF, off="disabled", off_efforts=OFF_EFFORTS, default_effort="medium"
)
SONNET_5_5 = ThinkingRules(
    by_default=True, accepts=frozenset({"adaptive", "between_tools"}), off="between_tools", off_efforts=OFF_EFFORTS
)
OPUS_5_5 = ThinkingRules(by_default=True, accepts=frozenset({"adaptive"}), default_effort="medium")
OPUS_5 = ThinkingRules(by_default=True, accepts=OPTIONAL_OFF, off="disabled", off_efforts=OFF_EFFORTS)
SONNET_5 = ThinkingRules(by_default=True, accepts=OPTIONAL_OFF, off="disabled")
WHEN_ASKED = ThinkingRules(by_default=False, accepts=OPTIONAL_OFF, off="disabled")
EITHER_WAY = ThinkingRules(by_default=False, accepts=OPTIONAL_OFF | {"enabled"}, off="disabled")
MANUAL = ThinkingRules(by_default=False, accepts=frozenset({"enabled", "disabled"}), off="disabled")


@dataclass(frozen=True, slots=True)
class Model:
    """One model, and how the API treats requests that name it."""

    id: str
    display_name: str
    line: str
    released: str
    price: Price
    pool: str
    thinking: ThinkingRules
    context_tokens: int = 1_000_000
    max_output_tokens: int = 128_000
    cache_floor_tokens: int = 512
    long_price: Price | None = None
    """Above `long_from_tokens` of prompt, for every token of the request."""
    long_from_tokens: int = 100_000
    chars_per_10_tokens: int = NEW_CHARS_PER_10_TOKENS
    efforts: tuple[str, ...] = ALL_EFFORTS
    forced_tools: bool = True
    prefill: bool = False
    regional: bool = True
    fast: bool = False
    lifecycle: str = "active"
    deprecated_at: str | None = None
    retires_at: str | None = None
    aliases: tuple[str, ...] = field(default=())


def _price(input_: int, output: int, read: int) -> Price:
    return Price(input_, output, input_ * 5 // 4, input_ * 2, read)


_FABLE_5 = _price(10_000, 50_000, 1_000)
_FABLE_5_1 = _price(10_000, 50_000, 250)
_FABLE_5_2 = _price(8_000, 40_000, 200)
_OPUS = _price(5_000, 25_000, 500)
_SONNET_4 = _price(3_000, 15_000, 300)

MODELS: tuple[Model, ...] = (
    Model("claude-fable-5-2", "Claude Fable 5.2", "fable", "2026-11-09", _FABLE_5_2, "fable-5", ALWAYS, forced_tools=False, fast=True),
    Model("claude-mythos-5-2", "Claude Mythos 5.2", "mythos", "2026-11-09", _FABLE_5_2, "mythos-5", ALWAYS, forced_tools=False),
    Model(
        "claude-haiku-5-5", "Claude Haiku 5.5", "haiku", "2026-10-07", _price(100, 500, 10), "haiku-5-5", HAIKU_5_5,
        long_price=_price(500, 2_500, 50),
    ),
    Model("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", "2026-09-28", _price(2_000, 10_000, 100), "sonnet-5-5", SONNET_5_5, forced_tools=False),
    Model("claude-opus-5-5", "Claude Opus 5.5", "opus", "2026-09-22", _price(4_000, 20_000, 200), "opus-5-5", OPUS_5_5, forced_tools=False, fast=True),
    Model("claude-fable-5-1", "Claude Fable 5.1", "fable", "2026-09-01", _FABLE_5_1, "fable-5", ALWAYS, forced_tools=False),
    Model("claude-mythos-5-1", "Claude Mythos 5.1", "mythos", "2026-09-01", _FABLE_5_1, "mythos-5", ALWAYS, forced_tools=False),
    Model("claude-opus-5", "Claude Opus 5", "opus", "2026-07-24", _OPUS, "opus-5", OPUS_5, fast=True),
    Model("claude-sonnet-5", "Claude Sonnet 5", "sonnet", "2026-06-30", _price(2_000, 10_000, 200), "sonnet-5", SONNET_5, cache_floor_tokens=1024),
    Model("claude-fable-5", "Claude Fable 5", "fable", "2026-06-09", _FABLE_5, "fable-5", ALWAYS, forced_tools=False),
    Model("claude-mythos-5", "Claude Mythos 5", "mythos", "2026-06-09", _FABLE_5, "mythos-5", ALWAYS, forced_tools=False),
    Model("claude-opus-4-8", "Claude Opus 4.8", "opus", "2026-05-28", _OPUS, "opus-4", WHEN_ASKED, cache_floor_tokens=1024, fast=True),
    Model("claude-opus-4-7", "Claude Opus 4.7", "opus", "2026-04-16", _OPUS, "opus-4", WHEN_ASKED, cache_floor_tokens=2048),
    Model(
        "claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet", "2026-02-17", _SONNET_4, "sonnet-4", EITHER_WAY,
        cache_floor_tokens=1024, chars_per_10_tokens=OLD_CHARS_PER_10_TOKENS,
    ),
    Model(
        "claude-opus-4-6", "Claude Opus 4.6", "opus", "2026-02-05", _OPUS, "opus-4", EITHER_WAY,
        cache_floor_tokens=4096, chars_per_10_tokens=OLD_CHARS_PER_10_TOKENS,
    ),
    Model(
        "claude-opus-4-5-20251101", "Claude Opus 4.5", "opus", "2025-11-24", _OPUS, "opus-4", MANUAL, 200_000, 64_000, 4096,
        chars_per_10_tokens=OLD_CHARS_PER_10_TOKENS, efforts=("low", "medium", "high"), prefill=True, regional=False,
        aliases=("claude-opus-4-5",),
    ),
    Model(
        "claude-haiku-4-5-20251001", "Claude Haiku 4.5", "haiku", "2025-10-15", _price(1_000, 5_000, 100), "haiku-4-5", MANUAL,
        200_000, 64_000, 4096, chars_per_10_tokens=OLD_CHARS_PER_10_TOKENS, efforts=(), prefill=True, regional=False,
        aliases=("claude-haiku-4-5",),
    ),
    Model(
        "claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "sonnet", "2025-09-29", _SONNET_4, "sonnet-4", MANUAL,
        200_000, 64_000, 1024, chars_per_10_tokens=OLD_CHARS_PER_10_TOKENS, efforts=(), prefill=True, regional=False,
        lifecycle="deprecated", deprecated_at="2026-08-31", retires_at="2026-11-30", aliases=("claude-sonnet-4-5",),
    ),
    Model(
        "claude-opus-4-1-20250805", "Claude Opus 4.1", "opus", "2025-08-05", _price(15_000, 75_000, 1_500), "opus-4", MANUAL,
        200_000, 32_000, 1024, chars_per_10_tokens=OLD_CHARS_PER_10_TOKENS, efforts=(), prefill=True, regional=False,
        lifecycle="retired", deprecated_at="2026-06-05", retires_at="2026-08-05", aliases=("claude-opus-4-1",),
    ),
)  # fmt: skip

BY_NAME: dict[str, Model] = {name: model for model in MODELS for name in (model.id, *model.aliases)}
"""Newest first; aliases lead to the model they stand for."""


@dataclass(slots=True)
class Usage:
    """Tokens of one call, by the classes that are billed differently."""

    input: int = 0
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0
    output: int = 0
    thinking: int = 0
    """Part of `output`."""

    @property
    def prompt(self) -> int:
        """Length of the prompt, which decides the price band."""
        return self.input + self.write_5m + self.write_1h + self.read


def bill_nanousd(model: Model, usage: Usage, *, regional: bool = False, fast: bool = False) -> int:
    """What a call costs, exactly. Halves of a nanodollar (only under `inference_geo`) go up."""
    price = model.price
    if model.long_price is not None and usage.prompt > model.long_from_tokens:
        price = model.long_price
    total = (
        usage.input * price.input
        + usage.write_5m * price.write_5m
        + usage.write_1h * price.write_1h
        + usage.read * price.read
        + usage.output * price.output
    )
    if fast:
        total *= 2
    return (total * 11 + 5) // 10 if regional else total


def describe(model: Model) -> dict[str, object]:
    """A model as `GET /v1/models/{id}` shows it."""
    return {
        "id": model.id,
        "type": "model",
        "display_name": model.display_name,
        "created_at": f"{model.released}T00:00:00Z",
        "lifecycle": model.lifecycle,
        "line": model.line,
        "deprecated_at": model.deprecated_at and f"{model.deprecated_at}T00:00:00Z",
        "retires_at": model.retires_at and f"{model.retires_at}T00:00:00Z",
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.max_output_tokens,
        "capabilities": _capabilities(model),
    }


def _capabilities(model: Model) -> dict[str, object]:
    def able(supported: object) -> dict[str, bool]:
        return {"supported": bool(supported)}

    types = ("adaptive", "between_tools", "disabled", "enabled")
    return {
        "batch": able(True),
        "citations": able(True),
        "code_execution": able(True),
        "context_management": {
            "supported": True,
            "clear_thinking_20251015": able(True),
            "clear_tool_uses_20250919": able(True),
            "compact_20260112": able(model.regional),
        },
        "effort": {"supported": bool(model.efforts)}
        | {effort: able(effort in model.efforts) for effort in ALL_EFFORTS},
        "image_input": able(True),
        "pdf_input": able(True),
        "server_tools": {"supported": True, "code_execution": able(True), "web_search": able(True)},
        "structured_outputs": able(model.lifecycle != "retired"),
        "thinking": {"supported": True, "types": {kind: able(kind in model.thinking.accepts) for kind in types}},
    }
