"""Reads the events out of a user's text and finds what is said of each: the answer book first, plain words else.

content → [answers] → replies
"""

from __future__ import annotations

import json
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from penstock.simulator.profile import Profile, judge
from penstock.simulator.roles import Draw

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT_PROFILES = 20_000


class Event(NamedTuple):
    """One line of a micro-batch."""

    id: str
    text: str
    judged: str
    """What the plain words are looked for in: the text, or of another object all its strings, one a line."""
    raw: str
    """The event's JSON as it stood there: what counts as the same event."""


class BookError(ValueError):
    """An answer book that cannot be read; the text names file and line."""


def read_book(path: str | Path) -> dict[bytes, dict[str, Any]]:
    """Recorded answers by SHA-256 of the text."""
    book: dict[bytes, dict[str, Any]] = {}
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    _read_line(line, f"answer book {path}, line {number}", book)
    except OSError as error:
        raise BookError(f"answer book {path}: {error.strerror or error}") from None
    return book


def _read_line(line: bytes, where: str, book: dict[bytes, dict[str, Any]]) -> None:
    try:
        row = orjson.loads(line)
        digest, answer = bytes.fromhex(row["sha256"]), row["answer"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise BookError(f'{where}: not {{"sha256": "<hex>", "answer": {{…}}}}') from None
    if len(digest) != 32 or not isinstance(answer, dict):
        raise BookError(f"{where}: sha256 has 64 hex digits, and answer is an object of field name to value")
    book[digest] = answer


def read_events(text: str) -> list[Event]:
    """All lines that are JSON objects with `id` and `event`, in their order."""
    lines = [line for line in text.split("\n") if line[:1] == "{" and line[-1:] == "}"]
    if not lines:
        return []
    rows = _parse(lines)
    events = []
    for line, row in zip(lines, rows, strict=True):
        if isinstance(row, dict) and "event" in row and isinstance(row.get("id"), str):
            start = line.find('"event":') + 8
            text = _text_of(row["event"])
            events.append(Event(row["id"], text, _judged(row["event"], text), line[start:-1]))
    return events


def _parse(lines: list[str]) -> list[Any]:
    """All at once where every line is a value of its own; else line by line."""
    try:
        rows = orjson.loads(f"[{','.join(lines)}]")
    except orjson.JSONDecodeError:
        rows = []
    return rows if len(rows) == len(lines) else [_parse_line(line) for line in lines]


def _parse_line(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _text_of(event: Any) -> str:
    if isinstance(event, str):
        return event
    if isinstance(event, dict):
        text = event.get("text")
        if isinstance(text, str):
            return text
    return json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _judged(event: Any, text: str) -> str:
    if isinstance(event, dict) and not isinstance(event.get("text"), str):
        return "\n".join(value for value in event.values() if isinstance(value, str)) or text
    return text


class Judge:
    """Says of each text what the simulated model says of it: the same for the same seed."""

    def __init__(self, seed: int, book: Mapping[bytes, dict[str, Any]]) -> None:
        self._key = seed.to_bytes(8, "little", signed=True)
        self._book = book
        self._profiles: dict[str, Profile] = {}

    def about(self, event: Event, line: str) -> Draw:
        """What an answer about this event is made of."""
        draw = self.draw(event.judged, line)
        if self._book:
            draw.answers = self._recorded(event.text)
        return draw

    def draw(self, text: str, line: str) -> Draw:
        """What an answer about this text is made of, for a model of this line."""
        profile = self._profiles.get(text)
        if profile is None:
            profile = judge(text, self.number(text))
            if len(self._profiles) >= KEPT_PROFILES:
                self._profiles.clear()
            self._profiles[text] = profile
        return Draw(profile, line, self._recorded(text) if self._book else None)

    def number(self, text: str) -> int:
        """64 bits of text and seed."""
        encoded = text.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(encoded, digest_size=8, key=self._key).digest(), "little")

    def _recorded(self, text: str) -> dict[str, Any] | None:
        return self._book.get(sha256(text.encode("utf-8", "surrogatepass")).digest())
