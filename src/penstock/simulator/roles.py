"""What a field of a reply stands for, told from its name and legend, and what it says of a judged text.

profile → [roles] → writers
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.simulator.profile import Profile

_NAME = re.compile(r"[A-Za-z_]\w*")
_SPLIT = re.compile(r"[^\w]+|_")
_BOUND = re.compile(r"\b(at least|at most|more than|less than) (-?\d+(?:\.\d+)?)(?: (characters|items))?")
_BOUNDLESS = (-math.inf, math.inf)
_MASK = (1 << 64) - 1

PUBLISH = (
    "publish",
    "approve",
    "approved",
    "accept",
    "accepted",
    "allow",
    "allowed",
    "keep",
    "clean",
    "ok",
    "pass",
    "none",
    "safe",
)
HOLD = (
    "hold",
    "review",
    "flag",
    "flagged",
    "manual",
    "manual_review",
    "quarantine",
    "escalate",
    "unclear",
    "suspicious",
    "needs_review",
)
REJECT = ("reject", "rejected", "remove", "block", "blocked", "deny", "delete", "ban", "unsafe", "violation")
PRIORITIES = (
    "low", "minor", "later", "week", "normal", "medium", "moderate", "today", "soon", "high", "major", "urgent", "critical",
    "now", "immediate",
)  # fmt: skip
LANGUAGES = {
    "en": "english", "de": "german", "es": "spanish", "fr": "french", "pt": "portuguese", "it": "italian", "nl": "dutch",
    "vi": "vietnamese", "id": "indonesian", "tr": "turkish", "pl": "polish", "zh": "chinese", "ja": "japanese",
    "ko": "korean", "ru": "russian", "ar": "arabic", "hi": "hindi", "th": "thai",
}  # fmt: skip
CLAUSE_WORDS = {
    "link": ("link", "url", "website", "off-site"),
    "contact": ("contact", "phone", "messenger", "off-platform", "link"),
    "advertising": ("advert", "promotion", "promo", "commercial", "solicit"),
    "repeated": ("repeat", "filler", "gibberish", "noise"),
    "insult": ("insult", "harass", "profan", "offens"),
    "threat": ("threat", "violence", "intimidat"),
    "hate": ("hate", "discriminat", "slur"),
    "paid": ("paid", "incentiv", "reward", "exchange", "compensat"),
    "campaign": ("campaign", "coordinat", "brigad", "bomb", "organi"),
    "customer": ("customer", "purchase", "first-hand", "experience", "bought"),
    "competitor": ("competitor", "conflict", "affiliat", "employee"),
    "instructions": ("instruction", "manipulat", "inject", "moderator", "prompt"),
}
KIND_WORDS = {
    "spam": ("spam",),
    "abuse": ("abus", "harass", "toxic", "hate", "insult", "threat"),
    "fake": ("fake", "inauthentic", "fraud", "paid", "coordinat"),
    "injection": ("inject", "manipulat", "instruct"),
}
# The surer the model, the fewer of 1,000 clean texts it calls likely and unsure; doubtful texts vary more.
UNSURE_PER_1000 = {"haiku": (25, 10), "sonnet": (8, 2), "opus": (2, 0), "fable": (1, 0), "mythos": (1, 0)}
DOUBTFUL_FACTOR = 12


@dataclass(slots=True)
class Draw:
    """All that one answer is made of."""

    profile: Profile
    line: str
    """The model's line; dearer ones are surer."""
    answers: Mapping[str, Any] | None = None
    """Recorded values by field name, which win over what the words say."""
    focus: tuple[str, str] | None = None
    """The aspect that a nested object speaks about, and the sentiment about it."""
    salt: int = 0

    def pick(self, below: int, salt: int = 0) -> int:
        """A number that depends on text, seed and field alone."""
        mixed = (self.profile.hash ^ (salt + self.salt) * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & _MASK
        return (mixed >> 24) % below if below > 0 else 0


@dataclass(frozen=True, slots=True)
class Label:
    """A field's name, what its codes mean, and what the caller says about it."""

    name: str
    meanings: dict[str, str] = field(default_factory=dict)
    """Code to meaning, lower case."""
    signed: bool = False
    """Whether praise is to be marked with a plus and criticism with a minus."""
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most, told in words: of a number under the empty name, of `characters`, of `items`."""

    def bound(self, unit: str) -> tuple[float, float]:
        """Least and most of a unit."""
        return self.bounds.get(unit, _BOUNDLESS)

    @property
    def words(self) -> frozenset[str]:
        """The words of the name."""
        return frozenset(part for part in _SPLIT.split(self.name.lower()) if part)


def read_label(key: str, description: Any) -> Label:
    """`decision: p=publish, r=reject. What happens to the review` names the field and explains its codes."""
    text = description if isinstance(description, str) else ""
    match = _NAME.match(text)
    rest = text[match.end() :] if match else ""
    signed = "(+)" in text and "(-)" in text
    if match is None or not (rest == "" or rest.startswith((". ", ": ")) or rest == "."):
        return Label(key, signed=signed, bounds=_bounds(text))
    legend = rest[2:].split(". ", 1)[0] if rest.startswith(": ") else ""
    meanings: dict[str, str] = {}
    for part in legend.split(", "):
        code, equals, meaning = part.partition("=")
        if equals:
            meanings[code.strip()] = meaning.strip().rstrip(".").lower()
    return Label(match.group(), meanings, signed, _bounds(text))


def _bounds(text: str) -> dict[str, tuple[float, float]]:
    """What a schema of the subset cannot say stands in descriptions: `at least 1, at most 5`."""
    found: dict[str, tuple[float, float]] = {}
    for words, number, unit in _BOUND.findall(text):
        least, most = found.get(unit, _BOUNDLESS)
        if words in ("at least", "more than"):
            found[unit] = (float(number) + (words == "more than"), most)
        else:
            found[unit] = (least, float(number) - (words == "less than"))
    return found


Codes = list[tuple[Any, str]]
"""Each allowed value with its meaning in lower case."""
Choose = Callable[[Draw], Any]


def chooser(label: Label, codes: Codes) -> Choose:
    """How one of a few values is chosen."""
    meanings = {meaning for _, meaning in codes}
    judged = _judged(label, codes, meanings)
    if judged is not None:
        return judged
    if label.words & {"language", "lang", "locale"}:
        return _by(codes, lambda draw: (draw.profile.language, LANGUAGES.get(draw.profile.language, ""), "other"))
    if label.words & {"priority", "urgency", "severity", "importance"} and meanings & set(PRIORITIES):
        return _by(codes, _priorities)
    if label.words & {
        "aspect",
        "topic",
        "category",
        "subject",
        "name",
        "kind",
        "type",
        "queue",
        "team",
        "intent",
        "department",
    }:
        return _topical(codes)
    return lambda draw: codes[draw.pick(len(codes), len(label.name))][0]


def _judged(label: Label, codes: Codes, meanings: set[str]) -> Choose | None:
    """The three questions that every judgement asks: how good, how sure, what to do."""
    if {"positive", "negative"} <= meanings:
        return _by(codes, lambda draw: _sentiments(draw.focus[1] if draw.focus else draw.profile.sentiment))
    if label.words & {"confidence", "certainty"} or {"sure", "unsure"} <= meanings:
        return _by(codes, lambda draw: _CONFIDENCES[confidence(draw)])
    if meanings & set(PUBLISH) and meanings & {*HOLD, *REJECT}:
        return _by(codes, lambda draw: _DECISIONS[draw.profile.severity])
    return None


def _by(codes: Codes, preferred: Callable[[Draw], tuple[str, ...]]) -> Choose:
    """The first preferred meaning that is among the codes."""
    table = {meaning: code for code, meaning in reversed(codes)}

    def choose(draw: Draw) -> Any:
        for meaning in preferred(draw):
            if meaning in table:
                return table[meaning]
        return codes[draw.pick(len(codes))][0]

    return choose


_DECISIONS = ((*PUBLISH, *HOLD), (*HOLD, *PUBLISH), (*REJECT, *HOLD))
_CONFIDENCES = (
    ("sure", "s", "high", "certain"),
    ("likely", "l", "medium", "probable"),
    ("unsure", "u", "low", "uncertain"),
)
_FALLBACKS = {"mixed": "neutral", "neutral": "mixed"}


def _sentiments(sentiment: str) -> tuple[str, ...]:
    return (sentiment, _FALLBACKS.get(sentiment, sentiment))


def confidence(draw: Draw) -> int:
    """0 sure, 1 likely, 2 unsure: a few per cent of clean texts and more of the doubtful ones are not sure."""
    likely, unsure = UNSURE_PER_1000.get(draw.line, (10, 2))
    if draw.profile.is_doubtful:
        likely, unsure = likely * DOUBTFUL_FACTOR, unsure * DOUBTFUL_FACTOR
    number = draw.pick(1000, 7)
    return 2 if number < unsure else 1 if number < unsure + likely else 0


def _priorities(draw: Draw) -> tuple[str, ...]:
    if draw.profile.urgent:
        return tuple(reversed(PRIORITIES))
    if draw.profile.sentiment == "negative":
        return ("high", "major", "today", "soon", "medium", "normal", "moderate", "low")
    return ("low", "minor", "normal", "medium") if draw.pick(2, 11) else ("normal", "medium", "moderate", "low")


def _topical(codes: Codes) -> Choose:
    """The code whose meaning is nearest to what the text is about."""

    def choose(draw: Draw) -> Any:
        about = (draw.focus[0],) if draw.focus else (*draw.profile.topics, *(name for name, _ in draw.profile.aspects))
        for topic in about:
            for code, meaning in codes:
                if topic in meaning or meaning in topic:
                    return code
        for code, meaning in codes:
            if meaning in ("other", "general", "misc", "none"):
                return code
        return codes[draw.pick(len(codes), 13)][0]

    return choose


def clauses(codes: Codes) -> Callable[[Draw], list[Any]] | None:
    """For a list of violated clauses: which of them a text violates. None if the codes are no such list."""
    by_kind: dict[str, Codes] = {}
    for kind, stems in KIND_WORDS.items():
        by_kind[kind] = [(code, meaning) for code, meaning in codes if any(stem in meaning for stem in stems)]
    if sum(bool(found) for found in by_kind.values()) < 2:
        return None

    def choose(draw: Draw) -> list[Any]:
        found: dict[Any, None] = {}
        for signal in draw.profile.signals:
            among = by_kind[signal.kind]
            if among:
                found[_nearest(among, signal.clause)] = None
        return list(found) if found or not draw.profile.signals else [codes[0][0]]

    return choose


def _nearest(codes: Codes, clause: str) -> Any:
    for code, meaning in codes:
        if any(stem in meaning for stem in CLAUSE_WORDS[clause]):
            return code
    return codes[0][0]
