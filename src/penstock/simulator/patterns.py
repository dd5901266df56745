"""Writes a string that matches a simple regular expression, the kind that structured output supports.

schema | writers → [patterns]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Pick = Callable[[int], int]
"""A number from 0 to below the argument."""

DIGITS = "0123456789"
LOWER = "abcdefghijklmnopqrstuvwxyz"
WORD = LOWER + LOWER.upper() + DIGITS + "_"
PRINTABLE = "".join(map(chr, range(32, 127)))
CLASSES = {"d": DIGITS, "w": WORD, "s": " "}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
EXTRA_REPEATS = 3
MAX_REPEATS = 1000


class PatternError(ValueError):
    """Not a simple pattern."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of a set."""

    among: str

    def write(self, pick: Pick) -> str:
        """One of them."""
        return self.among[pick(len(self.among))]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part, several times."""

    part: Part
    least: int
    most: int

    def write(self, pick: Pick) -> str:
        """As often as it may be."""
        return "".join(self.part.write(pick) for _ in range(self.least + pick(self.most - self.least + 1)))


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several sequences."""

    ways: tuple[tuple[Part, ...], ...]

    def write(self, pick: Pick) -> str:
        """One way, in order."""
        return "".join(part.write(pick) for part in self.ways[pick(len(self.ways))])


Part = Chars | Repeat | Branch


def parse_pattern(pattern: str) -> Branch:
    """Literals, classes, groups, alternatives and quantifiers; anchors only at the ends."""
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def parse(self) -> Branch:
        branch = self._branch()
        if self._at < len(self._text):
            raise PatternError(f"unbalanced ')' at {self._at}")
        return branch

    def _branch(self) -> Branch:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return Branch(tuple(ways))

    def _sequence(self) -> tuple[Part, ...]:
        parts: list[Part] = []
        self._take("^")
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._take("$"):
                if self._at < len(self._text) and self._text[self._at] not in "|)":
                    raise PatternError("'$' is supported at the end only")
                break
            parts.append(self._quantified(self._atom()))
        return tuple(parts)

    def _atom(self) -> Part:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return Chars(self._set())
        if char == ".":
            return Chars(PRINTABLE)
        if char == "\\":
            return Chars(self._escape())
        if char in "*+?{^":
            raise PatternError(f"{char!r} is not supported here")
        return Chars(char)

    def _group(self) -> Part:
        if self._take("?") and not self._take(":"):
            raise PatternError("lookaround and named groups are not supported")
        branch = self._branch()
        if not self._take(")"):
            raise PatternError("unbalanced '('")
        return branch

    def _escape(self) -> str:
        char = self._next()
        if char in CLASSES:
            return CLASSES[char]
        if char.lower() in CLASSES:
            return "".join(c for c in PRINTABLE if c not in CLASSES[char.lower()])
        if char in ESCAPES:
            return ESCAPES[char]
        if char.isalnum():
            raise PatternError(f"'\\{char}' is not supported")
        return char

    def _set(self) -> str:
        negated = self._take("^")
        chars = ""
        while not (chars and self._take("]")):
            first = self._set_char()
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                chars += _between(first, self._set_char())
            else:
                chars += first
        if negated:
            chars = "".join(c for c in PRINTABLE if c not in chars)
        if not chars:
            raise PatternError("a set without characters")
        return chars

    def _set_char(self) -> str:
        char = self._next()
        return self._escape() if char == "\\" else char

    def _quantified(self, part: Part) -> Part:
        least, most = 1, 1
        if self._take("*"):
            least, most = 0, EXTRA_REPEATS
        elif self._take("+"):
            least, most = 1, 1 + EXTRA_REPEATS
        elif self._take("?"):
            least, most = 0, 1
        elif self._take("{"):
            least, most = self._bounds()
        else:
            return part
        self._take("?")  # lazy or greedy: the same strings match
        return Repeat(part, least, most)

    def _bounds(self) -> tuple[int, int]:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at : end].partition(",")
        if end < 0 or not low.isdigit() or (high and not high.isdigit()):
            raise PatternError("bad bounds of a quantifier")
        self._at = end + 1
        least = int(low)
        most = int(high) if high else least + (EXTRA_REPEATS if comma else 0)
        if most < least or most > MAX_REPEATS:
            raise PatternError("bad bounds of a quantifier")
        return least, most

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _take(self, char: str) -> bool:
        if self._text[self._at : self._at + 1] == char:
            self._at += 1
            return True
        return False


def _between(first: str, last: str) -> str:
    if len(first) != 1 or len(last) != 1 or first > last:
        raise PatternError("bad range in a set")
    return "".join(map(chr, range(ord(first), ord(last) + 1)))
