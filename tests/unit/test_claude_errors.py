"""Every error of the API, mapped once to wait, retry, pause, split or stop."""

from __future__ import annotations

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.claude.errors import MAX_RETRY_AFTER_SECONDS, Trouble, describe, how_to_go_on, react, retry_after_seconds

OWN_LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01."
CLASS_CAP = "You have reached your API usage limits: your organization has crossed its monthly API usage threshold."


@pytest.mark.parametrize(
    ("trouble", "action", "reason"),
    [
        (Trouble(429, "rate_limit_error", headers={"retry-after": "3"}), "wait", "rate_limited"),
        (Trouble(429, "rate_limit_error", "ramp_limit_exceeded", headers={"retry-after": "3"}), "wait", "rate_limited"),
        (Trouble(429, "rate_limit_error"), "wait", "rate_limited"),
        (Trouble(429, "rate_limit_error", "enforced_spend_limit_reached"), "pause", "spend_cap"),
        (Trouble(429, "rate_limit_error", "contract_spend_limit_reached"), "pause", "spend_cap"),
        (Trouble(429, "rate_limit_error", headers={"x-should-retry": "false"}), "pause", "spend_cap"),
        (Trouble(429, "rate_limit_error", message=CLASS_CAP), "pause", "spend_cap"),
        (Trouble(429, "rate_limit_error", message=CLASS_CAP, headers={"retry-after": "3"}), "wait", "rate_limited"),
        (Trouble(400, "invalid_request_error", message=OWN_LIMIT), "pause", "spend_cap"),
        (Trouble(400, "invalid_request_error", message="Your credit balance is too low"), "pause", "spend_cap"),
        (Trouble(402, "billing_error"), "pause", "spend_cap"),
        (Trouble(400, "invalid_request_error", message="prompt is too long"), "split", "rejected"),
        (Trouble(400, "invalid_request_error", "organization_on_hold"), "stop", "rejected"),
        (Trouble(400, "invalid_request_error", "request_body_timeout"), "retry", "server_error"),
        (Trouble(400, headers={"x-should-retry": "true"}), "retry", "server_error"),
        (Trouble(401, "authentication_error"), "stop", "rejected"),
        (Trouble(403, "permission_error"), "stop", "rejected"),
        (Trouble(404, "not_found_error"), "stop", "rejected"),
        (Trouble(413, "request_too_large"), "split", "rejected"),
        (Trouble(413), "split", "rejected"),
        (Trouble(422), "split", "rejected"),
        (Trouble(408), "retry", "timed_out"),
        (Trouble(409, "conflict_error"), "retry", "server_error"),
        (Trouble(500, "api_error"), "retry", "server_error"),
        (Trouble(501), "retry", "server_error"),
        (Trouble(502), "retry", "server_error"),
        (Trouble(503), "retry", "overloaded"),
        (Trouble(504, "timeout_error"), "retry", "server_error"),
        (Trouble(529, "overloaded_error"), "retry", "overloaded"),
        (Trouble(500, "overloaded_error"), "retry", "overloaded"),
        (Trouble(kind="unreachable"), "retry", "unreachable"),
        (Trouble(kind="timed_out"), "retry", "timed_out"),
        (Trouble(200, "unreadable"), "retry", "unreachable"),
    ],
)
def test_what_is_done_about_which_error(trouble: Trouble, action: str, reason: str) -> None:
    """The table of the API's errors: no status is handled anywhere else."""
    reaction = react(trouble)
    assert (reaction.action, reaction.reason) == (action, reason)


def test_only_calls_without_a_reply_may_be_billed() -> None:
    """An error response is free; a call that was cut, timed out or came back unreadable may be on the bill."""
    assert react(Trouble(kind="timed_out")).may_be_billed
    assert react(Trouble(kind="unreachable")).may_be_billed
    assert react(Trouble(200, "unreadable")).may_be_billed
    assert not react(Trouble(kind="unreachable", sent=False)).may_be_billed
    assert not any(react(Trouble(status)).may_be_billed for status in (400, 401, 413, 429, 500, 529))


def test_an_event_too_large_is_buried_as_that() -> None:
    """413 of one event alone, from the API or from the proxy before it, is too_large; other 4xx are rejected."""
    assert react(Trouble(413)).buried == "too_large"
    assert react(Trouble(422)).buried == "rejected"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "99999999999"}, MAX_RETRY_AFTER_SECONDS),
        ({"retry-after": "inf"}, MAX_RETRY_AFTER_SECONDS),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    """Whole, broken and millisecond numbers and dates are read; absurd ones are cut to something sane."""
    assert retry_after_seconds(headers) == seconds


def test_retry_after_as_a_date() -> None:
    """A date in the future is the time until then."""
    date = email.utils.formatdate(time.time() + 120, usegmt=True)
    assert retry_after_seconds({"retry-after": date}) == pytest.approx(120, abs=5)


@given(st.text(), st.text())
def test_any_header_is_read_without_a_crash(seconds: str, milliseconds: str) -> None:
    """Headers that hold anything give a sane wait or none."""
    after = retry_after_seconds({"retry-after": seconds, "retry-after-ms": milliseconds})
    assert after is None or 0 <= after <= MAX_RETRY_AFTER_SECONDS


def test_a_wait_that_was_cut_is_said() -> None:
    """Where a header asks for absurdly long, the detail says so."""
    trouble = Trouble(429, headers={"retry-after": "1e9", "request-id": "req_7"})
    assert "'1e9' cut to 900 s" in react(trouble).detail


def test_details_hold_nothing_of_the_request() -> None:
    """The API's message may repeat the request: details name status, type, code and request id only."""
    trouble = Trouble(400, "invalid_request_error", "some_code", "bad: the event's text", {"request-id": "req_7"})
    assert describe(trouble) == "400 invalid_request_error some_code (request req_7)"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "ANTHROPIC_API_KEY"),
        (403, "give it the right"),
        (404, "unknown or retired"),
        (400, "until that is mended"),
    ],
)
def test_what_a_person_must_do_is_said(status: int, says: str) -> None:
    """Where nothing can succeed, the text says which model, which request and what to do."""
    text = how_to_go_on(Trouble(status, "x", message="why", headers={"request-id": "req_7"}), "claude-x")
    assert says in text
    assert "req_7" in text
    assert "why" in text
