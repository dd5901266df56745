"""The other side of the sinks, on loopback: a shop's endpoint that verifies every webhook, and a catcher in Slack's place.

sinks → [receiver] → deliveries, guests
"""

from __future__ import annotations

import html
import json
import socket
import time
from array import array
from collections import OrderedDict, deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from penstock.sinks.slack.options import SlackOptions
from penstock.sinks.webhook.options import WebhookOptions
from penstock.sinks.webhook.signing import new_secret

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
MOST_BYTES = 100_000
REMEMBERED = 10_000
"""Webhooks whose repeats are told from new ones."""
RESULTS = frozenset({"penstock.result.v1", "penstock.provisional.v1"})
MOST_BLOCKS = 50


class Receiver:
    """Believes nobody: what is not signed rightly gets 401 and is counted apart, what Slack would refuse gets 400."""

    def __init__(self) -> None:
        self.webhooks = 0
        """Verified with the standard's own library, each id once: verdicts and erasures."""
        self.erasures = 0
        self.repeats = 0
        """Verdicts of an id that had come before."""
        self.refused = 0
        """Bodies without a right signature, and payloads that Slack would not take."""
        self.simulated = 0
        """Verdicts among them that say so."""
        self.digests = 0
        self.last_digest: list[str] = []
        """The latest payload's texts."""
        self.delays_ms = array("L")
        """From committed to received, of verdicts committed since the start."""
        self.latest_events: deque[str] = deque(maxlen=REMEMBERED)
        """Whose verdicts came as webhooks."""
        self.latest_lines: deque[str] = deque(maxlen=REMEMBERED)
        """First lines of what the latest digests showed."""
        self._secret = new_secret()
        self._verifier = Webhook(self._secret)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._since = time.time()
        self._runner: web.AppRunner | None = None
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]

    async def start(self) -> None:
        """Take what comes; who was early waits in the socket's queue."""
        from aiohttp import web  # noqa: PLC0415 - when the roles are on their way: it takes a while

        self._respond = web.Response
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/webhook", self._take_webhook)
        app.router.add_post("/slack", self._take_digest)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        """Nobody is there any more."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()

    def webhook(self, task: str) -> WebhookOptions:
        """The endpoint as `[sinks.webhooks.NAME]` would have it: one task's verdicts, and erasures."""
        return WebhookOptions(
            url=f"http://{HOST}:{self.port}/webhook",
            secrets=SecretStr(self._secret),
            tasks=(task,),
            allow_http=True,
            allow_networks=("127.0.0.0/8",),
        )

    def slack(self, task: str, console_url: str) -> SlackOptions:
        """The channel as `[sinks.slack.NAME]` would have it: what is held or rejected, by clause, soon."""
        return SlackOptions(
            webhook_secret=SecretStr(f"http://{HOST}:{self.port}/slack"),
            tasks=(task,),
            kinds=("result",),
            where={"decision": ("reject", "hold")},
            group_by=("violations",),
            group_wait_seconds=1.0,
            group_interval_seconds=5.0,
            sample_fields=("reason",),
            console_url=console_url,
            start_from="earliest",
            allow_http=True,
        )

    async def _take_webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            message = self._verifier.verify(body, dict(request.headers))
        except (WebhookVerificationError, ValueError):
            self.refused += 1
            return self._respond(status=401)
        name = request.headers["webhook-id"]
        if name in self._seen:
            self.repeats += message["type"] in RESULTS  # erasures are told before and after by law
            return self._respond(status=204)
        self._seen[name] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self.webhooks += 1
        self._count(message)
        return self._respond(status=204)

    def _count(self, message: dict[str, Any]) -> None:
        if message["type"] not in RESULTS:
            self.erasures += 1
            return
        self.simulated += message["data"]["simulated"] is True
        committed = datetime.fromisoformat(message["timestamp"]).timestamp()
        if committed >= self._since:  # what waited from one run to the next says nothing about speed
            self.delays_ms.append(max(0, int((time.time() - committed) * 1000)))
        self.latest_events.append(message["data"]["event_id"])

    async def _take_digest(self, request: web.Request) -> web.Response:
        try:
            payload = json.loads(await request.read())
            texts = texts_of(payload)
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            self.refused += 1
            return self._respond(status=400, text="invalid_payload")
        self.digests += 1
        self.last_digest = texts
        self.latest_lines.extend(text.partition("\n")[0] for text in texts)
        return self._respond(text="ok")


def texts_of(payload: dict[str, Any]) -> list[str]:
    """What a channel would show, block by block; raises where Slack would say `invalid_payload`."""
    blocks = payload["blocks"]
    if not payload["text"] or not 0 < len(blocks) <= MOST_BLOCKS:
        raise ValueError("no text, or too many blocks")
    parts = [
        part for block in blocks for part in (block.get("text"), *block.get("fields", ()), *block.get("elements", ()))
    ]
    return [html.unescape(part["text"]) for part in parts if part is not None]
