"""Reads `examples/compose.yaml` without a YAML library: the plain part of YAML that it is written in, and nothing else.

file → [compose file] → test of the example
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_LINE = re.compile(r"(?P<indent> *)(?P<item>- )?(?P<rest>[^ ].*)")
_PAIR = re.compile(r"(?P<key>[A-Za-z_][\w-]*):(?: (?P<value>.+))?$")


def read(path: Path) -> dict[str, Any]:
    """Maps, lists of scalars, strings and flow lists of quoted strings. Raises where YAML would need more than that."""
    lines = [(number, _bare(text)) for number, text in enumerate(path.read_text().splitlines(), 1)]
    found, rest = _block([(number, text) for number, text in lines if text], 0)
    assert rest == [], f"line {rest[0][0]}: indented otherwise than what stands before it"
    assert isinstance(found, dict)
    return found


def _bare(line: str) -> str:
    """Without its comment: a `#` at the begin or behind a space, outside of quotes."""
    assert "\t" not in line, f"a tab in {line!r}"
    kept = re.match(r"""(?:"[^"]*"|(?<=\S)\#|[^"\#])*""", line)
    assert kept is not None
    return kept[0].rstrip()


def _block(lines: list[tuple[int, str]], indent: int) -> tuple[Any, list[tuple[int, str]]]:
    made: dict[str, Any] = {}
    items: list[Any] = []
    while lines:
        number, text = lines[0]
        line = _LINE.fullmatch(text)
        assert line is not None, f"line {number}: {text!r}"
        if len(line["indent"]) < indent:
            break
        assert len(line["indent"]) == indent, f"line {number}: indented too far"
        lines = lines[1:]
        if line["item"]:
            items.append(_scalar(line["rest"], number))
            continue
        pair = _PAIR.match(line["rest"])
        assert pair is not None, f"line {number}: neither `key: value` nor `- item`"
        assert pair["key"] not in made, f"line {number}: {pair['key']} stands there twice"
        if pair["value"] is None:
            is_deeper = bool(lines) and len(lines[0][1]) - len(lines[0][1].lstrip()) > indent
            made[pair["key"]], lines = _block(lines, indent + 2) if is_deeper else (None, lines)
        else:
            made[pair["key"]] = _scalar(pair["value"], number)
    assert not (made and items), "a list and a map at one place"
    return items or made, lines


def _scalar(text: str, number: int) -> Any:
    if text[0] in '["':
        return json.loads(text)
    assert text[0] not in "{&*!|>%@`'", f"line {number}: {text!r} is more YAML than is read here"
    assert not re.search(r":( |$)", text), f"line {number}: {text!r} would be a map"
    return text
