"""Short keys and codes: what a model writes in place of field names and of long values.

schema → [codes] → reply
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from typing import Any

_KEPT_LENGTH = 2


def keys(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A short lower-case key for every name, stable for the same names in the same order.

    >>> keys(["decision", "details"], taken="ic")
    {'decision': 'd', 'details': 'e'}
    """
    used = set(taken)
    short: dict[str, str] = {}
    for name in names:
        short[name] = next(key for key in _candidates(name) if key not in used)
        used.add(short[name])
    return short


def _candidates(name: str) -> Iterator[str]:
    letters = [c for c in name.lower() if c in string.ascii_lowercase] or ["x"]
    yield from letters
    number = 2
    while True:
        yield f"{letters[0]}{number}"
        number += 1


def values(texts: list[str]) -> dict[str, str]:
    """Codes for the values of an enumeration: as they are where short, else first letters, else numbers.

    No two codes differ only by case: the API does not keep the case of an enumeration.

    >>> values(["publish", "hold", "reject"])
    {'p': 'publish', 'h': 'hold', 'r': 'reject'}
    >>> values(["spam.advertising", "spam.links"])
    {'1': 'spam.advertising', '2': 'spam.links'}
    """
    lowered = [text.lower() for text in texts]
    initials = [text[:1] for text in lowered]
    if all(0 < len(text) <= _KEPT_LENGTH for text in texts) and len(set(lowered)) == len(texts):
        return {text: text for text in texts}
    if len(set(initials)) == len(texts) and all(c in string.ascii_lowercase for c in initials) and all(initials):
        return dict(zip(initials, texts, strict=True))
    return {str(number): text for number, text in enumerate(texts, 1)}


def reader(by_code: dict[str, str]) -> Reader:
    """Reads a code (or, where that is plain, the value itself) in any case; raises ValueError for anything else."""
    lowered = {code.lower(): text for code, text in by_code.items()}
    for text in by_code.values():
        lowered.setdefault(text.lower(), text)
    verbatim = {text: text for text in by_code.values()} if list(by_code) == list(by_code.values()) else {}
    return Reader({**lowered, **verbatim})


class Reader:
    """A function, and what it knows as it is: `exact` spares a call for each value of each event."""

    __slots__ = ("exact",)

    def __init__(self, exact: dict[str, str]) -> None:
        self.exact = exact

    def __call__(self, value: Any) -> str:
        """The value; raises ValueError where there is none."""
        try:
            found = self.exact.get(value)
            if found is None:
                found = self.exact[value.strip().lower()]
        except (KeyError, AttributeError, TypeError):
            raise ValueError("not one of the codes") from None
        return found
