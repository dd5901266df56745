"""Judges a text by plain words: signals of abuse of a review page, sentiment, language, aspects, topics.

answers → [profile] → writers

It must cost a few microseconds a text, so that the simulator never hides what it is a stand-in for: one pass
over the words and one table.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import NamedTuple

from penstock.simulator import words

MAX_QUOTE_CHARS = 90
FILLER_WORDS = 6
MAX_FILLER_WORDS = 40
"""Between these, a text half of whose words repeat others is filler; long texts repeat words anyway."""
MAX_JUDGED_CHARS = 8_000
"""What stands behind it is not judged; a model too reads long texts less closely."""

STRONG = 2
CLEAR_KINDS = frozenset({"spam", "abuse"})
"""The others are for a person to decide, however plain the words."""
LANGUAGE_WORDS = 24

_WORD = re.compile(r"[^\W_]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"(?:\+\d|\b0)[\d \-]{6,}\d")
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


class Profile:
    """What one text was taken for. What few fields ask about is worked out when it is asked for."""

    __slots__ = ("_marked", "hash", "language", "sentiment", "signals", "text")

    def __init__(
        self, text: str, number: int, marked: list[Marked], signals: tuple[Signal, ...], sentiment: str, language: str
    ) -> None:
        self.text = text
        self.hash = number
        """64 bits of text and seed; everything that must vary varies with it."""
        self.signals = signals
        """Heaviest first."""
        self.sentiment = sentiment
        self.language = language
        self._marked = marked

    @property
    def severity(self) -> int:
        """0 clean, 1 to be held, 2 to be rejected."""
        if not self.signals:
            return 0
        return 2 if self.signals[0].weight >= STRONG and self.signals[0].kind in CLEAR_KINDS else 1

    @property
    def is_doubtful(self) -> bool:
        """Whether little speaks for what it was taken for."""
        return bool(self.signals) and self.signals[0].weight < STRONG

    @property
    def quote(self) -> str:
        """The words that weighed most; empty where the text is clean."""
        return self.signals[0].quote if self.signals else ""

    @property
    def aspects(self) -> tuple[tuple[str, str], ...]:
        """Aspects spoken of, each with the sentiment about it."""
        found: dict[str, int] = {}
        for mark, mood in self._marked:
            if mark.group == "aspect":
                found.setdefault(mark.name, mood)
        return tuple((aspect, _MOODS[mood] or self.sentiment) for aspect, mood in found.items())

    @property
    def topics(self) -> tuple[str, ...]:
        """What it is about, most spoken of first."""
        return tuple(name for name, _ in Counter(m.name for m, _ in self._marked if m.group == "topic").most_common())

    @property
    def urgent(self) -> bool:
        """Whether it says that it cannot wait."""
        return any(mark.group == "urgent" for mark, _ in self._marked)


class _Mark(NamedTuple):
    group: str
    name: str
    word: str
    phrase: bool


Marked = tuple[_Mark, int]
"""A mark, and the mood of the words before it."""


class _Entry(NamedTuple):
    """What one word says: its mood (1 good, -1 bad), and marks beyond that."""

    mood: int
    marks: tuple[_Mark, ...]


_LANGUAGES = tuple(dict.fromkeys(name for _, name in words.parse_lists(words.STOPWORDS)))
_PLAIN = {chr(code): chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_PLAIN_TABLE = str.maketrans(_PLAIN)
_MOODS = ("", "positive", "negative")


def _language_votes() -> dict[str, int]:
    """For each common word, a 16-bit counter per language that has it."""
    votes: dict[str, int] = {}
    for word, name in words.parse_lists(words.STOPWORDS):
        votes[word] = votes.get(word, 0) | 1 << 16 * _LANGUAGES.index(name)
    return votes


def _index() -> tuple[dict[str, _Entry], tuple[Marked, ...]]:
    """Every word, and every phrase under its first word; what has no words (Chinese) apart."""
    table: dict[str, list[_Mark]] = defaultdict(list)
    wide: list[Marked] = []
    lists = {"signal": words.SIGNALS, "mood": words.SENTIMENT, "aspect": words.ASPECTS, "topic": words.TOPICS, "urgent": words.URGENT}  # fmt: skip
    for group, listed in lists.items():
        for word, name in words.parse_lists(listed):
            parts = _WORD.findall(word)
            mark = _Mark(group, name, word, word != parts[0])
            if _WIDE.search(word):
                wide.append((mark, 0))
            else:
                table[parts[0]].append(mark)
    return {word: _entry(marks) for word, marks in table.items()}, tuple(wide)


def _entry(marks: list[_Mark]) -> _Entry:
    plain = {mark.name for mark in marks if mark.group == "mood" and not mark.phrase}
    rest = tuple(mark for mark in marks if mark.group != "mood" or mark.phrase)
    return _Entry(("+" in plain) - ("-" in plain), rest)


_VOTES = _language_votes()
_TABLE, _WIDE_TABLE = _index()


def judge(text: str, number: int) -> Profile:
    """Profile of one text; `number` is its hash."""
    judged = text[:MAX_JUDGED_CHARS]
    lowered = judged.lower()
    ascii_only = lowered.isascii()
    listed = lowered.translate(_PLAIN_TABLE).split() if ascii_only else _WORD.findall(lowered)
    good, bad, marked = _read(listed, lowered)
    if not ascii_only and _WIDE.search(lowered):
        wide = [entry for entry in _WIDE_TABLE if entry[0].word in lowered]
        good += sum(mark.group == "mood" and mark.name == "+" for mark, _ in wide)
        bad += sum(mark.group == "mood" and mark.name == "-" for mark, _ in wide)
        marked += wide
    language = "en" if ascii_only else _script(lowered)
    return Profile(
        text,
        number,
        marked,
        _signals(marked, judged, lowered, listed),
        _overall(good, bad),
        _language(listed) if language in ("", "en") else language,
    )


def _read(listed: list[str], lowered: str) -> tuple[int, int, list[Marked]]:
    """Good words, bad words, and all marks with the mood in which they stand."""
    good = bad = mood = 0
    marked: list[Marked] = []
    # Few words say anything: the others are passed over without a step of Python's.
    for word in filter(_TABLE.__contains__, listed):
        change, marks = _TABLE[word]
        if change:
            mood = change
            if change > 0:
                good += 1
            else:
                bad += 1
        for mark in marks:
            if not mark[3] or mark[2] in lowered:
                if mark[0] == "mood":
                    good, bad = (good + 1, bad) if mark[1] == "+" else (good, bad + 1)
                marked.append((mark, mood))
    return good, bad, marked


def _overall(good: int, bad: int) -> str:
    if good and bad and abs(good - bad) <= 1:
        return "mixed"
    if good == bad:
        return "neutral"
    return "positive" if good > bad else "negative"


def _script(lowered: str) -> str:
    """A language that its letters give away; empty where they do not."""
    return next((language for language, script in _SCRIPTS if script.search(lowered)), "")


def _language(listed: list[str]) -> str:
    """The language whose common words stand among the first ones most often."""
    votes = sum(map(_VOTES.__getitem__, filter(_VOTES.__contains__, listed[:LANGUAGE_WORDS])))
    best, most = "en", 0
    for language in _LANGUAGES:
        if not votes:
            break
        count = votes & 0xFFFF
        if count > most:
            best, most = language, count
        votes >>= 16
    return best


def _signals(marked: list[Marked], text: str, lowered: str, listed: list[str]) -> tuple[Signal, ...]:
    found: dict[str, dict[str, None]] = {}
    for mark, _ in marked:
        if mark[0] == "signal":
            found.setdefault(mark[1], {})[mark[2]] = None
    signals: dict[str, Signal] = {}
    for name, spoken in found.items():
        kind, clause, weight = name.split(".")
        total = int(weight) * len(spoken)
        if kind not in signals or signals[kind].weight < total:
            signals[kind] = Signal(kind, clause, total, next(iter(spoken)))
    if "http" in lowered or "www." in lowered:
        signals.setdefault("spam", Signal("spam", "link", 2, "http" if "http" in lowered else "www."))
    elif ("+" in lowered or " 0" in lowered) and (number := _NUMBER.search(lowered)):
        signals.setdefault("spam", Signal("spam", "contact", 1, number.group()))
    if FILLER_WORDS <= len(listed) <= MAX_FILLER_WORDS and len(set(listed)) * 2 <= len(listed):
        signals.setdefault("spam", Signal("spam", "repeated", 2, listed[0]))
    elif len(listed) < FILLER_WORDS and any(len(word) > 9 and len({*word}) == 1 for word in listed):
        signals.setdefault("spam", Signal("spam", "repeated", 2, max(listed, key=len)))
    if not signals:
        return ()
    ranked = sorted(signals.values(), key=lambda signal: -signal.weight)
    return tuple([signal._replace(quote=_quote(text, lowered, signal.quote)) for signal in ranked])


def _quote(text: str, lowered: str, word: str) -> str:
    """From the word on to the end of its sentence, as it stands in the text."""
    start = lowered.find(word)
    if text[start : start + len(word)].lower() != word:
        # Lowering changed lengths before the word (Turkish İ): look it up in the text itself.
        match = re.search(re.escape(word), text, re.IGNORECASE)
        start = match.start() if match else 0
    end = _SENTENCE_ENDS.search(text, start + len(word))
    stop = min(end.start() if end else len(text), start + max(MAX_QUOTE_CHARS, len(word)))
    return text[start:stop].strip()
