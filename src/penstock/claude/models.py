"""The table of Claude models: prices, limits' families and how each must be asked. Data from `prices.toml`.

[models] → prompt → client → tier
"""

from __future__ import annotations

import datetime as dt
import tomllib
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penstock.errors import SettingsError

_MTOK = 1_000_000
_NANOUSD_PER_USD = 1_000_000_000
_OLDEST_PRICES_DAYS = 90

Effort = Literal["low", "medium", "high", "xhigh", "max"]


class Tokens(NamedTuple):
    """What one call is billed for, by price class."""

    input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output: int = 0
    inference_geo: str = ""

    @property
    def cache_write(self) -> int:
        """Both kinds of cache write."""
        return self.cache_write_5m + self.cache_write_1h

    @property
    def prompt(self) -> int:
        """The length that decides the price band."""
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prices(_Row):
    """US dollars per million tokens, for prompts up to a length."""

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cache_write_5m: Decimal = Field(ge=0)
    cache_write_1h: Decimal = Field(ge=0)
    cache_read: Decimal = Field(ge=0)
    up_to_prompt_tokens: int | None = Field(default=None, gt=0)


class Model(_Row):
    """One model: a row of the table."""

    id: str
    family: str
    thinking: Literal["disabled", "between_tools", "off", "always"]
    thinking_off_efforts: tuple[Effort, ...] = ()
    efforts: tuple[Effort, ...] = ()
    effort: Effort | Literal[""] = ""
    min_cacheable_tokens: int = Field(ge=0)
    max_output_tokens: int = Field(gt=0)
    context_tokens: int = Field(gt=0)
    chars_per_token: float = Field(gt=0)
    geo_multiplier: Decimal = Field(default=Decimal(1), ge=1)
    prices: tuple[Prices, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _bands_are_complete(self) -> Model:
        bounds = [band.up_to_prompt_tokens for band in self.prices]
        if bounds[-1] is not None or None in bounds[:-1] or bounds[:-1] != sorted(bounds[:-1], key=lambda b: b or 0):
            raise ValueError("prices: bands in rising up_to_prompt_tokens, the last one without it")
        if self.effort and self.effort not in self.efforts:
            raise ValueError(f"effort={self.effort!r} is not among efforts")
        return self

    def cost_nanousd(self, tokens: Tokens) -> int:
        """What a call cost, in billionths of a dollar, rounded once, half up."""
        band = self._band(tokens.prompt)
        usd_per_mtok = (
            tokens.input * band.input
            + tokens.cache_write_5m * band.cache_write_5m
            + tokens.cache_write_1h * band.cache_write_1h
            + tokens.cache_read * band.cache_read
            + tokens.output * band.output
        )
        if tokens.inference_geo == "us":
            usd_per_mtok *= self.geo_multiplier
        return int(usd_per_mtok * (_NANOUSD_PER_USD // _MTOK) + Decimal("0.5"))

    def worst_nanousd(self, prompt_tokens: int, output_tokens: int) -> int:
        """The most that a call of at most so many tokens may cost, whatever is cached and wherever it runs."""
        bands = [b for b in self.prices if b is self._band(prompt_tokens) or b.up_to_prompt_tokens]
        dearest_input = max(max(b.input, b.cache_write_5m, b.cache_write_1h) for b in bands)
        dearest_output = max(b.output for b in bands)
        usd_per_mtok = (prompt_tokens * dearest_input + output_tokens * dearest_output) * self.geo_multiplier
        return int(usd_per_mtok * (_NANOUSD_PER_USD // _MTOK)) + 1

    def _band(self, prompt_tokens: int) -> Prices:
        for band in self.prices:
            if band.up_to_prompt_tokens is None or prompt_tokens <= band.up_to_prompt_tokens:
                return band
        raise AssertionError("the last band has no bound")

    def asking(self, effort: str = "") -> tuple[dict[str, Any] | None, str]:
        """How this model is asked for a short verdict: its `thinking` parameter (None: not sent) and its effort."""
        level = effort or self.effort
        if effort and effort not in self.efforts:
            takes = ", ".join(self.efforts) or "no effort at all"
            raise SettingsError(f"claude.effort={effort!r}: {self.id} takes {takes}")
        if self.thinking in ("disabled", "between_tools") and level in self.thinking_off_efforts:
            return {"type": self.thinking}, level
        return None, level

    def thinks(self, effort: str = "") -> bool:
        """Whether replies begin with thinking, which is billed as output."""
        return self.thinking != "off" and self.asking(effort)[0] is None


class Models:
    """The shipped table with the user's own rows on top."""

    def __init__(self, rows: dict[str, Model], aliases: dict[str, str], dated: dt.date, source: str) -> None:
        self.rows = rows
        self.aliases = aliases
        self.dated = dated
        self.source = source

    @classmethod
    def load(cls, prices_file: Path | str | None = None) -> Models:
        """Read the shipped table and, on top of it, the user's."""
        shipped = resources.files("penstock.claude").joinpath("prices.toml").read_text(encoding="utf-8")
        table = cls._parse(shipped, "prices.toml")
        if prices_file is None:
            return table
        path = Path(prices_file)
        try:
            own = cls._parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"claude.prices_file={str(path)!r} cannot be read: {error}") from error
        rows, aliases = {**table.rows, **own.rows}, {**table.aliases, **own.aliases}
        _check_aliases(rows, aliases, str(path))
        return cls(rows, aliases, own.dated, str(path))

    @classmethod
    def _parse(cls, text: str, source: str) -> Models:
        try:
            content = tomllib.loads(text, parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"claude.prices_file={source!r} is no TOML: {error}") from error
        unknown = set(content) - {"dated", "aliases", "models"}
        if unknown:
            raise SettingsError(
                f"claude.prices_file={source!r}: unknown {sorted(unknown)}; it has dated, [aliases], [models.<id>]"
            )
        dated = content.get("dated")
        if not isinstance(dated, dt.date):
            raise SettingsError(f"claude.prices_file={source!r}: write the day of the prices, as dated = 2026-11-23")
        try:
            rows = {name: Model(id=name, **row) for name, row in content.get("models", {}).items()}
        except (ValidationError, TypeError) as error:
            raise SettingsError(f"claude.prices_file={source!r}: {error}") from error
        return cls(rows, dict(content.get("aliases", {})), dated, source)

    def resolve(self, name: str) -> Model:
        """The row of an alias or id."""
        row = self.rows.get(self.aliases.get(name, name))
        if row is None:
            known = ", ".join([*self.aliases, *self.rows])
            raise SettingsError(
                f"unknown model {name!r}; known are {known}. For another one, put a [models.{name}] row (copy one of "
                "penstock/claude/prices.toml and mend its prices) into a file and name it in claude.prices_file"
            )
        return row

    def is_old(self, today: dt.date) -> bool:
        """Whether the prices are so old that they are likely to have changed."""
        return (today - self.dated).days > _OLDEST_PRICES_DAYS


def _check_aliases(rows: dict[str, Model], aliases: dict[str, str], source: str) -> None:
    for alias, name in aliases.items():
        if name not in rows:
            raise SettingsError(f"claude.prices_file={source!r}: alias {alias!r} names {name!r}, which has no row")
