"""One call to the Messages API: sent once, never retried here, and read back with everything that is billed on.

prompt → [client] → reply
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from penstock.claude.errors import Trouble
from penstock.claude.models import Tokens
from penstock.claude.reply import Reply
from penstock.errors import SettingsError
from penstock.flow.base import positive

if TYPE_CHECKING:
    import anthropic
    import httpx2

SIMULATED_HEADER = "x-simulated"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClaudeOptions:
    """How the Claude API is reached and asked."""

    api_key: str = field(default="", repr=False)
    """Empty: what the SDK finds (ANTHROPIC_API_KEY, a profile)."""
    base_url: str = ""
    """Empty: ANTHROPIC_BASE_URL, else the real API."""
    timeout_seconds: float = 60.0
    """Of one call as a whole."""
    connect_timeout_seconds: float = 10.0
    max_connections: int = 1_000
    prices_file: Path | None = None
    """Models and prices of your own, on top of the shipped `prices.toml`."""
    effort: str = ""
    """Empty: what the table of models says for short verdicts."""
    cache_ttl: Literal["5m", "1h"] = "5m"

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for option in ("timeout_seconds", "connect_timeout_seconds", "max_connections"):
            positive(f"claude.{option}", getattr(self, option))
        if self.cache_ttl not in {"5m", "1h"}:
            raise SettingsError(f"claude.cache_ttl={self.cache_ttl!r}: write '5m' or '1h'")


class Catalogue(NamedTuple):
    """What the API says about its models, and the headers that came with it (its clock, who it is)."""

    rows: Mapping[str, Mapping[str, Any]]
    """By id: lifecycle, retires_at and so on."""
    headers: Mapping[str, str]


class ClaudeClient:
    """One per process: its connections are shared by all tiers. Importing the SDK takes seconds; it happens here."""

    def __init__(self, options: ClaudeOptions | None = None) -> None:
        import aiohttp  # noqa: PLC0415
        import anthropic  # noqa: PLC0415  # takes seconds
        import httpx2  # noqa: PLC0415

        from penstock.claude.transport import ShortWay  # noqa: PLC0415

        self._options = options or ClaudeOptions()
        _refuse_model_requests(self._options)
        self._sdk = anthropic
        self._unsent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        seconds = self._options.timeout_seconds
        self._client = anthropic.AsyncAnthropic(
            api_key=self._options.api_key or None,
            base_url=self._options.base_url or None,
            timeout=httpx2.Timeout(seconds, connect=self._options.connect_timeout_seconds),
            max_retries=0,
            open_telemetry=False,
            http_client=ShortWay(
                max_connections=self._options.max_connections,
                trust_env=not _is_loopback(urlsplit(_base_url(self._options)).hostname or ""),  # no proxy to ourselves
            ),
        )
        if self._client.api_key is None and self._client.auth_token is None and self._client.credentials is None:
            raise SettingsError("no API key: set ANTHROPIC_API_KEY (or claude.api_key)")
        self._response = httpx2.Response
        # Both are looked at anew for every call: what the SDK need not parse or copy takes it a seventh less time.
        self._messages_url: Any = self._client.base_url.join("v1/messages")
        self._as_ever: Any = {
            "headers": {"content-type": "application/json"},
            "timeout": self._client.timeout,
            "max_retries": 0,
        }

    async def send(self, parameters: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Reply | Trouble:
        """Make one call. What went wrong is a value too; only cancellation and bugs raise."""
        seconds = min(timeout_seconds or self._options.timeout_seconds, self._options.timeout_seconds)
        # Not `messages.create`: it copies and encodes the prompt in Python, a quarter of what a call takes.
        asked = self._client.post(
            self._messages_url,
            cast_to=self._response,
            content=orjson.dumps(dict(parameters)),
            options=self._as_ever,
        )
        return await self._asked(asked, read_reply, seconds)

    async def models(self) -> Catalogue | Trouble:
        """All models that the key sees, those on their way out too. Costs nothing."""
        return await self._asked(self._listed(), read_models, self._options.timeout_seconds)

    async def _listed(self) -> httpx2.Response:
        lifecycle: list[Any] = ["active", "deprecated", "retired"]
        return (await self._client.models.with_raw_response.list(limit=1_000, lifecycle=lifecycle)).http_response

    async def _asked(
        self,
        request: Awaitable[httpx2.Response],
        read: Callable[[bytes, Mapping[str, str]], T | Trouble],
        seconds: float,
    ) -> T | Trouble:
        try:
            async with asyncio.timeout(seconds):
                response = await request
                return read(response.content, _plain(response.headers))
        except TimeoutError:
            return Trouble(kind="timed_out")
        except self._sdk.APIStatusError as error:
            return _status_trouble(error)
        except self._sdk.APIConnectionError as error:
            origin = _origin(error)  # the SDK's own classes call a cut connection "not connected" too
            sent = not isinstance(origin, self._unsent)
            timed_out = sent and isinstance(error, self._sdk.APITimeoutError)
            kind = "timed_out" if timed_out else "unreachable"
            return Trouble(kind=kind, code=type(origin).__name__, message=str(error), sent=sent)
        except self._sdk.CredentialsError as error:
            return Trouble(401, "credentials", message=str(error), sent=False)

    async def close(self) -> None:
        """Give back the connections."""
        await self._client.close()


def _plain(headers: httpx2.Headers) -> dict[str, str]:
    """By name in lower case. httpx2's own look through all of them whenever they are asked for one, and we ask for a dozen."""
    plain: dict[str, str] = {}
    for name, value in headers.raw:
        known, text = name.decode("latin-1").lower(), value.decode("latin-1")
        plain[known] = f"{plain[known]}, {text}" if known in plain else text
    return plain


def _origin(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
        if type(error).__module__.startswith("aiohttp"):
            break
    return error


def _status_trouble(error: anthropic.APIStatusError) -> Trouble:
    return Trouble(
        error.status_code,
        error.type or "",
        error.error_code or "",
        error.api_message or "",
        error.response.headers,
    )


def read_reply(body: bytes, headers: Mapping[str, str]) -> Reply | Trouble:
    """A reply with HTTP 200. Every field that is billed on is checked: without them the cost is not known."""
    try:
        message = orjson.loads(body)
        usage = message["usage"]
        blocks = message["content"]
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        stop = message["stop_reason"]
        details = message.get("stop_details") or {}
        return Reply(
            call_id=headers.get("request-id") or str(message["id"]),
            model=str(message["model"]),
            stop_reason=None if stop is None else str(stop),
            text="".join(texts),
            tokens=_tokens(usage),
            refusal=str(details.get("category") or ""),
            simulated=SIMULATED_HEADER in headers,
            headers=headers,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Trouble(200, "unreadable", message=f"{type(error).__name__}: {error}", headers=headers)


def read_models(body: bytes, headers: Mapping[str, str]) -> Catalogue | Trouble:
    """The list of models."""
    try:
        rows = {str(row["id"]): row for row in orjson.loads(body)["data"]}
    except (ValueError, KeyError, TypeError) as error:
        return Trouble(200, "unreadable", message=f"{type(error).__name__}: {error}", headers=headers)
    return Catalogue(rows, headers)


def _tokens(usage: Mapping[str, Any]) -> Tokens:
    written = _count(usage.get("cache_creation_input_tokens"))
    by_age = usage.get("cache_creation") or {}
    for_an_hour = min(written, _count(by_age.get("ephemeral_1h_input_tokens")))
    return Tokens(
        input=_count(usage["input_tokens"], required=True),
        cache_write_5m=written - for_an_hour,
        cache_write_1h=for_an_hour,
        cache_read=_count(usage.get("cache_read_input_tokens")),
        output=_count(usage["output_tokens"], required=True),
        inference_geo=str(usage.get("inference_geo") or ""),
    )


def _count(value: Any, *, required: bool = False) -> int:
    if value is None and not required:
        return 0
    if type(value) is not int or value < 0:
        raise ValueError("usage holds no token counts")
    return value


def _refuse_model_requests(options: ClaudeOptions) -> None:
    """Under a test run nothing may cost money: only loopback addresses are let through."""
    allowed = os.environ.get("PENSTOCK_ALLOW_MODEL_REQUESTS")
    in_tests = "pytest" in sys.modules and allowed != "1"
    if not in_tests and allowed != "0":
        return
    base_url = _base_url(options)
    if not _is_loopback(urlsplit(base_url).hostname or ""):
        raise SettingsError(
            f"claude.base_url={base_url!r} is not on this machine, and model requests are off "
            "(a test run, or PENSTOCK_ALLOW_MODEL_REQUESTS=0): start `penstock simulate` and name its address"
        )


def _base_url(options: ClaudeOptions) -> str:
    return options.base_url or os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
