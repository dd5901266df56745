"""How clients of Kafka are configured: the user's librdkafka properties, and those which the laws need as they are.

settings → [connection] → consumer, committer, appender, reader, admin
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from penstock.errors import SettingsError
from penstock.log.kafka import client_lines
from penstock.log.kafka.options import PROTECTED, KafkaOptions
from penstock.log.kafka.reaching import missing_files

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
logger = logging.getLogger("penstock.log.kafka")

SECRET = re.compile(r"password|passphrase|secret|token|\.pem$|jaas|kinit\.cmd|oauthbearer\.config", re.IGNORECASE)
ADDRESS = re.compile(r"(\w+://)?(\[[0-9A-Fa-f:.]+\]|[^\s,:/\[\]]+)(:\d{1,5})?")
DEFAULTS: Mapping[str, Any] = {
    "client.id": "penstock",
    "reconnect.backoff.max.ms": 1000,  # a broker that is back is found within a second
    # "rebootstrap" (librdkafka's default since 2.11) forgets the brokers whenever all are away: a transactional producer then
    # waits for ever on its cached group coordinator (librdkafka 2.16), and a consumer tries again 20 times a second.
    "metadata.recovery.strategy": "none",
    "enable.metrics.push": False,
}
CONSUMER_DEFAULTS: Mapping[str, Any] = {
    # librdkafka hands records out in the order of their arrival: what is read ahead of a partition with a backlog stands
    # before the newest record of its neighbours. Little of each, fetched often, keeps them side by side.
    "queued.min.messages": 1000,
    "fetch.message.max.bytes": 128 * 1024,
    "fetch.queue.backoff.ms": 10,
}
ADMIN_DEFAULTS: Mapping[str, Any] = {
    # With "none" a question that any broker may answer spins while all are away: 80 to 100 % of a core (librdkafka 2.16).
    "metadata.recovery.strategy": "rebootstrap",
}
PRODUCER_DEFAULTS: Mapping[str, Any] = {
    # The coordinator answers "concurrent transactions" to commits back to back: 100 ms would be the tail.
    "retry.backoff.ms": 15,
}


class Connection:
    """Makes clients that keep the laws. Never shows a secret: not in its repr, not in an error."""

    def __init__(self, bootstrap_servers: str, properties: Mapping[str, Any], options: KafkaOptions) -> None:
        self.bootstrap_servers = _checked_addresses(bootstrap_servers)
        self.options = options
        self._properties = dict(properties)
        for name in self._properties:
            if name in PROTECTED:
                raise SettingsError(f"Kafka property {name!r} can't be set: {PROTECTED[name]}")
        self.last_error = ""
        """What librdkafka said last about its connections, redacted: the cause behind a time-out."""
        self.refusal = ""
        """Likewise, when it was a login or a certificate that was refused."""
        self.troubles = 0
        """How often anything was said."""

    def __repr__(self) -> str:
        return f"Connection({self.bootstrap_servers!r}, properties={sorted(self._properties)})"

    @property
    def group_protocol(self) -> str:
        """What options and properties ask for; empty where the brokers decide."""
        return self.options.protocol_asked(self._properties)

    def consumer(self, settings: Mapping[str, Any]) -> Consumer:
        """A consumer that reads committed records and never commits or jumps by itself."""
        return self._made(
            Consumer,
            CONSUMER_DEFAULTS,
            {
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": max(1, self.options.prefetch_bytes // 1024),
                "allow.auto.create.topics": False,
                **settings,
            },
        )

    def producer(self, settings: Mapping[str, Any]) -> Producer:
        """A producer whose writes are durable, in order and not doubled by retries."""
        return self._made(
            Producer,
            PRODUCER_DEFAULTS,
            {
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.max.bytes": self.options.max_message_bytes,
                **settings,
            },
        )

    def admin(self) -> AdminClient:
        """A client for questions about topics and groups."""
        return self._made(AdminClient, ADMIN_DEFAULTS, {}, client_lines.aside)

    def given(self, name: str) -> str:
        """What the user set a property to; empty where it was not set. For choices, never to show a secret."""
        return str(self._properties.get(name, ""))

    def redacted(self, text: str) -> str:
        """The text without any value that may be a secret."""
        for name, value in self._properties.items():
            if SECRET.search(name) and isinstance(value, str) and value:
                text = text.replace(value, "***")
        return text

    def _made(
        self,
        kind: Callable[..., T],
        defaults: Mapping[str, Any],
        settings: Mapping[str, Any],
        lines: logging.Logger = client_lines.logger,
    ) -> T:
        given = {**DEFAULTS, **defaults, "error_cb": self._note_error, **self._properties, **settings}
        try:
            return kind({**given, "bootstrap.servers": self.bootstrap_servers}, logger=lines)
        except KafkaException as error:
            told = missing_files(self._properties) or self.redacted(error.args[0].str())
            raise SettingsError(f"Kafka property refused: {told}") from None
        except (TypeError, ValueError) as error:
            raise SettingsError(f"Kafka property refused: {self.redacted(str(error))}") from None

    def _note_error(self, error: Any) -> None:
        text, code = self.redacted(error.str()), error.code()
        self.troubles += 1
        if code in (KafkaError._AUTHENTICATION, KafkaError._SSL):  # noqa: SLF001
            self.refusal = text
        if code != KafkaError._ALL_BROKERS_DOWN or not self.last_error:  # noqa: SLF001 - a sum of the causes before it
            self.last_error = text
        logger.debug("librdkafka: %s", text)


def _checked_addresses(bootstrap_servers: str) -> str:
    addresses = [address.strip() for address in bootstrap_servers.split(",")]
    for address in addresses:
        if not ADDRESS.fullmatch(address):
            raise SettingsError(f"bootstrap_servers: {address!r} is no host:port (in {bootstrap_servers!r})")
    return ",".join(addresses)
