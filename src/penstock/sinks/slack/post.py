"""Posts one message, by an incoming webhook or a bot's token, and says whose fault a failure is.

sink → [post] → Slack
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from penstock.errors import SinkAway, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.sinks.slack.message import Message
    from penstock.sinks.slack.options import SlackOptions

LONGEST_WISH_SECONDS = 3_600.0
REFUSED = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "invalid_payload", "msg_blocks_too_long", "msg_too_long", "no_text"}
    | {"invalid_arguments", "markdown_text_conflict", "too_many_attachments", "attachment_payload_limit_exceeded"}
)
"""This message will never be taken."""
NEEDS_A_PERSON = frozenset(
    {
        "channel_not_found",
        "channel_is_archived",
        "is_archived",
        "not_in_channel",
        "no_service",
        "no_team",
        "no_active_hooks",
    }
    | {
        "invalid_auth",
        "not_authed",
        "token_revoked",
        "token_expired",
        "account_inactive",
        "missing_scope",
        "no_permission",
    }
    | {"action_prohibited", "posting_to_general_channel_denied", "restricted_action", "invalid_token", "user_not_found"}
    | {"team_disabled", "access_denied", "org_login_required", "ekm_access_denied", "team_access_not_granted"}
)
"""No message will be taken until somebody changes something."""
_quiet = logging.getLogger("penstock.slack.client")
_quiet.setLevel(logging.CRITICAL)  # the library's own lines would show the webhook's URL


class SlackRefused(Exception):
    """Slack will never take this message; the text is its word for it."""


class SlackStopped(UserError):
    """Slack takes nothing until a person acts; the text says what to do."""


class Post:
    """One channel."""

    def __init__(self, name: str, options: SlackOptions) -> None:
        options.check(name)
        self._name, self._options = name, options

    async def send(self, message: Message) -> None:
        """Raises `SinkAway`, `SlackStopped` or `SlackRefused`."""
        try:
            if self._options.token.get_secret_value():
                await self._by_token(message)
            else:
                await self._by_webhook(message)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise SinkAway(f"slack {self._name}: nobody answers ({type(error).__name__})") from None

    def _session(self) -> aiohttp.ClientSession:
        """Proxies of the environment are aiohttp's business: the library's own way knows no NO_PROXY."""
        timeout = aiohttp.ClientTimeout(total=self._options.timeout_seconds)
        return aiohttp.ClientSession(timeout=timeout, trust_env=True)

    async def _by_webhook(self, message: Message) -> None:
        async with self._session() as session:
            url = self._options.webhook_secret.get_secret_value().strip()
            client = AsyncWebhookClient(url, session=session, retry_handlers=[], logger=_quiet)
            client.proxy = None
            reply = await client.send_dict(message.payload())
        word = (reply.body or "").strip()[:80]
        if reply.status_code != 200 or word != "ok":
            self._judge(reply.status_code, word, reply.headers)

    async def _by_token(self, message: Message) -> None:
        options = self._options
        token = options.token.get_secret_value().strip()
        try:
            async with self._session() as session:
                client = AsyncWebClient(
                    token, base_url=options.base_url, session=session, retry_handlers=[], logger=_quiet
                )
                client.proxy = None
                await client.chat_postMessage(
                    channel=options.channel,
                    text=message.text,
                    blocks=message.blocks,
                    unfurl_links=False,
                    unfurl_media=False,
                    link_names=False,
                    mrkdwn=False,
                    parse="none",
                )
        except SlackApiError as error:
            said = error.response
            word = said.get("error", "") if isinstance(said.data, dict) else ""
            self._judge(said.status_code, str(word)[:80], said.headers)

    def _judge(self, status: int, word: str, headers: Mapping[str, str]) -> None:
        if status == 429 or word in {"ratelimited", "rate_limited"}:
            raise SinkAway(f"slack {self._name} wants us to wait", _wish(headers))
        if word in REFUSED:
            raise SlackRefused(word)
        if word in NEEDS_A_PERSON or status in {401, 403, 404, 410}:
            raise SlackStopped(
                f"slack {self._name}: Slack says {_told(word) or status}: check sinks.slack.{self._name} and that its channel is "
                "there and may be posted to, then start again. Nothing is lost: what was not told waits in the log"
            )
        if status in {400, 413}:
            raise SlackRefused(_told(word) or str(status))
        raise SinkAway(f"slack {self._name} answers {status} {_told(word)}".rstrip(), _wish(headers))


def _wish(headers: Mapping[str, str]) -> float | None:
    """`retry-after`, in seconds."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(float(text), LONGEST_WISH_SECONDS) if text.isascii() and text.isdigit() else None


def _told(word: str) -> str:
    """Slack's word, where it is one: what a proxy wrote is not shown."""
    return word if word.replace("_", "").isalnum() else ""
