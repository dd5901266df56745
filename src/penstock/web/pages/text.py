"""Texts of others, for people's eyes: only ever text, what is invisible or turns lines around made visible, bytes that are no text as bytes.

rows, records → [text] → render
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from markupsafe import Markup, escape

UNKNOWN = "unknown"
MOST_CHARS = 20_000
"""Of one text; what is longer is cut, and the page says so."""
HEX_BYTES = 2_048
MOST_DEPTH = 32
"""What is nested deeper is not laid out: indents would be most of it."""
MOST_SIGNS = 2_000
"""Labels of one page: a label is some eighty characters for one that nobody sees."""
MOST_MARKS = 4
"""Accents on one letter: more are a trick to write over other lines."""
_JOINERS = "\u200c\u200d"
_ODD = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u02ff]")
_signs_left: ContextVar[list[int] | None] = ContextVar("signs_left", default=None)


class Shown(NamedTuple):
    """Bytes of an event, as a page shows them."""

    kind: str
    """`json`, `text`, `bytes`, `nothing`."""
    text: str
    is_cut: bool = False
    size: int = 0


@contextmanager
def one_page() -> Iterator[None]:
    """All texts that are made visible within share `MOST_SIGNS`; else each has so many of its own."""
    token = _signs_left.set([MOST_SIGNS])
    try:
        yield
    finally:
        _signs_left.reset(token)


def visible(text: Any, most: int = MOST_CHARS) -> Markup:
    """As HTML: escaped; controls, directions and other invisible characters as labels that are no part of the text."""
    if text is None or text == "":
        return Markup('<span class="nothing">{}</span>').format(UNKNOWN if text is None else "empty")
    text = str(text)
    cut = text[:most]
    end = Markup('<span class="sign" title="the text goes on">…</span>') if len(text) > most else Markup()
    if not _ODD.search(cut):
        return escape(cut) + end
    left = _signs_left.get() or [MOST_SIGNS]
    parts: list[Markup] = []
    at = last = marks = 0
    for found in _ODD.finditer(cut):
        place, char = found.start(), found[0]
        marks = (marks + 1 if last == place else 1) if unicodedata.category(char) in {"Mn", "Me"} else 0
        last = place + 1
        if _is_shown(cut, place, marks):
            continue
        parts.append(escape(cut[at:place]))
        at = last
        if left[0] <= 0:
            told = Markup('<span class="sign" title="the text goes on: the page has too many invisible signs">…</span>')
            return Markup().join([*parts, told])
        left[0] -= 1
        parts.append(_sign(char))
    return Markup().join([*parts, escape(cut[at:]), end])


def plain(text: Any, most: int = 200) -> str:
    """The same for attributes and titles, where no label can stand: `\\u202e`."""
    if text is None:
        return UNKNOWN
    text = str(text)
    cut = text if len(text) <= most else text[:most] + "…"
    return "".join(char if char.isprintable() else _escape(char) for char in cut)


def shown(value: bytes | None, size: int | None = None) -> Shown:
    """JSON laid out, other text as it is, the rest as hexadecimal."""
    if value is None:
        return Shown("nothing", "", size=0)
    size = len(value) if size is None else size
    is_part = size > len(value)
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        if is_part and error.start > len(value) - 4:  # the cut went through a character
            text = value[: error.start].decode()
        else:
            return Shown("bytes", _hex(value[:HEX_BYTES]), size > HEX_BYTES, size)
    if not is_part:
        try:
            made = laid_out(json.loads(text))
        except (ValueError, RecursionError):
            made = None
        if made is not None:
            return Shown("json", made[:MOST_CHARS], len(made) > MOST_CHARS, size)
    return Shown("text", text[:MOST_CHARS], is_part or len(text) > MOST_CHARS, size)


def laid_out(value: Any) -> str | None:
    """As JSON over several lines, not much longer than a page shows; None where it is nested too deeply for that."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            break
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    else:
        return None
    made, length = [], 0
    for part in json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(value):
        made.append(part)
        length += len(part)
        if length > MOST_CHARS:
            break
    return "".join(made)


def _is_shown(text: str, place: int, marks: int) -> bool:
    char = text[place]
    if char in "\n\t":
        return True
    if char in _JOINERS:  # Persian, Indic scripts and emoji need them between two signs
        around = text[max(0, place - 1) : place] + text[place + 1 : place + 2]
        return len(around) == 2 and all(not one.isascii() and unicodedata.category(one)[0] in "LMS" for one in around)
    if char == "\ufe0f":
        return place > 0 and unicodedata.category(text[place - 1]) in {"So", "Sk"}
    if marks > MOST_MARKS:
        return False
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _sign(char: str) -> Markup:
    name = unicodedata.name(char, "no character" if unicodedata.category(char) in {"Cn", "Cs"} else "control")
    label = f"U+{ord(char):04X}"
    return Markup('<span class="sign" title="{} {}">{}</span>').format(label, name, label)


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _hex(value: bytes) -> str:
    lines = []
    for at in range(0, len(value), 16):
        row = value[at : at + 16]
        seen = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in row)
        lines.append(f"{at:06x}  {row.hex(' '):<47}  {seen}")
    return "\n".join(lines)
