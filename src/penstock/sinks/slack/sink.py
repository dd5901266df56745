"""Digests to one channel of Slack; what is not told yet stays in front of the group's progress, so that no crash loses it.

delivery → [sink] → digests, alarms, post

The log is the outbox: a digest that is held, by its window, by quiet hours or because Slack is away, is counted again from the
log after a crash. One that was sent just before may come again then, in part or whole, with the same key.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from penstock.errors import PenstockError, SinkAway
from penstock.record import Partition
from penstock.sinks.base import Refused, Sink, SinkOptions
from penstock.sinks.reading import topics_of
from penstock.sinks.slack.digests import Digest, Digests
from penstock.sinks.slack.message import message_of, message_of_alarm
from penstock.sinks.slack.post import Post, SlackRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from penstock.record import Position
    from penstock.sinks.base import Delivery, Reads
    from penstock.sinks.reading import Feed
    from penstock.sinks.slack.alarms import Alarm, Alarms
    from penstock.sinks.slack.options import SlackOptions

logger = logging.getLogger("penstock.deliver")
PREFIX = "slack."
PACE_SECONDS = 1.0
"""Slack takes a message per second and channel."""
LOOK_SECONDS = 15.0
"""Between two looks at budgets and lag."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0


class SlackSink(Sink):
    """Tells the channel `[sinks.slack.NAME]`."""

    def __init__(
        self,
        channel: str,
        options: SlackOptions,
        feeds: Sequence[Feed] = (),
        *,
        clock: Callable[[], float] = time.time,
        pace_seconds: float = PACE_SECONDS,
    ) -> None:
        self.name = PREFIX + channel
        wanted: dict[str, Reads] = {"result": "results", "letter": "letters"}
        read = frozenset(word for kind, word in wanted.items() if kind in options.kinds)
        # Who is told of budgets and lag alone reads dead letters and tells of none: a sink reads something.
        self.reads: frozenset[Reads] = read or frozenset({"letters"})
        self.options = SinkOptions(start_from=options.start_from)
        self._slack, self._clock, self._pace_seconds = options, clock, pace_seconds
        self._first = next((Partition(topic, 0) for topic in topics_of(feeds, self.reads)), None)
        """Whose owner tells alarms, so that of several processes one does."""
        self._tells_alarms = False
        self.alarms: Alarms | None = None
        """Given by who has the log."""
        self._pending: list[Alarm] = []
        self._look_at = 0.0
        self._post = Post(channel, options)
        self._digests = Digests(options, {feed.task: feed.label for feed in feeds})
        self._refused: list[tuple[Digest, Refused]] = []
        self._away: SinkAway | None = None
        self._failures = 0
        self._next_at = 0.0

    async def deliver(self, batch: Sequence[Delivery]) -> None:
        """Count them. While Slack is away the log keeps everything."""
        if self._away is not None and len(self._digests):
            raise SinkAway(str(self._away), max(0.1, self._next_at - self._clock()))
        now = self._clock()
        for delivery in batch:
            self._digests.add(delivery, now)

    async def given_up(self) -> list[Refused]:
        """Send what is due, one message at a time; what Slack refuses becomes a dead letter."""
        if self._refused:
            return [refused for _, refused in self._refused]
        now = self._clock()
        if now >= self._next_at and not await self._raise_alarm(now):
            digest = self._digests.due(now)
            if digest is not None:
                await self._send(digest)
        return [refused for _, refused in self._refused]

    async def buried(self, refused: Sequence[Refused]) -> None:
        """Its dead letter is committed."""
        buried = {one.delivery.position for one in refused}
        self._refused = [pair for pair in self._refused if pair[1].delivery.position not in buried]

    def unsent(self) -> Iterable[Position]:
        """Digests that are held, under way, or refused and not buried."""
        yield from self._digests.unsent()
        for digest, _ in self._refused:
            yield from digest.unsent()

    def took(self, partitions: Collection[Partition]) -> None:
        """Of all processes that tell this channel one has the first partition."""
        self._tells_alarms |= self._first in partitions

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Another process counts them from the log."""
        if self._first in partitions:
            self._tells_alarms, self._pending = False, []
        self._digests.let_go(partitions)

    async def _raise_alarm(self, now: float) -> bool:
        """Tell one of them, if any is due; whether it did."""
        if self.alarms is None or not self._tells_alarms or self._slack.is_quiet(now):
            return False
        if not self._pending and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            try:
                self._pending = await self.alarms.due()
            except PenstockError as weather:
                logger.info("%s: budgets and lag cannot be read: %s", self.name, weather)
        if not self._pending:
            return False
        alarm = self._pending[0]
        try:
            await self._post.send(message_of_alarm(alarm, self._slack, now))
        except SlackRefused as word:
            logger.error("%s: Slack will never take the alarm %s: %s", self.name, alarm.key, word)  # noqa: TRY400
        except SinkAway as away:
            self._pending = []  # it is looked at anew: by then it may be over
            self._hold(away)
            raise
        self._sent()
        await self.alarms.told(alarm)
        del self._pending[:1]
        return True

    async def _send(self, digest: Digest) -> None:
        self._digests.take(digest)
        try:
            await self._post.send(message_of(digest, self._slack))
        except SlackRefused as word:
            self._digests.sent(digest, self._clock())
            self._refuse(digest, str(word))
        except SinkAway as away:
            self._digests.put_back(digest)
            self._hold(away)
            raise
        except BaseException:
            self._digests.put_back(digest)
            raise
        else:
            self._digests.sent(digest, self._clock())
        self._sent()

    def _sent(self) -> None:
        """Slack answered: it is there."""
        self._failures, self._away = 0, None
        self._next_at = self._clock() + self._pace_seconds

    def _refuse(self, digest: Digest, word: str) -> None:
        if digest.samples:
            detail = f"slack took no digest of {digest.count:,} with key {digest.fingerprint.key}: {word}"
            self._refused.append((digest, Refused(digest.samples[0], detail, "slack_refused")))

    def _hold(self, away: SinkAway) -> None:
        """As long as Slack wants, or for a while that grows."""
        grown = min(FIRST_WAIT_SECONDS * 2.0**self._failures, LONGEST_WAIT_SECONDS)
        self._failures = min(self._failures + 1, 10)
        self._away = away
        self._next_at = self._clock() + max(
            self._pace_seconds, grown if away.after_seconds is None else away.after_seconds
        )
