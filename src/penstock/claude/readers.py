"""One value of an entry to the value that the output model takes; ValueError where it is not one.

schema → [readers] → reply
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Read = Callable[[Any], Any]


def one_of_kinds(kinds: tuple[type, ...], value: Any) -> Any:
    if type(value) not in kinds:
        raise ValueError(f"not a {kinds[-1].__name__}")
    return value


def exactly(values: list[Any], value: Any) -> Any:
    if not any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in values):
        raise ValueError("not one of the values")
    return value


def list_of(read: Read, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")  # noqa: TRY004  # the reply is at fault, not the caller
    return [read(part) for part in value]


def any_of(reads: list[Read], value: Any) -> Any:
    for read in reads:
        try:
            return read(value)
        except ValueError:
            continue
    raise ValueError("none of the alternatives")
