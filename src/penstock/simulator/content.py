"""Reads system and messages into the blocks of a prompt, with their tokens and cache marks.

validation → [content] → cache
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from penstock.simulator.failures import BadRequest
from penstock.simulator.rules import only
from penstock.simulator.tokens import MESSAGE_OVERHEAD, count_block

if TYPE_CHECKING:
    from penstock.simulator.models import Model

MAX_BREAKPOINTS = 4
MAX_MESSAGES = 100_000
OTHER_BLOCKS = frozenset(
    {"image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "search_result"}
)


class Block(NamedTuple):
    """One cacheable piece of a prompt."""

    content: str
    tokens: int
    ttl: str
    """`5m` or `1h` where a breakpoint stands on it, else empty."""
    where: str


@dataclass(slots=True)
class Prompt:
    """Tools, system and messages in the API's order."""

    blocks: list[Block] = field(default_factory=list)
    tokens: int = 0
    text: str = ""
    """All text of the last user message: what the simulator answers."""
    system: str = ""


def read_prompt(body: dict[str, Any], model: Model, tools: list[dict[str, Any]]) -> Prompt:
    """Check system and messages and lay them out as blocks."""
    prompt = Prompt()
    for index, tool in enumerate(tools):
        _add(prompt, tool, 0, f"tools.{index}")
    _read_system(body.get("system"), model, prompt)
    _read_messages(body["messages"], model, prompt)
    _check_breakpoints(prompt, body.get("cache_control"))
    return prompt


def _add(prompt: Prompt, block: dict[str, Any], tokens: int, where: str) -> None:
    mark = block.get("cache_control")
    content = block.get("text") if block.get("type") == "text" else None
    if not isinstance(content, str):
        content = orjson.dumps({k: v for k, v in block.items() if k != "cache_control"}).decode()
    prompt.blocks.append(Block(content, tokens, _ttl(mark, where) if mark is not None else "", where))
    prompt.tokens += tokens


def _ttl(mark: Any, where: str) -> str:
    place = f"{where}.cache_control"
    if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
        raise BadRequest(f"{place}.type: Input should be 'ephemeral'")
    only(mark, ("type", "ttl"), place)
    ttl = mark.get("ttl", "5m")
    if ttl not in ("5m", "1h"):
        raise BadRequest(f"{place}.ttl: Input should be '5m' or '1h'")
    return str(ttl)


def _read_system(system: Any, model: Model, prompt: Prompt) -> None:
    if system is None:
        return
    if isinstance(system, str):
        system = [{"type": "text", "text": system}] if system else []
    if not isinstance(system, list):
        raise BadRequest("system: Input should be a valid string or list of text blocks")
    texts = []
    for index, block in enumerate(system):
        where = f"system.{index}"
        if not isinstance(block, dict) or block.get("type") != "text":
            raise BadRequest(f"{where}.type: Input should be 'text'")
        texts.append(_check_text(block, where, "system"))
        _add(prompt, block, count_block(model, block), where)
    prompt.system = "\n".join(texts)


def _check_text(block: dict[str, Any], where: str, place: str) -> str:
    only(block, ("type", "text", "cache_control", "citations"), where)
    text = block.get("text")
    if not isinstance(text, str):
        raise BadRequest(f"{where}.text: Input should be a valid string")
    if not text:
        raise BadRequest(f"{place}: text content blocks must be non-empty")
    if block.get("citations") and place == "messages":
        raise BadRequest(f"{where}.citations: Extra inputs are not permitted")
    return text


def _read_messages(messages: Any, model: Model, prompt: Prompt) -> None:
    if not isinstance(messages, list):
        raise BadRequest("messages: Input should be a valid list")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    if len(messages) > MAX_MESSAGES:
        raise BadRequest(f"messages: too many messages: {len(messages)} > {MAX_MESSAGES}")
    for index, message in enumerate(messages):
        _read_message(message, f"messages.{index}", model, prompt)
    if messages[0]["role"] != "user":
        raise BadRequest('messages: first message must use the "user" role')
    if messages[-1]["role"] != "user" and not model.prefill:
        raise BadRequest(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _read_message(message: Any, where: str, model: Model, prompt: Prompt) -> None:
    if not isinstance(message, dict):
        raise BadRequest(f"{where}: Input should be a valid dictionary")
    only(message, ("role", "content"), where)
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        raise BadRequest(f'{where}.role: Input should be "user" or "assistant"')
    if isinstance(content, str):
        if not content:
            raise BadRequest(f"{where}: all messages must have non-empty content")
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise BadRequest(f"{where}.content: Input should be a valid string or list")
    if not content:
        raise BadRequest(f"{where}: all messages must have non-empty content")
    texts = [_read_block(block, f"{where}.content.{at}", role, model, prompt) for at, block in enumerate(content)]
    prompt.tokens += MESSAGE_OVERHEAD
    if role == "user":
        prompt.text = texts[0] if len(texts) == 1 else "\n".join(texts)


def _read_block(block: Any, where: str, role: str, model: Model, prompt: Prompt) -> str:
    if not isinstance(block, dict):
        raise BadRequest(f"{where}: Input should be a valid dictionary")
    kind = block.get("type")
    text = ""
    if kind == "text":
        text = _check_text(block, where, "messages")
    elif kind not in OTHER_BLOCKS:
        raise BadRequest(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags: "
            + ", ".join(f"'{name}'" for name in sorted(OTHER_BLOCKS | {"text"}))
        )
    elif kind == "document" and role == "assistant":
        raise BadRequest(f"{where}: document blocks are not permitted in assistant messages")
    _add(prompt, block, count_block(model, block), where)
    return text


def _check_breakpoints(prompt: Prompt, automatic: Any) -> None:
    """At most four, and none of an hour after one of five minutes; a mark at the top stands for the last block."""
    if automatic is not None:
        last = prompt.blocks[-1]
        prompt.blocks[-1] = last._replace(ttl=_ttl(automatic, "cache_control") if not last.ttl else last.ttl)
    marked = [block for block in prompt.blocks if block.ttl]
    if len(marked) > MAX_BREAKPOINTS:
        raise BadRequest(
            f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marked)}."
        )
    for before, after in pairwise(marked):
        if before.ttl == "5m" and after.ttl == "1h":
            raise BadRequest(
                f"{after.where}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
