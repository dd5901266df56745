"""A stream of lines into the log, one append after another: what the log or the key's rate does not take now is not read.

gateway → [streaming] → lines, posting, answers
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from penstock.web.answers import BatchAnswer
from penstock.web.bodies import Offer
from penstock.web.problems import Problem
from penstock.web.reading import CLOSE

if TYPE_CHECKING:
    from starlette.responses import Response

    from penstock.record import Headers
    from penstock.web.backlog import Backlog
    from penstock.web.judge import Judge
    from penstock.web.keys import ApiKey, Rates
    from penstock.web.lines import Lines
    from penstock.web.options import GatewayOptions
    from penstock.web.posting import Posting


class Streaming:
    """Posts the lines of requests."""

    def __init__(self, options: GatewayOptions, posting: Posting, backlog: Backlog, rates: Rates) -> None:
        self._options, self._posting, self._backlog, self._rates = options, posting, backlog, rates

    async def post(self, lines: Lines, judge: Judge, client: ApiKey, key: str, head: tuple[Headers, int]) -> Response:
        """Until the end, or until something stops it: then the answer says behind which event. Raises where none was taken."""
        told = BatchAnswer(judge.topic)
        try:
            try:
                await self._post_all(lines, told, judge, client, key, head)
            except Problem as problem:
                if not told.count:
                    raise
                told.stop(problem)
            if not told.count:
                raise Problem("malformed", "the batch is empty: send at least one event")
        except BaseException:
            told.close()
            raise
        finally:
            await lines.close()
        return told.response()

    async def _post_all(
        self, lines: Lines, told: BatchAnswer, judge: Judge, client: ApiKey, key: str, head: tuple[Headers, int]
    ) -> None:
        end = time.monotonic() + self._options.max_stream_seconds
        while taken := await lines.take():
            told.check(self._options.max_answer_bytes)
            await self._take(judge.topic, client, len(taken), head[1], end)
            offers = [Offer(line, head[0]) for line in taken]
            told.add(await self._posting.post(judge, offers, client.name, key, first=told.count))

    async def _take(self, topic: str, client: ApiKey, events: int, deadline_ms: int, end: float) -> None:
        """A key's rate is waited for, unread: the sender notices by itself. Everything else stops the stream.

        Others of the same key wait, too: whoever comes second waits for the next moment.
        """
        while True:
            self._backlog.check(topic, deadline_ms)
            wait = self._rates.wait_seconds(client)
            if time.monotonic() + wait > end:
                most = f"{self._options.max_stream_seconds:g} s (gateway.max_stream_seconds)"
                raise Problem("too-slow", f"a request of lines takes at most {most}: go on with another", headers=CLOSE)
            if not wait:
                self._rates.take(client, events)
                return
            await asyncio.sleep(wait)
