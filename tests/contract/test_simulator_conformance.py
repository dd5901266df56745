"""The unmodified Anthropic SDK cannot tell: both HTTP backends, sync and async, strict response validation."""

import json
from contextlib import asynccontextmanager

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, DefaultAioHttpClient

from penstock.simulator import SimulatorOptions, serve, spawn
from simulator_calls import HAIKU, OFF, OPUS, batch, message

BACKENDS = ("httpx2", "aiohttp")


@asynccontextmanager
async def simulated(backend="httpx2", max_retries=0, **options):
    """A simulator on this loop and an SDK client that talks to it."""
    server = await serve(SimulatorOptions(**options))
    http_client = DefaultAioHttpClient() if backend == "aiohttp" else None
    client = AsyncAnthropic(
        api_key="sk-ant-admin-test",
        base_url=server.url,
        max_retries=max_retries,
        http_client=http_client,
        timeout=20,
        _strict_response_validation=True,
    )
    try:
        async with client:
            yield client, server
    finally:
        await server.close()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_messages(backend):
    """create: text, structured output, thinking, refusal and tool use pass strict validation on both backends."""
    tool = {"name": "look", "input_schema": {"type": "object", "properties": {"language": {"type": "string"}}}}
    async with simulated(backend, refusal_marker="[[refuse]]") as (client, _):
        plain = await client.messages.create(**message("hello"))
        judged = await client.messages.create(**batch("You idiots!", "A fine lamp"))
        thought = await client.messages.create(**message(model=OPUS, thinking=None))
        refused = await client.messages.create(**batch("[[refuse]]"))
        called = await client.messages.create(**message(tools=[tool], tool_choice={"type": "any"}))
    assert plain.content[0].text
    assert [entry["d"] for entry in json.loads(judged.content[0].text)["r"]] == ["r", "p"]
    assert [block.type for block in thought.content] == ["thinking", "text"]
    assert thought.usage.output_tokens_details.thinking_tokens > 0
    assert (refused.stop_reason, refused.stop_details.type) == ("refusal", "refusal")
    assert called.content[0].input["language"] == "en"
    assert plain._request_id.startswith("req_")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_raw_headers(backend):
    """Raw responses carry id, account and limits, and say that they are simulated; ids are unique."""
    async with simulated(backend, usage_tier="start") as (client, _):
        raw = await client.messages.with_raw_response.create(**message())
        other = await client.messages.with_raw_response.create(**message())
        parsed = await raw.parse()
    headers = raw.headers
    assert headers["x-simulated"] == "penstock"
    assert headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert headers["anthropic-ratelimit-output-tokens-reset"].endswith("Z")
    assert headers["anthropic-workspace-id"].startswith("wrkspc_")
    assert headers["anthropic-organization-id"]
    assert headers["request-id"] != other.headers["request-id"]
    assert parsed.id == "msg_" + headers["request-id"].removeprefix("req_")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_other_endpoints(backend):
    """count_tokens, models and rate limits parse strictly and agree with each other."""
    async with simulated(backend) as (client, _):
        counted = await client.messages.count_tokens(model=HAIKU, messages=[{"role": "user", "content": "x" * 1000}])
        models = [model async for model in client.models.list(limit=5)]
        model = await client.models.retrieve(HAIKU)
        limits = [entry async for entry in client.organization.rate_limits.list()]
    assert 400 < counted.input_tokens < 450
    assert len(models) > 10
    assert models == sorted(models, key=lambda each: each.created_at, reverse=True)
    assert model in models
    assert (model.line, model.max_tokens, model.capabilities.thinking.types.enabled.supported) == (
        "haiku",
        128_000,
        False,
    )
    assert any(HAIKU in (entry.models or []) for entry in limits)


ERRORS = {
    "400": anthropic.BadRequestError,
    "401": anthropic.AuthenticationError,
    "402": anthropic.PaymentRequiredError,
    "403": anthropic.PermissionDeniedError,
    "404": anthropic.NotFoundError,
    "408": anthropic.RequestTimeoutError,
    "409": anthropic.ConflictError,
    "413": anthropic.ContentTooLargeError,
    "413_html": anthropic.ContentTooLargeError,
    "429": anthropic.RateLimitError,
    "429_ramp": anthropic.RateLimitError,
    "429_spend": anthropic.RateLimitError,
    "429_contract": anthropic.RateLimitError,
    "400_spend": anthropic.BadRequestError,
    "400_workspace_spend": anthropic.BadRequestError,
    "402_credit": anthropic.PaymentRequiredError,
    "500": anthropic.InternalServerError,
    "502": anthropic.InternalServerError,
    "503": anthropic.ServiceUnavailableError,
    "504": anthropic.GatewayTimeoutError,
    "529": anthropic.OverloadedError,
    "reset_after": anthropic.APIConnectionError,
    "reset_before": anthropic.APIConnectionError,
}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_every_error_class(backend):
    """Each fault is the SDK exception of its status, with the request id of the header; a cut is a connection error."""
    async with simulated(backend) as (client, _):
        for kind, expected in ERRORS.items():
            with pytest.raises(expected) as caught:
                await client.messages.create(**message(), extra_headers={"x-simulator-fault": kind})
            error = caught.value
            if kind.startswith("reset"):
                continue
            assert error.status_code == int(kind[:3])
            if kind not in ("413_html", "502"):
                assert error.body["request_id"] == error.response.headers["request-id"]
            if kind == "429_spend":
                assert (error.error_code, error.response.headers.get("retry-after")) == (
                    "enforced_spend_limit_reached",
                    None,
                )
            if kind == "429_ramp":
                assert error.error_code == "ramp_limit_exceeded"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_retries_of_the_sdk(backend):
    """The SDK retries what the API's status and headers tell it to, and the accounts see every attempt."""
    quick = {"retry_after_ms": 1}
    cases = [
        ([{"kind": "529", "times": 2} | quick], 3, 200),
        ([{"kind": "429", "times": 3} | quick], 3, 429),
        ([{"kind": "400"}], 1, 400),
        ([{"kind": "500", "should_retry": False}], 1, 500),
        ([{"kind": "400", "should_retry": True} | quick], 2, 200),
    ]
    async with simulated(backend, max_retries=2) as (client, server):
        for script, attempts, status in cases:
            server.api.start()
            server.api.set_faults({"script": script})
            try:
                await client.messages.create(**message())
                found = 200
            except anthropic.APIStatusError as error:
                found = error.status_code
            assert (found, server.api.totals()["calls"]) == (status, attempts), script
            server.api.set_faults({"script": []})


@pytest.mark.parametrize("backend", BACKENDS)
async def test_timeouts_and_slow_replies(backend):
    """A stall is a timeout though the call was billed; a dripping reply arrives whole."""
    async with simulated(backend, drip_ms=0.1) as (client, server):
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.create(**message(), timeout=0.2, extra_headers={"x-simulator-fault": "stall"})
        assert server.api.totals()["nanousd"] > 0
        dripped = await client.messages.create(**message(), extra_headers={"x-simulator-fault": "drip"})
    assert dripped.content[0].text


async def test_strictness_reaches_the_sdk():
    """What the SDK lets through and the API rejects is a 400 here too; streaming says that it is not there."""
    async with simulated() as (client, _):
        with pytest.raises(anthropic.BadRequestError, match="temperature: Extra inputs are not permitted"):
            await client.messages.create(**message(), extra_body={"temperature": 0})
        with pytest.raises(anthropic.BadRequestError, match="does not have streaming"):
            await client.messages.create(**message(), stream=True)
        with pytest.raises(anthropic.NotFoundError, match="does not have message batches"):
            await client.messages.batches.create(requests=[])


def test_sync_client():
    """The sync client, against a simulator in a process of its own: create, raw headers, models, errors, parse."""
    with spawn(SimulatorOptions(seed=3)) as simulator:
        client = Anthropic(
            api_key="k", base_url=simulator.url + "/some/prefix", max_retries=0, _strict_response_validation=True
        )
        with client:
            reply = client.messages.create(**batch("A fine lamp"))
            raw = client.messages.with_raw_response.create(**message())
            assert client.models.retrieve("claude-haiku-4-5").id == "claude-haiku-4-5-20251001"
            with pytest.raises(anthropic.OverloadedError):
                client.messages.create(**message(thinking=OFF), extra_headers={"x-simulator-fault": "529"})
        accounts = simulator.accounts()
        rows = list(simulator.calls())
    assert json.loads(reply.content[0].text)["r"][0]["i"] == "a0"
    assert raw.headers["x-simulated"] == "penstock"
    assert accounts["calls_by_status"] == {"200": 2, "529": 1}
    assert [row["status"] for row in rows] == [200, 200, 529]
    assert rows[1]["request_id"] == raw.headers["request-id"]
