"""How many tokens a text has, as far as a count of characters can tell; one function for usage and count_tokens.

validation → [tokens] → cache
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from penstock.simulator.models import Model

REQUEST_OVERHEAD = 7
MESSAGE_OVERHEAD = 4
FORMAT_OVERHEAD = 62
"""The instructions that the API adds for structured outputs, beside the schema itself."""
TOOLS_OVERHEAD = 210
IMAGE_TOKENS = 1_600


def count_chars(model: Model, chars: int) -> int:
    """Tokens of so many characters, rounded up."""
    per_ten = model.chars_per_10_tokens
    return (chars * 10 + per_ten - 1) // per_ten


def chars_of(model: Model, tokens: int) -> int:
    """Characters that fit into so many tokens."""
    return tokens * model.chars_per_10_tokens // 10


def count_block(model: Model, block: dict[str, Any]) -> int:
    """Tokens of one content block or tool."""
    text = block.get("text")
    if isinstance(text, str):
        return count_chars(model, len(text))
    if block.get("type") in ("image", "document"):
        return IMAGE_TOKENS
    return count_chars(model, len(orjson.dumps(block)))
