"""A receiver to look at what webhooks post: verifies with the standard's own library, prints, answers what it was told to.

post → [webhook_listen] → terminal
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from penstock.cli.console import emit, tell
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.cli.command import Invocation

MOST_BYTES = 100_000


class Listener:
    """On this machine only. Answers 401 to what has no right signature."""

    def __init__(self, secrets: Sequence[str], status: int, count: int | None) -> None:
        self._webhooks = [Webhook(secret) for secret in secrets]
        self._status, self._left = status, count
        self._done = asyncio.Event()

    async def run(self, port: int, invocation: Invocation) -> None:
        """Until Ctrl-C, or until there were as many messages as wanted."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/{path:.*}", self._take)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            try:
                await site.start()
            except OSError as error:
                raise SettingsError(f"--port {port}: {error.strerror}; choose another") from error
            if not invocation.is_quiet:
                tell(
                    f"listening on http://127.0.0.1:{runner.addresses[0][1]}/, answering {self._status}; Ctrl-C ends it"
                )
            await self._done.wait()
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        message = self._verified(body, headers)
        if message is None:
            tell("a message whose signature is wrong, or missing, or older than five minutes")
            return web.Response(status=401)
        emit({"webhook-id": headers["webhook-id"], **message})
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._done.set()
        return web.Response(status=self._status)

    def _verified(self, body: bytes, headers: dict[str, str]) -> dict[str, object] | None:
        for webhook in self._webhooks:
            try:
                found: dict[str, object] = webhook.verify(body, headers)
            except (WebhookVerificationError, ValueError):
                continue
            return found
        return None
