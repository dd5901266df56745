"""Texts of others, for people's eyes: only ever text, what is invisible or turns lines around made visible, bytes that are no text as bytes.

rows, records → [text] → render
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, NamedTuple

from markupsafe import Markup, escape

UNKNOWN = "unknown"
MOST_CHARS = 20_000
"""Of one text; what is longer is cut, and the page says so."""
HEX_BYTES = 2_048
MOST_MARKS = 4
"""Accents on one letter: more are a trick to write over other lines."""
_JOINERS = "\u200c\u200d"
_ODD = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u02ff]")


class Shown(NamedTuple):
    """Bytes of an event, as a page shows them."""

    kind: str
    """`json`, `text`, `bytes`, `nothing`."""
    text: str
    is_cut: bool = False
    size: int = 0


def visible(text: Any, most: int = MOST_CHARS) -> Markup:
    """As HTML: escaped; controls, directions and other invisible characters as labels that are no part of the text."""
    if text is None or text == "":
        return Markup('<span class="nothing">{}</span>').format(UNKNOWN if text is None else "empty")
    text = str(text)
    cut = text[:most]
    end = Markup('<span class="sign" title="the text goes on">…</span>') if len(text) > most else Markup()
    if not _ODD.search(cut):
        return escape(cut) + end
    parts: list[Markup] = []
    at = marks = 0
    for found in _ODD.finditer(cut):
        place, char = found.start(), found[0]
        parts.append(escape(cut[at:place]))
        marks = (marks + 1 if at == place else 1) if unicodedata.category(char) in {"Mn", "Me"} else 0
        parts.append(escape(char) if _is_shown(cut, place, marks) else _sign(char))
        at = place + 1
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
            text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            pass
        else:
            return Shown("json", text[:MOST_CHARS], len(text) > MOST_CHARS, size)
    return Shown("text", text[:MOST_CHARS], is_part or len(text) > MOST_CHARS, size)


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
