"""Turns a request body into an `Ask`, or says in the API's own words why it is rejected.

http → api → [validation] → cache | limiter | replies
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator import rules
from penstock.simulator.content import Prompt, read_prompt
from penstock.simulator.failures import ApiError, BadRequest
from penstock.simulator.models import BY_NAME, Model
from penstock.simulator.schema import Grammar, grammar_of, grammar_of_tool, strict_grammars
from penstock.simulator.tokens import FORMAT_OVERHEAD, REQUEST_OVERHEAD, TOOLS_OVERHEAD, count_block, count_chars

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLING = frozenset({"temperature", "top_p", "top_k"})
COUNTED = frozenset({"messages", "model", "cache_control", "output_config", "speed", "system", "thinking", "tool_choice", "tools"})  # fmt: skip
CREATED = COUNTED | {"max_tokens", "container", "diagnostics", "inference_geo", "metadata", "service_tier", "stop_sequences", "stream"}  # fmt: skip
OLD_VERSION = "2023-06-01"
VERSIONS = (OLD_VERSION, "2026-10-21")


@dataclass(slots=True)
class Ask:
    """A request that the API accepts."""

    model: Model
    max_tokens: int
    prompt: Prompt
    grammar: Grammar | None
    """What the reply must satisfy, when structured output is asked for."""
    thinks: bool
    effort: str
    tool: tuple[str, Grammar] | None = None
    """The tool that the reply is forced to call."""
    stop_sequences: tuple[str, ...] = ()
    regional: bool = False
    fast: bool = False
    scope: bytes = b""
    """What must be equal, beside the blocks, for a cached prefix to be found."""
    fixed_tokens: int = REQUEST_OVERHEAD
    """Tokens that stand before the first block: the API's own instructions."""
    diagnosed: bool = False
    tools: list[dict[str, Any]] = field(default_factory=list)


def check_version(headers: Mapping[bytes, bytes]) -> str:
    """The API version that the request names."""
    version = headers.get(b"anthropic-version", b"").decode("latin-1")
    if not version:
        raise BadRequest("anthropic-version: header is required")
    if version not in VERSIONS:
        raise BadRequest(
            f'anthropic-version: "{version}" is not a valid version. Valid versions: {", ".join(VERSIONS)}'
        )
    return version


def parse_body(body: bytes) -> dict[str, Any]:
    """The body as an object."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BadRequest("Input should be a valid dictionary or object to extract fields from")
    return parsed


def read_ask(body: dict[str, Any], version: str, *, counting: bool = False) -> Ask:
    """Check a Messages (or count_tokens) body as strictly as the API does."""
    _check_keys(body, COUNTED if counting else CREATED, version)
    model = _model(body)
    max_tokens = 1 if counting else rules.max_tokens(body, model)
    config = rules.output_config(body.get("output_config"), model)
    grammar = None if config.schema is None else grammar_of(config.schema)
    effort = config.effort or model.thinking.default_effort
    thinks = rules.thinking(body.get("thinking"), model, effort, body.get("max_tokens"))
    tools = rules.tools(body.get("tools"))
    strict_grammars(grammar, [tool["input_schema"] for tool in tools if tool.get("strict")])
    forced = rules.forced_tool(body.get("tool_choice"), tools, model)
    if not counting:
        _check_created(body, model)
        _check_prewarm(max_tokens, body, grammar, forced)
    prompt = read_prompt(body, model, tools)
    ask = Ask(
        model,
        max_tokens,
        prompt,
        grammar,
        thinks=thinks and not forced,
        effort=effort,
        tool=(forced["name"], grammar_of_tool(forced["input_schema"])) if forced else None,
        stop_sequences=tuple(body.get("stop_sequences") or ()),
        regional=body.get("inference_geo") == "us",
        fast=rules.fast(body.get("speed"), model),
        diagnosed=body.get("diagnostics") is not None,
        tools=tools,
    )
    _measure(ask, body)
    return ask


def _measure(ask: Ask, body: dict[str, Any]) -> None:
    """Count what stands before the first block, and what a cached prefix depends on."""
    schema = ask.grammar.canonical if ask.grammar else b""
    thinking = orjson.dumps(body.get("thinking"), option=orjson.OPT_SORT_KEYS)
    ask.scope = b"\0".join((ask.model.id.encode(), ask.effort.encode(), thinking, schema, b"fast" if ask.fast else b""))
    if schema:
        ask.fixed_tokens += FORMAT_OVERHEAD + count_chars(ask.model, len(schema))
    if ask.tools:
        ask.fixed_tokens += TOOLS_OVERHEAD + sum(count_block(ask.model, tool) for tool in ask.tools)
    total = ask.fixed_tokens + ask.prompt.tokens
    if total > ask.model.context_tokens:
        raise BadRequest(f"prompt is too long: {total} tokens > {ask.model.context_tokens} maximum")


def _check_keys(body: dict[str, Any], allowed: frozenset[str], version: str) -> None:
    for key in body:
        if key in allowed or (key in SAMPLING and version == OLD_VERSION):
            continue
        raise BadRequest(f"{key}: Extra inputs are not permitted")
    for key in ("model", "messages"):
        if key not in body:
            raise BadRequest(f"{key}: Field required")


def _model(body: dict[str, Any]) -> Model:
    name = body["model"]
    if not isinstance(name, str):
        raise BadRequest("model: Input should be a valid string")
    model = BY_NAME.get(name)
    if model is None or model.lifecycle == "retired":
        raise ApiError(404, f"model: {name}")
    return model


def _check_created(body: dict[str, Any], model: Model) -> None:
    if body.get("stream") is True:
        raise BadRequest("stream: the Penstock simulator does not have streaming; send the request without `stream`")
    rules.choice(body, "stream", (False, True, None), "Input should be a valid boolean")
    rules.choice(body, "service_tier", ("auto", "standard_only"), "Input should be 'auto' or 'standard_only'")
    rules.choice(body, "inference_geo", (None, "global", "us"), "Input should be 'global' or 'us'")
    if body.get("inference_geo") == "us" and not model.regional:
        raise BadRequest(f"inference_geo: inference_geo is not supported on {model.id}")
    rules.metadata(body.get("metadata"))
    rules.stop_sequences(body.get("stop_sequences"))
    rules.choice(body, "container", (None,), "the Penstock simulator does not have containers")


def _check_prewarm(
    max_tokens: int, body: dict[str, Any], grammar: Grammar | None, forced: dict[str, Any] | None
) -> None:
    """`max_tokens: 0` only fills the cache; what asks for output cannot go with it."""
    thinking = body.get("thinking") or {}
    if max_tokens == 0 and (grammar or forced or thinking.get("type") == "enabled"):
        raise BadRequest(
            "max_tokens: 0 is not supported together with output_config.format, forced tool_choice or enabled thinking"
        )
