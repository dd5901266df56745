"""What is read off a request before it is validated, and the message that a reply is wrapped in.

http → [envelope] → api
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator.models import BY_NAME

if TYPE_CHECKING:
    from penstock.simulator.cache import CacheUse
    from penstock.simulator.exchange import Request
    from penstock.simulator.replies import Reply
    from penstock.simulator.validation import Ask


def is_call(request: Request) -> bool:
    return request.path == "/v1/messages" and request.method == "POST"


def key_of(request: Request) -> bytes:
    """The API key; of both headers `x-api-key` wins."""
    key = request.headers.get(b"x-api-key")
    if key:
        return key
    scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def served_model(name: object) -> str:
    """The id of a model in service; empty for anything else, which validation will reject."""
    model = BY_NAME.get(name) if isinstance(name, str) else None
    return model.id if model is not None and model.lifecycle != "retired" else ""


def text_of(body: dict[str, Any]) -> str:
    """The text of the last message, for faults that ask for it, before anything is validated."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(
        block["text"] for block in blocks if isinstance(block, dict) and isinstance(block.get("text"), str)
    )


def wrap(ask: Ask, use: CacheUse, reply: Reply, request_id: str) -> bytes:
    usage = use.usage
    return orjson.dumps(
        {
            "id": f"msg_{request_id[4:]}",
            "type": "message",
            "role": "assistant",
            "model": ask.model.id,
            "content": reply.content,
            "stop_reason": reply.stop_reason,
            "stop_sequence": reply.stop_sequence,
            "stop_details": reply.stop_details,
            "container": None,
            "diagnostics": None,
            "usage": {
                "input_tokens": usage.input,
                "cache_creation_input_tokens": usage.write_5m + usage.write_1h,
                "cache_read_input_tokens": usage.read,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": usage.write_5m,
                    "ephemeral_1h_input_tokens": usage.write_1h,
                },
                "output_tokens": reply.output_tokens,
                "output_tokens_details": {"thinking_tokens": reply.thinking_tokens},
                "server_tool_use": None,
                "service_tier": "standard",
                "inference_geo": "us" if ask.regional else "global",
                **({"speed": "fast"} if ask.fast else {}),
            },
        }
    )
