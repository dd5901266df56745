"""One admin client and its patience: a question is asked again while leaders and coordinators move. Every call blocks.

admin → [asking] → Kafka
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaException

from penstock.errors import LogUnavailable, TopicMissing
from penstock.log.kafka.faults import NO_ANSWER, Moving, meaning
from penstock.log.kafka.reaching import reached

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.log.kafka.connection import Connection

T = TypeVar("T")
MOVING_WAIT_SECONDS = 0.05
NEW_TOPIC_SECONDS = 2.0
SLOW_SECONDS = 1.0
"""An answer that takes longer may wait for a broker that is no more."""
MOST_PATIENCE_SECONDS = 4.0
LOOK_SECONDS = 0.5
"""While no broker is there at all it is woken at every attempt to connect: little and not often."""
TRY_SECONDS = 3.0
"""So long one question waits for the broker it was meant for; then it is asked again, of whoever has taken over."""
STALE_SECONDS = 1.0
"""What is on its way for longer may be known to everybody but this client."""
RENEW_SECONDS = 5.0
FORMERS = 4
CHANGING = frozenset({"create_topics"})
OF_COORDINATORS = frozenset({"describe_consumer_groups", "list_consumer_group_offsets"})
LONGEST_SECONDS = 3600.0
"""What is asked of a coordinator gets all of the time that librdkafka gives, and is given up here: a question that its own time-out
ended while the coordinator was away ends the process when it is back (an assertion of librdkafka 2.16, its issue 4605)."""


class NoAnswer(Moving):
    """Whoever was asked is away, or no longer the one to ask."""


class Asking:
    """One admin client, made when first needed, and dropped with this object only.

    librdkafka fails what a client was asked, or worse, when it is dropped before the answer: who waits for one holds this object.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: Any = None
        self._formers: deque[Any] = deque(maxlen=FORMERS)
        """Kept while questions to them may still be answered."""
        self._renewed_at = 0.0
        self._making = threading.Lock()
        """Of two threads that made a client each, the first to ask would lose its own."""

    def check_connection(self) -> None:
        """Raises within seconds, naming the address, where no broker answers."""
        with self._making:
            if self._client is None:
                self._client = reached(self._connection)

    def _settled(self, ask: Callable[[], T], *, is_known: bool = False) -> T:
        """The answer once leaders and coordinators are where the metadata says; a new topic takes a moment everywhere."""
        start = time.monotonic()
        while True:
            try:
                return ask()
            except Moving as weather:
                if time.monotonic() - start > self._connection.options.request_timeout_seconds:
                    raise
                # Offsets are asked with the leaders' epochs as the client knows them, and it may not learn of newer ones.
                if isinstance(weather, NoAnswer) or time.monotonic() - start > STALE_SECONDS:
                    self._renew()
            except TopicMissing:
                if not is_known or time.monotonic() - start > NEW_TOPIC_SECONDS:
                    raise
            time.sleep(MOVING_WAIT_SECONDS)

    def _asked(self, verb: str, *arguments: Any, **settings: Any) -> Any:
        """The futures of one request; the connection is checked first, so that a wrong address is told as such."""
        self.check_connection()
        call: Callable[..., Any] = getattr(self._client, verb)
        patience = self._connection.options.request_timeout_seconds
        seconds = patience if verb in CHANGING else min(TRY_SECONDS, patience)
        if verb in OF_COORDINATORS:
            seconds = LONGEST_SECONDS
        try:
            return call(*arguments, request_timeout=seconds, **settings)
        except KafkaException as error:
            raise meaning(error.args[0], verb.replace("_", " "), self._connection) from error

    def _of_coordinator(self, future: Any, doing: str, *, passing: frozenset[int] = frozenset()) -> Any:
        """The answer of a group's coordinator. Raises `NoAnswer` where it takes too long: then another may be the one to ask."""
        seconds = min(TRY_SECONDS, self._connection.options.request_timeout_seconds)
        try:
            return self._result(future, doing, passing=passing, within_seconds=seconds)
        except FutureTimeoutError as error:
            raise NoAnswer(f"{doing}: no answer from {self._connection.bootstrap_servers}") from error

    def _result(
        self, future: Any, doing: str, *, passing: frozenset[int] = frozenset(), within_seconds: float | None = None
    ) -> Any:
        end = time.monotonic() + (within_seconds or self._connection.options.request_timeout_seconds + 5)
        patience = SLOW_SECONDS
        while True:
            try:
                return future.result(patience)
            except KafkaException as error:
                told = error.args[0]
                if told.code() in passing:
                    raise
                meant = meaning(told, doing, self._connection)
                raise (NoAnswer(str(meant)) if told.code() in NO_ANSWER else meant) from error
            except FutureTimeoutError as error:
                if time.monotonic() > end:
                    if within_seconds is not None:
                        raise
                    raise LogUnavailable(f"{doing}: no answer from {self._connection.bootstrap_servers}") from error
            self._look_around()
            patience = min(2 * patience, MOST_PATIENCE_SECONDS)

    def _renew(self) -> None:
        """A client with fresh eyes: the old one may wait for ever for a coordinator whose broker is gone (librdkafka's issue 5511)."""
        with self._making:
            if time.monotonic() - self._renewed_at > RENEW_SECONDS:
                self._renewed_at = time.monotonic()
                self._formers.append(self._client)
                self._client = self._connection.admin()

    def _look_around(self) -> None:
        """Requests for the controller wait for the broker that was it, also when that is lost: librdkafka asks nobody who it is now."""
        with suppress(KafkaException):  # the request itself tells what is wrong
            self._client.list_topics(timeout=LOOK_SECONDS)
