"""Limits on a clock that stands still: buckets per family, the ramp, spend caps, and what the headers say of them."""

import pytest

from penstock.simulator.clock import VirtualClock
from penstock.simulator.failures import ApiError
from penstock.simulator.limiter import Bucket, Pool, Ramp, Rates, rfc3339
from simulator_calls import HAIKU, OPUS, SONNET, Account, batch, finish, header_of, message

KINDS = ("requests", "tokens", "input-tokens", "output-tokens")


def statuses(account, count, body=None):
    return [account.send(body or message()).status for _ in range(count)]


def test_requests_per_minute():
    """So many calls pass, the next is a 429 with whole seconds to wait, and after those it passes."""
    account = Account(requests_per_minute=6)
    assert statuses(account, 7) == [200] * 6 + [429]
    rejected = account.send(message())
    wait = header_of(rejected, "retry-after")
    assert wait == "10"
    account.clock.advance(int(wait) - 1)
    assert account.send(message()).status == 429
    account.clock.advance(1)
    assert statuses(account, 2) == [200, 429]


def test_limit_per_second():
    """With a burst of a second, 60 a minute are one a second."""
    account = Account(requests_per_minute=60, burst_seconds=1)
    assert statuses(account, 2) == [200, 429]
    account.clock.advance(1)
    assert statuses(account, 2) == [200, 429]


def test_input_counts_without_cache_reads():
    """Uncached and written input use up the input limit; what is read from the cache does not."""
    system = [{"type": "text", "text": "policy clause " * 400, "cache_control": {"type": "ephemeral"}}]
    body = message(system=system)
    account = Account(input_tokens_per_minute=3000)
    assert statuses(account, 20, body) == [200] * 20
    assert statuses(account, 3, message("policy clause " * 400)) == [429] * 3


def test_output_counts_as_produced_and_max_tokens_never():
    """A huge `max_tokens` is free; output is charged when the reply begins, and may overdraw the bucket once."""
    account = Account(output_tokens_per_minute=100)
    first = account.send(message(max_tokens=100_000), deliver=False)
    assert account.send(message(max_tokens=100_000), deliver=False).status == 200
    finish(first)
    account.send(batch(*["a text"] * 20))
    rejected = account.send(message())
    assert rejected.status == 429
    assert int(header_of(rejected, "retry-after")) > 60
    assert b"output tokens per minute" in rejected.body


def test_families_have_pools_of_their_own():
    """One family's empty bucket leaves the others alone; models of one family share."""
    account = Account(requests_per_minute=1)
    assert statuses(account, 2) == [200, 429]
    assert account.send(message(model=OPUS, thinking=None)).status == 200
    assert account.send(message(model="claude-opus-4-8")).status == 200
    assert account.send(message(model="claude-opus-4-7")).status == 429
    assert account.send(message(), path="/v1/messages/count_tokens").status == 400


def test_rejected_calls_take_nothing():
    """A 429 uses up no request, no input and no money."""
    account = Account(requests_per_minute=1)
    statuses(account, 5)
    account.clock.advance(60)
    assert account.send(message()).status == 200
    assert account.totals()["billed_calls"] == 2
    assert account.totals()["pools"]["haiku-5-5"]["rejected"] == 4


@pytest.mark.parametrize(
    ("tier", "limits"), [("start", (1_000, 2_000_000, 400_000)), ("scale", (10_000, 10_000_000, 2_000_000))]
)
def test_headers_on_every_reply(tier, limits):
    """Limit, remaining and reset of all four dimensions stand on answers and rejections alike."""
    account = Account(usage_tier=tier)
    for exchange in (account.send(message()), account.send(message(), x_simulator_fault="529")):
        for kind in KINDS:
            for part in ("limit", "remaining", "reset"):
                assert header_of(exchange, f"anthropic-ratelimit-{kind}-{part}"), (kind, part)
    exchange = account.send(batch(*["a text"] * 100))
    assert header_of(exchange, "anthropic-ratelimit-requests-limit") == str(limits[0])
    assert header_of(exchange, "anthropic-ratelimit-input-tokens-limit") == str(limits[1])
    assert header_of(exchange, "anthropic-ratelimit-output-tokens-limit") == str(limits[2])
    assert header_of(exchange, "anthropic-ratelimit-tokens-limit") == str(limits[1] + limits[2])
    remaining = int(header_of(exchange, "anthropic-ratelimit-input-tokens-remaining"))
    assert remaining % 1000 == 0
    assert remaining < limits[1]
    assert header_of(exchange, "anthropic-ratelimit-requests-reset") >= rfc3339(account.clock.unix())


def test_reset_is_when_the_bucket_is_full():
    """Thirty of sixty taken: full again in half a minute, in RFC 3339."""
    account = Account(requests_per_minute=60)
    statuses(account, 30)
    reset = header_of(account.send(b"{}", deliver=True), "anthropic-ratelimit-requests-reset")
    assert reset is None  # a body without a model belongs to no family
    exchange = account.send(message())
    assert header_of(exchange, "anthropic-ratelimit-requests-reset") == rfc3339(account.clock.unix() + 31)
    assert header_of(exchange, "anthropic-ratelimit-requests-remaining") == "29"


def test_bucket_refills_continuously():
    """What is taken comes back at the limit's rate and never above the capacity; more than it holds waits for full."""
    bucket = Bucket(60, 60.0, 0.0)
    bucket.take(50, 0.0)
    assert bucket.level(20.0) == 30
    assert bucket.wait_seconds(40, 20.0) == 10
    assert bucket.level(1000.0) == 60
    bucket.take(1, 1000.0)
    assert bucket.wait_seconds(500, 1000.0) == 1


def test_ramp():
    """Above the floor, a minute may have so many times the calls of the minute before; the 429 says which limit it was."""
    account = Account(ramp_floor_requests=10, ramp_growth=2.0)
    assert statuses(account, 12).count(200) == 10
    rejected = account.send(message())
    assert b"ramp_limit_exceeded" in rejected.body
    assert int(header_of(rejected, "retry-after")) >= 1
    account.clock.advance(60)
    assert statuses(account, 25).count(200) == 20
    account.clock.advance(60)
    assert statuses(account, 50).count(200) == 40


def test_ramp_forgets_idle_time():
    """After a pause usage starts at the floor again."""
    ramp = Ramp(5, 2.0)
    assert [ramp.admit(1.0) for _ in range(6)] == [True] * 5 + [False]
    assert [ramp.admit(500.0) for _ in range(6)] == [True] * 5 + [False]


CAPS = {
    "tier": (429, "rate_limit_error", "enforced_spend_limit_reached", "You have reached your API usage limits"),
    "contract": (429, "rate_limit_error", "contract_spend_limit_reached", "You have reached your API usage limits"),
    "own": (400, "invalid_request_error", None, "You have reached your specified API usage limits"),
    "workspace": (400, "invalid_request_error", None, "You have reached your specified workspace API usage limits"),
    "credit": (402, "billing_error", None, "Your credit balance is too low"),
}


@pytest.mark.parametrize("kind", CAPS)
def test_spend_caps(kind):
    """Each cap is its own reply, none has `retry-after`, and the month's turn lifts all but an empty credit."""
    status, error, code, words = CAPS[kind]
    account = Account(spend_cap_usd=0.0001, spend_cap_kind=kind)
    while account.totals()["nanousd"] < 100_000:
        assert account.send(message()).status == 200
    rejected = account.send(message())
    assert (rejected.status, header_of(rejected, "retry-after")) == (status, None)
    assert f'"type":"{error}","message":"{words}'.encode() in rejected.body
    assert (code or "error_code").encode() in rejected.body or code is None
    account.clock.advance(31 * 86_400)
    assert account.send(message()).status == (402 if kind == "credit" else 200)


def test_too_many_at_once():
    """Above so many calls in flight the API sheds load with 529."""
    account = Account(max_in_flight=2)
    held = [account.send(message(), deliver=False) for _ in range(2)]
    assert account.send(message()).status == 529
    finish(held[0])
    assert account.send(message()).status == 200


def test_count_tokens_has_a_pool_of_its_own():
    """Token counting is limited apart and leaves the Messages limit alone."""
    account = Account(usage_tier="start", burst_seconds=0.06)
    body = message(max_tokens=None)
    codes = [account.send(body, path="/v1/messages/count_tokens").status for _ in range(3)]
    assert codes == [200, 200, 429]
    assert account.send(message()).status == 200


def test_pool_charges_nothing_when_it_rejects():
    """If the input does not fit, the request is not taken either."""
    clock = VirtualClock()
    pool = Pool("p", Rates(2, 100, 100), 60.0, None, clock)
    pool.admit(100)
    with pytest.raises(ApiError):
        pool.admit(50)
    clock.advance(30)
    pool.admit(50)
    assert pool.used()["requests"] == 0.5


def test_sonnet_is_not_haiku():
    """The accounts name families by their pools."""
    account = Account()
    account.send(message())
    account.send(message(model=SONNET, thinking=None))
    assert account.totals()["pools"].keys() == {"haiku-5-5", "sonnet-5-5"}
    assert account.totals()["models"][HAIKU]["calls"] == 1
