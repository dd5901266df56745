"""What the real API rejects, the simulator rejects, with the same status and words; what it accepts is accepted."""

import pytest

from simulator_calls import HAIKU, OFF, OPUS, SONNET, Account, batch, batch_schema, message

USER = {"role": "user", "content": "hello"}
MARK = {"type": "ephemeral"}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}}


def text(content: str = "x", **more: object) -> dict[str, object]:
    return {"type": "text", "text": content, **more}


REJECTED = {
    "unknown key": (message(shade="blue"), 400, "shade: Extra inputs are not permitted"),
    "temperature": (message(temperature=0.0), 400, "temperature: Extra inputs are not permitted"),
    "top_p at its default": (message(top_p=1.0), 400, "top_p: Extra inputs are not permitted"),
    "old output format": (message(output_format={}), 400, "output_format: Extra inputs are not permitted"),
    "no model": (message(model=None), 400, "model: Field required"),
    "no messages": (message(messages=None), 400, "messages: Field required"),
    "no max_tokens": (message(max_tokens=None), 400, "max_tokens: Field required"),
    "max_tokens of the wrong type": (message(max_tokens="10"), 400, "max_tokens: Input should be a valid integer"),
    "max_tokens true": (message(max_tokens=True), 400, "max_tokens: Input should be a valid integer"),
    "max_tokens below zero": (message(max_tokens=-1), 400, "greater than or equal to 0"),
    "max_tokens above the model's": (message(max_tokens=128_001), 400, "128001 > 128000"),
    "unknown model": (message(model="claude-none"), 404, "model: claude-none"),
    "retired model": (message(model="claude-opus-4-1"), 404, "model: claude-opus-4-1"),
    "prefill": (message(messages=[USER, {"role": "assistant", "content": "{"}]), 400, "does not support assistant message prefill"),
    "assistant first": (message(messages=[{"role": "assistant", "content": "x"}, USER]), 400, 'first message must use the "user" role'),
    "no message": (message(messages=[]), 400, "at least one message is required"),
    "empty content": (message(""), 400, "must have non-empty content"),
    "empty text block": (message([text("")]), 400, "text content blocks must be non-empty"),
    "strange role": (message(messages=[{"role": "robot", "content": "x"}]), 400, "messages.0.role"),
    "strange block": (message([{"type": "hologram"}]), 400, "Input tag 'hologram'"),
    "key in a block": (message([text(colour="red")]), 400, "messages.0.content.0.colour: Extra inputs are not permitted"),
    "citations in a user's text": (message([text(citations=[{}])]), 400, "citations: Extra inputs are not permitted"),
    "system block that is no text": (message(system=[{"type": "image"}]), 400, "system.0.type"),
    "streaming": (message(stream=True), 400, "does not have streaming"),
    "service tier": (message(service_tier="gold"), 400, "service_tier"),
    "fast haiku": (message(speed="fast"), 400, "speed: fast mode is not supported"),
    "metadata": (message(metadata={"name": "x"}), 400, "metadata.name: Extra inputs are not permitted"),
    "blank stop sequence": (message(stop_sequences=[" "]), 400, "stop_sequences"),
    "region of an old model": (message(model="claude-haiku-4-5", thinking=None, inference_geo="us"), 400, "inference_geo"),
    "enabled on haiku 5.5": (message(thinking={"type": "enabled", "budget_tokens": 2000}), 400, '"thinking.type.enabled" is not supported'),
    "disabled on sonnet 5.5": (message(model=SONNET), 400, 'send "thinking": {"type": "between_tools"} instead of {"type": "disabled"}'),
    "disabled on opus 5.5": (message(model=OPUS), 400, '"thinking.type.disabled" is not supported for this model. Use "thinking.type.adaptive"'),
    "adaptive on an old model": (message(model="claude-haiku-4-5", thinking={"type": "adaptive"}), 400, "adaptive thinking is not supported"),
    "unknown thinking": (message(thinking={"type": "deep"}), 400, "Input tag 'deep'"),
    "off at max effort": (message(output_config={"effort": "max"}), 400, 'not supported at effort "max"'),
    "small budget": (message(model="claude-haiku-4-5", thinking={"type": "enabled", "budget_tokens": 10}), 400, "greater than or equal to 1024"),
    "unknown effort": (message(output_config={"effort": "huge"}), 400, "output_config.effort"),
    "effort of an old model": (message(model="claude-haiku-4-5", output_config={"effort": "low"}), 400, "does not support the effort parameter"),
    "key in output_config": (message(output_config={"mood": 1}), 400, "output_config.mood: Extra inputs are not permitted"),
    "format without schema": (message(output_config={"format": {"type": "json_schema"}}), 400, "schema: Field required"),
    "forced tool on sonnet 5.5": (message(model=SONNET, thinking=None, tools=[TOOL], tool_choice={"type": "any"}), 400, "tool_choice"),
    "tool choice without tools": (message(tool_choice={"type": "auto"}), 400, "while providing tools"),
    "unknown tool": (message(tools=[TOOL], tool_choice={"type": "tool", "name": "other"}), 400, "'other' not found"),
    "tools of one name": (message(tools=[TOOL, TOOL]), 400, "must be unique"),
    "21 strict tools": (message(tools=[TOOL | {"name": f"t{n}", "strict": True} for n in range(21)]), 400, "Too many strict tools"),
    "five breakpoints": (message([text(cache_control=MARK)] * 5), 400, "A maximum of 4 blocks"),
    "an hour after five minutes": (
        message([text(cache_control=MARK), text(cache_control=MARK | {"ttl": "1h"})]), 400, "a ttl='1h' cache_control block must not come after",
    ),
    "strange lifetime": (message([text(cache_control=MARK | {"ttl": "2h"})]), 400, "'5m' or '1h'"),
    "prewarm with a format": (batch("x", max_tokens=0), 400, "max_tokens: 0"),
    "prompt over the window": (message("word " * 110_000, model="claude-haiku-4-5"), 200, ""),
    "prompt far over the window": (message("word " * 140_000, model="claude-haiku-4-5"), 400, "prompt is too long"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED)
def test_rejects_what_the_api_rejects(case):
    """Every rule of the request is held, and its message names the field."""
    body, status, words = REJECTED[case]
    account = Account()
    if status == 200:
        account.reply(body)
        return
    found, kind, said = account.refusal(body)
    assert (found, kind) == (status, "not_found_error" if status == 404 else "invalid_request_error")
    assert words in said
    assert account.totals()["nanousd"] == 0


ACCEPTED = {
    "plain": message(),
    "thinking left to the model": message(thinking=None),
    "adaptive": message(thinking={"type": "adaptive", "display": "omitted"}),
    "between tools on sonnet": message(
        model=SONNET, thinking={"type": "between_tools"}, output_config={"effort": "low"}
    ),
    "opus thinks": message(model=OPUS, thinking={"type": "adaptive"}),
    "manual thinking of an old model": message(
        model="claude-haiku-4-5", max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000}
    ),
    "prefill of an old model": message(
        model="claude-haiku-4-5", messages=[USER, {"role": "assistant", "content": "{"}]
    ),
    "system as text": message(system="be brief"),
    "empty system": message(system=""),
    "blocks and marks": message(
        [text(cache_control=MARK)], system=[text(cache_control=MARK | {"ttl": "1h"})], cache_control=MARK
    ),
    "images": message([{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, text()]),
    "region": message(inference_geo="us"),
    "user": message(metadata={"user_id": "u1"}, service_tier="auto"),
    "fast opus": message(model=OPUS, thinking=None, speed="fast"),
    "prewarm": message(max_tokens=0),
    "forced tool on haiku": message(tools=[TOOL], tool_choice={"type": "tool", "name": "look"}),
    "a turn before": message(messages=[USER, {"role": "assistant", "content": "hi"}, USER]),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts_what_the_api_accepts(case):
    """No rule is stricter than the API's."""
    reply = Account().reply(ACCEPTED[case])
    assert reply["type"] == "message"
    assert reply["stop_reason"] in {"end_turn", "max_tokens", "tool_use"}


def test_old_version_takes_sampling_parameters():
    """Under 2023-06-01 temperature is still a parameter; unknown and missing versions are a 400."""
    account = Account()
    assert account.send(message(temperature=0.0), anthropic_version="2023-06-01").status == 200
    assert "anthropic-version" in account.refusal(message(), anthropic_version="2031-01-01")[2]
    assert "anthropic-version" in account.refusal(message(), anthropic_version="")[2]


def test_authentication():
    """Both key headers are read, `x-api-key` wins, and a missing or unknown key is a 401."""
    account = Account(api_keys=("right",))
    assert account.send(message(), x_api_key="right").status == 200
    assert account.send(message(), authorization="Bearer right").status == 200
    assert account.refusal(message(), x_api_key="wrong", authorization="Bearer right")[:2] == (
        401,
        "authentication_error",
    )
    assert account.refusal(message(), authorization="")[:2] == (401, "authentication_error")


def test_body_that_is_no_object():
    """Bytes that are no JSON object are a 400, not a crash."""
    account = Account()
    assert "not valid JSON" in account.refusal(b'{"model": ')[2]
    assert account.refusal(b"[1]")[0] == 400
    assert account.refusal(b'{"model":' + b"[" * 5000 + b"]" * 5000 + b"}")[0] == 400


def test_forced_tool_is_called():
    """A model that may be forced answers with the tool and an input that fits it."""
    schema = {"type": "object", "properties": {"language": {"type": "string"}}, "required": ["language"]}
    tool = {"name": "detect", "input_schema": schema}
    reply = Account().reply(
        message("Das ist nicht gut und auch nicht schön", tools=[tool], tool_choice={"type": "any"})
    )
    assert reply["stop_reason"] == "tool_use"
    assert (reply["content"][0]["name"], reply["content"][0]["input"]) == ("detect", {"language": "de"})


def test_what_the_simulator_lacks_says_so():
    """Batches are a clear 404, unknown paths and methods too."""
    account = Account()
    assert "does not have message batches" in account.refusal({}, path="/v1/messages/batches")[2]
    assert account.refusal({}, path="/v1/complete")[0] == 404
    assert account.refusal({}, path="/v1/models", method="DELETE")[0] == 405


def test_count_tokens_counts_what_a_call_is_billed_for():
    """The same function serves both, but for an error of one per cent; keys of `create` are rejected."""
    account = Account()
    body = message("hello there, " * 500, max_tokens=None)
    counted = account.send(body, path="/v1/messages/count_tokens")
    billed = account.reply(body | {"max_tokens": 10})["usage"]["input_tokens"]
    assert abs(int(counted.body[16:-1]) - billed) <= billed * 0.02
    assert (
        account.refusal(message(), path="/v1/messages/count_tokens")[2] == "max_tokens: Extra inputs are not permitted"
    )


def test_thinking_stands_first_and_counts():
    """A model that thinks answers with a thinking block first, bills its tokens, and can run out of room for text."""
    account = Account()
    reply = account.reply(message(thinking=None))
    thinking = reply["usage"]["output_tokens_details"]["thinking_tokens"]
    assert [block["type"] for block in reply["content"]] == ["thinking", "text"]
    assert 0 < thinking < reply["usage"]["output_tokens"]
    cut = account.reply(message(thinking=None, max_tokens=20))
    assert (cut["stop_reason"], [block["type"] for block in cut["content"]]) == ("max_tokens", ["thinking"])
    assert cut["usage"]["output_tokens"] == 20


def test_text_ends_at_max_tokens_and_stop_sequences():
    """Output never exceeds `max_tokens`, and a stop sequence is named and left out."""
    account = Account()
    cut = account.reply(batch(*["fine"] * 20, max_tokens=50))
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 50)
    stopped = account.reply(message(stop_sequences=["simulator"]))
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "simulator")
    assert "simulator" not in stopped["content"][0]["text"]


def test_model_and_family_can_be_looked_up():
    """Models are listed newest first, retired ones on request only; an admin key reads the rate limits."""
    account = Account(usage_tier="start")
    listed = account.send(b"", path="/v1/models?limit=3", method="GET").body
    assert listed.index(b"claude-fable-5-2") < listed.index(HAIKU.encode())
    assert b'"has_more":true' in listed
    assert b"opus-4-1" in account.send(b"", path="/v1/models?lifecycle[]=retired", method="GET").body
    path = f"/v1/organizations/rate_limits?model={HAIKU}"
    assert account.refusal(b"", path=path, method="GET")[0] == 403
    limits = account.send(b"", path=path, method="GET", x_api_key="sk-ant-admin01-x").body
    assert b'{"type":"output_tokens_per_minute","value":400000}' in limits


def test_format_with_thinking_off_is_one_text_block():
    """Structured output is one text block, whole JSON, with null where the API has null."""
    reply = Account().reply(
        batch("fine", thinking=OFF, output_config={"format": {"type": "json_schema", "schema": batch_schema()}})
    )
    assert [block["type"] for block in reply["content"]] == ["text"]
    assert {"stop_sequence", "stop_details", "container", "diagnostics"} <= reply.keys()
