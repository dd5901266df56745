"""Everything that can go wrong on purpose: by script, by seed and rate, or by a header of one request.

api → [faults] → replies | http
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator.failures import ApiError
from penstock.simulator.limiter import ramp_limited, rate_limited
from penstock.simulator.spend import spend_error

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = b"x-simulator-fault"

STATUSES = {
    "400": "Your request was rejected.",
    "401": "invalid x-api-key",
    "402": "There is a problem with your billing or payment information.",
    "403": "Your API key does not have permission to use the specified resource.",
    "404": "The requested resource could not be found.",
    "408": "Request timed out.",
    "409": "The request conflicts with another one.",
    "413": "Request exceeds the maximum allowed number of bytes.",
    "500": "Internal server error",
    "503": "Service temporarily unavailable",
    "504": "The request timed out while processing.",
    "529": "Overloaded",
}
PAGES = {
    "413_html": (413, "Request Entity Too Large"),
    "502": (502, "Bad Gateway"),
    "503_html": (503, "Service Temporarily Unavailable"),
}
CAPS = {
    "429_spend": "tier",
    "429_contract": "contract",
    "400_spend": "own",
    "400_workspace_spend": "workspace",
    "402_credit": "credit",
}
BEFORE_BODY = frozenset({"reset_before"})
CONNECTION = frozenset({"reset_after", "stall", "drip"})
DEFECTS = frozenset(
    {
        "missing",
        "duplicate",
        "foreign",
        "permuted",
        "enum_case",
        "truncated",
        "refusal",
        "empty",
        "invalid_json",
        "not_an_object",
    }
)
KINDS = frozenset({*STATUSES, *PAGES, *CAPS, "429", "429_ramp", *BEFORE_BODY, *CONNECTION, *DEFECTS})
"""`billed`: a fault after the call was answered (CONNECTION, DEFECTS but for a refusal before output) costs money."""

FIELDS = {
    "kind": str, "match": str, "model": str, "times": (int, type(None)), "retry_after": (int, float, str), "retry_after_ms": (int, float),
    "should_retry": bool, "message": str, "error_code": str,
}  # fmt: skip


class FaultError(ValueError):
    """A fault that cannot be; the text says why."""


@dataclass(slots=True)
class Fault:
    """One entry of a script. Without `times` it strikes once, or for ever where `match` or `model` says whom."""

    kind: str
    match: str = ""
    """Strikes only calls whose text contains this."""
    model: str = ""
    """Strikes only calls of this model."""
    times: int | None = None
    retry_after: float | str | None = None
    """Seconds, or `date:5` for an HTTP date five seconds ahead."""
    retry_after_ms: float | None = None
    should_retry: bool | None = None
    message: str = ""
    error_code: str = ""

    @property
    def status(self) -> int:
        """The HTTP status, 0 for faults that are no status."""
        head = self.kind[:3]
        return int(head) if head.isdigit() else 0

    def error(self, unix_seconds: float) -> ApiError:
        """The error reply; `status` must not be 0."""
        made = self._base(unix_seconds)
        headers = dict(made.headers) | dict(self._headers(unix_seconds))
        message, code = self.message or made.message, self.error_code or made.code
        return ApiError(made.status, message, code=code, headers=tuple(headers.items()), html=made.html, kind=made.kind)

    def _base(self, unix_seconds: float) -> ApiError:
        if self.kind in PAGES:
            return ApiError(*PAGES[self.kind], html=True)
        if self.kind in CAPS:
            return spend_error(CAPS[self.kind], unix_seconds)
        if self.kind == "429":
            return rate_limited("requests per minute", 1.0)
        if self.kind == "429_ramp":
            return ramp_limited(1.0)
        return ApiError(self.status, STATUSES[self.kind])

    def _headers(self, unix_seconds: float) -> Iterable[tuple[str, str]]:
        if isinstance(self.retry_after, str) and self.retry_after.startswith("date:"):
            yield "retry-after", formatdate(unix_seconds + float(self.retry_after[5:]), usegmt=True)
        elif self.retry_after is not None:
            yield "retry-after", str(self.retry_after)
        if self.retry_after_ms is not None:
            yield "retry-after-ms", str(self.retry_after_ms)
        if self.should_retry is not None:
            yield "x-should-retry", "true" if self.should_retry else "false"


def read_fault(given: Any) -> Fault:
    """A fault from a kind's name or an object, checked."""
    if isinstance(given, str):
        given = {"kind": given}
    if not isinstance(given, dict):
        raise FaultError(f"a fault is a kind or an object with one, not {given!r}")
    for key, value in given.items():
        if key not in FIELDS:
            raise FaultError(f"a fault has no {key!r}; it has {', '.join(FIELDS)}")
        if not isinstance(value, FIELDS[key]):  # type: ignore[arg-type]
            raise FaultError(f"fault {key}={value!r} has the wrong type")
    kind = given.get("kind")
    if kind not in KINDS:
        raise FaultError(f"no fault of kind {kind!r}; there are {', '.join(sorted(KINDS))}")
    fault = Fault(**given)
    if kind in BEFORE_BODY and (fault.match or fault.model):
        raise FaultError(f"{kind} strikes before the body is read: it cannot ask for match or model")
    if isinstance(fault.retry_after, str):
        _check_date(fault.retry_after)
    if "times" not in given and not (fault.match or fault.model):
        fault.times = 1
    return fault


def _check_date(text: str) -> None:
    try:
        if not text.startswith("date:"):
            raise ValueError
        float(text[5:])
    except ValueError:
        raise FaultError(f"retry_after={text!r}: seconds, or 'date:<seconds>' for an HTTP date") from None


def read_rates(given: Any) -> dict[str, float]:
    """Rates per kind, checked: they are shares of all calls and may not exceed one together."""
    if not isinstance(given, dict):
        raise FaultError("rates is an object of kind to share of all calls")
    for kind, rate in given.items():
        if kind not in KINDS:
            raise FaultError(f"no fault of kind {kind!r}; there are {', '.join(sorted(KINDS))}")
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise FaultError(f"the rate of {kind} is a share from 0 to 1, not {rate!r}")
    if sum(given.values()) > 1 + 1e-9:
        raise FaultError(f"the rates add up to {sum(given.values()):g}, more than all calls")
    return {kind: float(rate) for kind, rate in given.items()}


def read_header(value: bytes) -> Fault:
    """The override of one request: a kind, or a JSON object."""
    text = value.decode("latin-1").strip()
    if not text.startswith("{"):
        return read_fault(text)
    try:
        return read_fault(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise FaultError(f"{HEADER.decode()}: {error}") from None


class Faults:
    """Draws the fault of each call. The same seed, rates and order of calls give the same faults."""

    def __init__(self, seed: int, rates: dict[str, float], script: Iterable[Fault] = ()) -> None:
        self._seed = seed
        self.set(rates, script)

    def set(self, rates: dict[str, float] | None, script: Iterable[Fault] | None) -> None:
        """Replace rates and script; None leaves either as it is. New rates start the seed anew."""
        if rates is not None:
            self._early = {kind: rate for kind, rate in rates.items() if kind in BEFORE_BODY}
            self._late = {kind: rate for kind, rate in rates.items() if kind not in BEFORE_BODY}
            self._early_random = random.Random(f"early {self._seed}")
            self._late_random = random.Random(f"late {self._seed}")
        if script is not None:
            self._script = deque(script)

    @property
    def left(self) -> int:
        """Entries of the script that can still strike."""
        return len(self._script)

    def early(self) -> Fault | None:
        """A fault that strikes before the body is read: first in the script, or drawn."""
        if self._script and self._script[0].kind in BEFORE_BODY:
            return self._strike(self._script[0])
        return self._drawn(self._early, self._early_random)

    def late(self, text: str, model: str) -> Fault | None:
        """The fault of a call whose body is there."""
        for fault in self._script:
            if fault.kind not in BEFORE_BODY and fault.match in text and fault.model in ("", model):
                return self._strike(fault)
        return self._drawn(self._late, self._late_random)

    def _strike(self, fault: Fault) -> Fault:
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._script.remove(fault)
        return fault

    @staticmethod
    def _drawn(rates: dict[str, float], source: random.Random) -> Fault | None:
        if not rates:
            return None
        number = source.random()
        for kind, rate in rates.items():
            if number < rate:
                return Fault(kind)
            number -= rate
        return None


def http_date(unix_seconds: float | None = None) -> str:
    """For the `date` header."""
    return formatdate(time.time() if unix_seconds is None else unix_seconds, usegmt=True)
