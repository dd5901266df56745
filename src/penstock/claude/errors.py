"""Every way a call can fail, mapped once: wait, retry, split, bury, pause or stop.

client → [errors] → tier
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Literal, NamedTuple

from penstock.flow.headers import server_time
from penstock.outcome import AgainReason

MAX_RETRY_AFTER_SECONDS = 900.0
"""Longer waits are cut to this: the API is asked again then, and says again if it must."""
PAUSE_SECONDS = 300.0
"""Between trials while the account has no money to spend."""

Action = Literal[
    "wait",  # a rate limit: the family waits, the items are asked again
    "retry",  # the API failed: asked again
    "pause",  # the account may spend no more: everything waits
    "split",  # this request is at fault: halved, until the culprit stands alone and is buried
    "stop",  # nothing can succeed until a person acts
]

_STOP_CODES = frozenset({"organization_on_hold", "cmek_key_disabled", "workspace_policy_violation"})
_SPEND_CODES = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
_RAMP_CODE = "ramp_limit_exceeded"
_OUT_OF_MONEY = (
    "You have reached your specified",
    "You have reached your API usage limits",
    "Your credit balance is too low",
)
"""The only messages that are matched: 400s have no code, and a 429 may have lost its own on the way."""


class Trouble(NamedTuple):
    """A call that was not answered: what is known of it."""

    status: int = 0
    """0: no response at all."""
    kind: str = ""
    """`error.type`, or unreachable | timed_out | unreadable where there was no response to read."""
    code: str = ""
    message: str = ""
    headers: Mapping[str, str] = {}
    sent: bool = True
    """False: certainly never reached the API."""

    @property
    def request_id(self) -> str:
        """For the API's support."""
        return self.headers.get("request-id", "")


class Reaction(NamedTuple):
    """What a failed call means for its items, its model family and the tier."""

    action: Action
    reason: AgainReason
    after_seconds: float | None = None
    """As the API said, or None."""
    buried: Literal["rejected", "too_large"] = "rejected"
    """What a single item ends in where it alone is at fault."""
    may_be_billed: bool = False
    is_outage: bool = False
    """A sign that the API is unwell."""
    grows_too_fast: bool = False
    """A rate limit of growth, not of use."""
    detail: str = ""


def react(trouble: Trouble) -> Reaction:
    """The one table of what is done about which error (see `docs/reference/wire-format.md`)."""
    status, after = trouble.status, retry_after_seconds(trouble.headers)
    detail = describe(trouble, after)
    if status == 0 or trouble.kind == "unreadable":
        reason: AgainReason = "timed_out" if trouble.kind == "timed_out" else "unreachable"
        return Reaction("retry", reason, after, may_be_billed=trouble.sent, is_outage=True, detail=detail)
    if _is_out_of_money(trouble, after):
        return Reaction("pause", "spend_cap", PAUSE_SECONDS, detail=detail)
    if status in {401, 403, 404} or trouble.code in _STOP_CODES:
        return Reaction("stop", "rejected", detail=detail)
    if status == 429:
        return Reaction("wait", "rate_limited", after, grows_too_fast=trouble.code == _RAMP_CODE, detail=detail)
    asked_to_retry = trouble.headers.get("x-should-retry") == "true"
    if status in {408, 409} or status >= 500 or trouble.code == "request_body_timeout" or asked_to_retry:
        return _server_failed(trouble, after, detail)
    return Reaction("split", "rejected", buried="too_large" if status == 413 else "rejected", detail=detail)


def _server_failed(trouble: Trouble, after: float | None, detail: str) -> Reaction:
    if trouble.status in {503, 529} or trouble.kind == "overloaded_error":
        return Reaction("retry", "overloaded", after, is_outage=True, detail=detail)
    reason: AgainReason = "timed_out" if trouble.status == 408 else "server_error"
    return Reaction("retry", reason, after, is_outage=trouble.status >= 500, detail=detail)


def _is_out_of_money(trouble: Trouble, after: float | None) -> bool:
    if trouble.status == 402 or trouble.code in _SPEND_CODES:
        return True
    if trouble.status == 429 and after is None and trouble.headers.get("x-should-retry") == "false":
        return True
    is_capped = trouble.status == 400 or (trouble.status == 429 and after is None)
    return is_capped and trouble.message.startswith(_OUT_OF_MONEY)


def describe(trouble: Trouble, after: float | None = None) -> str:
    """For people: status, type, code and request id; never the message, which may repeat the request."""
    named = [str(trouble.status) if trouble.status else "", trouble.kind, trouble.code]
    text = " ".join(part for part in named if part)
    asked = trouble.headers.get("retry-after", "")
    if after is not None and after >= MAX_RETRY_AFTER_SECONDS:
        text += f", retry-after {asked[:32]!r} cut to {after:.0f} s"
    return f"{text} (request {trouble.request_id})" if trouble.request_id else text


def how_to_go_on(trouble: Trouble, model: str) -> str:
    """What a person must do where nothing can succeed."""
    said = f"The Claude API answered {describe(trouble)}: {trouble.message[:200]!r}."
    if trouble.status == 401:
        return f"{said} The API key is not valid: set ANTHROPIC_API_KEY (or claude.api_key) to a working one."
    if trouble.status == 404:
        return f"{said} Model {model!r} is unknown or retired, or claude.base_url is wrong: change one of them."
    if trouble.status == 403:
        return (
            f"{said} The key may not use model {model!r} here: give it the right, or name another model in the route."
        )
    return f"{said} No call to {model!r} can succeed until that is mended."


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """When the API wants to be asked again, from `retry-after-ms` or `retry-after`; None where it does not say."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _sane(milliseconds / 1000.0)
    said = headers.get("retry-after")
    if said is None:
        return None
    seconds = _number(said)
    if seconds is not None:
        return _sane(seconds)
    try:
        date = email.utils.parsedate_to_datetime(said)
        # The API's own clock says how far ahead that is: ours may be minutes off.
        now = server_time(headers)
        return _sane(date.timestamp() - (now.timestamp() if now else time.time()))
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return None if number is None or number != number else number  # noqa: PLR0124  # not a number


def _sane(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
