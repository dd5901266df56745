"""A member leaves its group without a rebalance on its hands.

membership → [leaving] → Kafka

librdkafka destroys what its group is asked in the moment in which it terminates, and who asked waits for ever (2.16; its issue 4041):
in a rebalance callback that is the binding, with Python's lock in its hand, so that the whole process stands still. A rebalance
that had not been served when `close` was called is served inside it, at that very moment.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException

from penstock.log.kafka.connection import logger

MOST_SECONDS = 5.0
STEP_SECONDS = 0.05
STEP_RECORDS = 1000
CLOSING_SECONDS = 0.25
"""A callback that comes all the same waits until the group has terminated, as a rule: then it is refused at once."""


class Leaving:
    """Used on the consumer's thread only."""

    def __init__(self, *, keeps_place: bool = False) -> None:
        """`keeps_place`: a static member of a classic group, whose partitions wait for it; it would lose them by unsubscribing."""
        self._keeps_place = keeps_place
        self._served = 0
        self._is_closing = False

    def serve(self) -> None:
        """From the callbacks of a consumer that leaves. The binding answers librdkafka, since they do not."""
        self._served += 1
        if self._is_closing:
            time.sleep(CLOSING_SECONDS)

    def leave(self, consumer: Any) -> None:
        """Give everything back, then close it. What it had fetched is thrown away."""
        with suppress(KafkaException):  # a fatal error is told by `close`, or was before
            if not self._keeps_place:
                consumer.unsubscribe()
            self._wait_for_rest(consumer)
        self._is_closing = True
        try:
            consumer.close()
        finally:
            self._is_closing = False

    def _wait_for_rest(self, consumer: Any) -> None:
        """Until no callback comes any more, and nothing is assigned to a member of no topics."""
        end = time.monotonic() + MOST_SECONDS
        while True:
            before = self._served
            consumer.consume(STEP_RECORDS, STEP_SECONDS)
            if self._served == before and (self._keeps_place or not consumer.assignment()):
                return
            if time.monotonic() > end:
                logger.warning("a rebalance goes on after %g s: the group is left all the same", MOST_SECONDS)
                return
