"""Writers of values that satisfy a schema: recorded ones, plain-word ones, else hashed ones.

compiler → [writers] → replies
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from penstock.simulator.patterns import parse_pattern
from penstock.simulator.roles import Codes, Draw, Label, chooser, clauses
from penstock.simulator.wording import flag_role, number_role, text_role

MISSING: Any = object()
"""Stands for: this value does not fit here."""
MAX_ASPECTS = 5
MAX_ITEMS = 100
MAX_CHARS = 2_000
FORMATTED: dict[str, Callable[[int], str]] = {
    "date-time": lambda n: f"2026-0{n % 9 + 1}-1{n % 10}T0{n % 10}:30:00Z",
    "time": lambda n: f"0{n % 10}:30:00Z",
    "date": lambda n: f"2026-0{n % 9 + 1}-1{n % 10}",
    "duration": lambda n: f"P{n % 9 + 1}D",
    "email": lambda n: f"person{n % 1000}@example.com",
    "hostname": lambda n: f"host{n % 1000}.example.com",
    "uri": lambda n: f"https://example.com/{n % 1000}",
    "ipv4": lambda n: f"192.0.2.{n % 254 + 1}",
    "ipv6": lambda n: f"2001:db8::{n % 9999:x}",
    "uuid": lambda n: f"00000000-0000-4000-8000-{n % 10**12:012d}",
}


class Writer(Protocol):
    """Writes one value of a reply."""

    def write(self, draw: Draw) -> Any:
        """A value that satisfies the schema."""
        ...

    def encode(self, value: Any) -> Any:
        """A recorded value as the schema wants it (codes for meanings), or `MISSING`."""
        ...


class Const:
    """The only value there is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def write(self, draw: Draw) -> Any:  # noqa: ARG002 — the contract
        return self._value

    def encode(self, value: Any) -> Any:
        return self._value if value == self._value else MISSING


class Choice:
    """One of a few values, found by what they mean."""

    def __init__(self, values: list[Any], label: Label) -> None:
        self.codes: Codes = [(value, label.meanings.get(str(value), str(value).lower())) for value in values]
        self._by_meaning = {meaning: code for code, meaning in reversed(self.codes)}
        self._choose = chooser(label, self.codes)

    def write(self, draw: Draw) -> Any:
        return self._choose(draw)

    def encode(self, value: Any) -> Any:
        if isinstance(value, str):
            found = self._by_meaning.get(value.lower(), MISSING)
            if found is not MISSING:
                return found
        return next((code for code, _ in self.codes if code == value and type(code) is type(value)), MISSING)


class Text:
    """A string: by pattern, by format, or by what its field is called."""

    def __init__(self, schema: dict[str, Any], label: Label) -> None:
        self._pattern = parse_pattern(schema["pattern"]) if "pattern" in schema else None
        self._format = FORMATTED.get(schema.get("format", ""))
        self._say = text_role(label)
        self._most = int(min(label.bound("characters")[1], MAX_CHARS))
        self._free = self._pattern is None and self._format is None

    def write(self, draw: Draw) -> str:
        if self._pattern is not None:
            picks = iter(range(1, 1 << 30))
            return self._pattern.write(lambda below: draw.pick(below, next(picks)))
        if self._format is not None:
            return self._format(draw.pick(1 << 30))
        said = self._say(draw)
        return said if len(said) <= self._most else said[: self._most].rstrip()

    def encode(self, value: Any) -> Any:
        return value if isinstance(value, str) and self._free else MISSING


class Number:
    """An integer, or any number."""

    def __init__(self, label: Label, *, whole: bool) -> None:
        self._say = number_role(label)
        self._whole = whole
        self._least, self._most = label.bound("")
        self._share = not whole and bool(label.words & {"confidence", "probability", "score", "likelihood"})

    def write(self, draw: Draw) -> int | float:
        value = round(0.5 + draw.pick(500, 29) / 1000, 3) if self._share else self._say(draw)
        if self._least <= value <= self._most:
            return value
        least = self._least if math.isfinite(self._least) else min(self._most, 0)
        most = self._most if math.isfinite(self._most) else least + 100
        if self._whole:
            return math.ceil(least) + draw.pick(int(most) - math.ceil(least) + 1, 43)
        return round(least + (most - least) * draw.pick(1000, 43) / 1000, 6)

    def encode(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return MISSING
        return value if not self._whole or value == int(value) else MISSING


class Flag:
    """True or false."""

    def __init__(self, label: Label) -> None:
        self._say = flag_role(label)

    def write(self, draw: Draw) -> bool:
        return self._say(draw)

    def encode(self, value: Any) -> Any:
        return value if isinstance(value, bool) else MISSING


class Listed:
    """An array: violated clauses, aspects spoken of, or a few of what its items are."""

    def __init__(self, item: Writer, label: Label, least: int) -> None:
        self.item = item
        told_least, told_most = label.bound("items")
        self._least = max(least, int(told_least) if math.isfinite(told_least) else 0)
        self._most = int(min(told_most, MAX_ITEMS))
        self._clauses = clauses(item.codes) if isinstance(item, Choice) else None
        self._aspects = bool(label.words & {"aspects", "topics", "features", "themes"})
        self._distinct = isinstance(item, Choice)

    def write(self, draw: Draw) -> list[Any]:
        if self._clauses is not None:
            values = self._clauses(draw)
        elif self._aspects:
            spoken = draw.profile.aspects[:MAX_ASPECTS]
            values = [self.item.write(Draw(draw.profile, draw.line, focus=aspect, salt=at)) for at, aspect in enumerate(spoken)]  # fmt: skip
        else:
            few = max(draw.pick(3, 31), self._least)
            values = [
                self.item.write(Draw(draw.profile, draw.line, focus=draw.focus, salt=at + 1)) for at in range(few)
            ]
        if self._distinct:
            values = list(dict.fromkeys(values))
        while len(values) < self._least:
            values.append(self.item.write(Draw(draw.profile, draw.line, salt=len(values) + 97)))
        return values[: self._most]

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) < self._least:
            return MISSING
        encoded = [self.item.encode(entry) for entry in value]
        return MISSING if any(entry is MISSING for entry in encoded) else encoded


class Record:
    """An object: required properties first, optional ones only where they say something."""

    def __init__(self, fields: list[tuple[str, str, Writer, bool, Any]]) -> None:
        self.fields = sorted(fields, key=lambda entry: not entry[3])
        self.by_key = {key: writer for key, _, writer, _, _ in fields}

    def write(self, draw: Draw) -> dict[str, Any]:
        answers = draw.answers
        written: dict[str, Any] = {}
        for key, name, writer, required, default in self.fields:
            value = MISSING
            if answers is not None and name in answers:
                value = writer.encode(answers[name])
            if value is MISSING:
                value = writer.write(draw)
            if required or not (value is None or value in ("", []) or value == default):
                written[key] = value
        return written

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return MISSING
        encoded: dict[str, Any] = {}
        for key, name, writer, required, default in self.fields:
            given = value.get(name, value.get(key, MISSING))
            if given is MISSING:
                if required:
                    return MISSING
                continue
            part = writer.encode(given)
            if part is MISSING:
                return MISSING
            if required or part != default:
                encoded[key] = part
        return encoded


class Union:
    """One of several schemas: the first that says something, null where none does."""

    def __init__(self, ways: list[Writer]) -> None:
        self._ways = ways
        self._null = next((way for way in ways if way.encode(None) is None), None)

    def write(self, draw: Draw) -> Any:
        first = next((way for way in self._ways if way is not self._null), self._ways[0])
        value = first.write(draw)
        return None if self._null is not None and value in ("", []) else value

    def encode(self, value: Any) -> Any:
        for way in self._ways:
            encoded = way.encode(value)
            if encoded is not MISSING:
                return encoded
        return MISSING
