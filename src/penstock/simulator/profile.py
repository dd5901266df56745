"""Judges a text by plain words: signals of abuse of a review page, sentiment, language, aspects, topics.

answers → [profile] → writers

It must cost a few microseconds a text, so that the simulator never hides what it is a stand-in for: one pass
over the words and one table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from penstock.simulator import words

MAX_QUOTE_CHARS = 90
MAX_JUDGED_CHARS = 8_000
"""What stands behind it is not judged; a model too reads long texts less closely."""

_WORD = re.compile(r"[^\W_]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"\+?\d[\d \-]{7,}\d")
_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
)
_SENTENCE_ENDS = re.compile(r"[.!?\n\u3002\uff01\uff1f]")


class Signal(NamedTuple):
    """A kind of misuse that a text shows."""

    kind: str
    clause: str
    weight: int
    quote: str
    """The very words of the text that show it."""


class Profile(NamedTuple):
    """What one text was taken for."""

    text: str
    hash: int
    """64 bits of text and seed; everything that must vary varies with it."""
    signals: tuple[Signal, ...]
    """Heaviest first."""
    sentiment: str
    language: str
    aspects: tuple[tuple[str, str], ...]
    """Aspect and the sentiment about it."""
    topics: tuple[str, ...]
    urgent: bool

    @property
    def severity(self) -> int:
        """0 clean, 1 doubtful, 2 clear."""
        if not self.signals:
            return 0
        return 2 if self.signals[0].weight >= 2 and self.signals[0].kind != "injection" else 1

    @property
    def quote(self) -> str:
        """The words that weighed most; empty where the text is clean."""
        return self.signals[0].quote if self.signals else ""


class _Mark(NamedTuple):
    group: str
    name: str
    word: str
    phrase: bool


class _Entry(NamedTuple):
    """What one word says: votes (a byte per language, then good, then bad), its mood, and marks beyond that."""

    votes: int
    mood: int
    marks: tuple[_Mark, ...]


_LANGUAGES = tuple(dict.fromkeys(name for _, name in words.parse_lists(words.STOPWORDS)))
_GOOD_SHIFT = 16 * len(_LANGUAGES)
_BAD_SHIFT = _GOOD_SHIFT + 16
_VOTE = {name: 1 << 16 * at for at, name in enumerate(_LANGUAGES)} | {"+": 1 << _GOOD_SHIFT, "-": 1 << _BAD_SHIFT}
_LANGUAGE_MASK = (1 << _GOOD_SHIFT) - 1


def _index() -> tuple[dict[str, _Entry], tuple[tuple[str, _Mark], ...]]:
    """Every word, and every phrase under its first word; what has no words (Chinese) apart."""
    table: dict[str, list[_Mark]] = defaultdict(list)
    wide: list[tuple[str, _Mark]] = []
    lists = {"signal": words.SIGNALS, "vote": words.SENTIMENT + words.STOPWORDS, "aspect": words.ASPECTS,
             "topic": words.TOPICS, "urgent": words.URGENT}  # fmt: skip
    for group, listed in lists.items():
        for word, name in words.parse_lists(listed):
            parts = _WORD.findall(word)
            mark = _Mark(group, name, word, word != parts[0])
            if _WIDE.search(word):
                wide.append((word, mark))
            else:
                table[parts[0]].append(mark)
    return {word: _entry(marks) for word, marks in table.items()}, tuple(wide)


def _entry(marks: list[_Mark]) -> _Entry:
    plain = {mark.name for mark in marks if mark.group == "vote" and not mark.phrase}
    rest = tuple(mark for mark in marks if mark.group != "vote" or mark.phrase)
    return _Entry(sum(_VOTE[name] for name in plain), ("+" in plain) - ("-" in plain), rest)


_TABLE, _WIDE_TABLE = _index()


def judge(text: str, number: int) -> Profile:
    """Profile of one text; `number` is its hash."""
    lowered = text[:MAX_JUDGED_CHARS].lower()
    votes, marked = _read(lowered)
    signals: dict[str, list[_Mark]] = {}
    aspects: dict[str, int] = {}
    topics: dict[str, int] = {}
    urgent = False
    for mark, mood in marked:
        group, name, _, _ = mark
        if group == "aspect":
            aspects.setdefault(name, mood)
        elif group == "topic":
            topics[name] = topics.get(name, 0) + 1
        elif group == "signal":
            signals.setdefault(name, []).append(mark)
        elif group == "vote":
            votes += _VOTE[name]
        else:
            urgent = True
    overall = _overall(votes >> _GOOD_SHIFT & 0xFFFF, votes >> _BAD_SHIFT)
    return Profile(
        text,
        number,
        _signals(signals, text, lowered),
        overall,
        _language(lowered, votes & _LANGUAGE_MASK),
        tuple([(aspect, _MOODS[mood] or overall) for aspect, mood in aspects.items()]),
        tuple(sorted(topics, key=topics.__getitem__, reverse=True)),
        urgent,
    )


_MOODS = ("", "positive", "negative")


def _read(lowered: str) -> tuple[int, list[tuple[_Mark, int]]]:
    """Sum the votes of all words, and list the marks beyond votes with the mood in which they stand."""
    votes = mood = 0
    marked: list[tuple[_Mark, int]] = []
    lookup = _TABLE.get
    for word in _WORD.findall(lowered):
        entry = lookup(word)
        if entry is None:
            continue
        vote, change, marks = entry
        votes += vote
        if change:
            mood = change
        for mark in marks:
            if not mark[3] or mark[2] in lowered:
                marked.append((mark, mood))  # noqa: PERF401 — measured: a comprehension here is slower
    if not lowered.isascii() and _WIDE.search(lowered):
        marked += [(mark, 0) for word, mark in _WIDE_TABLE if word in lowered]
    return votes, marked


def _overall(good: int, bad: int) -> str:
    if good and bad and abs(good - bad) <= 1:
        return "mixed"
    if good == bad:
        return "neutral"
    return "positive" if good > bad else "negative"


def _language(lowered: str, votes: int) -> str:
    if not lowered.isascii():
        for language, script in _SCRIPTS:
            if script.search(lowered):
                return language
    best, most = "en", 0
    for language in _LANGUAGES:
        count = votes & 0xFFFF
        if count > most:
            best, most = language, count
        votes >>= 16
    return best


def _signals(found: dict[str, list[_Mark]], text: str, lowered: str) -> tuple[Signal, ...]:
    signals: dict[str, Signal] = {}
    for name, marks in found.items():
        kind, clause, weight = name.split(".")
        total = int(weight) * len({mark.word for mark in marks})
        if kind not in signals or signals[kind].weight < total:
            signals[kind] = Signal(kind, clause, total, marks[0].word)
    if "http" in lowered or "www." in lowered:
        signals.setdefault("spam", Signal("spam", "link", 2, "http" if "http" in lowered else "www."))
    elif "spam" not in signals and (number := _NUMBER.search(lowered)):
        signals["spam"] = Signal("spam", "contact", 1, number.group())
    if not signals:
        return ()
    ranked = sorted(signals.values(), key=lambda signal: -signal.weight)
    return tuple(signal._replace(quote=_quote(text, lowered, signal.quote)) for signal in ranked)


def _quote(text: str, lowered: str, word: str) -> str:
    """From the word on to the end of its sentence, as it stands in the text."""
    start = lowered.find(word)
    if text[start : start + len(word)].lower() != word:
        # Lowering changed lengths before the word (Turkish İ): look it up in the text itself.
        match = re.search(re.escape(word), text, re.IGNORECASE)
        start = match.start() if match else 0
    end = _SENTENCE_ENDS.search(text, start + len(word))
    stop = min(end.start() if end else len(text), start + max(MAX_QUOTE_CHARS, len(word)))
    return text[start:stop].strip() or text[:MAX_QUOTE_CHARS].strip()
