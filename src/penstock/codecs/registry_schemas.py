"""Schemas as a registry gave them, kept by their id; what it means when the registry does not give one.

registry → [registry_schemas] → registry_formats
A schema of an id never changes, so that it is asked for once. "There is no such schema" is believed for a while only.
"""

from __future__ import annotations

import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka.schema_registry import SchemaRegistryError

from penstock.codecs.json import Undecodable
from penstock.codecs.registry_formats import Read, reading
from penstock.errors import CodecUnavailable, PenstockError, SettingsError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
    from google.protobuf.message import Message

T = TypeVar("T")
MAX_SCHEMAS = 2_000
REFUSAL_SECONDS = 30.0
"""So long a schema that could not be had is not asked for again; a redrive after that finds it."""
_MAX_WORDS = 200
_UNAUTHORISED = {401, 403}
_NOT_FOUND = range(40_400, 40_500)
"""The registry's own codes. A plain 404 comes from something else on the way, and says nothing about a schema."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one id: how to read its bytes, or why nobody can."""

    read: Read | None
    why_not: str = ""
    until: float = float("inf")


class Schemas:
    """Asks a registry. Everything but `read` and `lacking` may block for as long as its time-out allows."""

    def __init__(
        self,
        client: SchemaRegistryClient,
        address: str,
        *,
        own: str | type[Message] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._address = address
        self._own = own
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._lock = threading.Lock()

    def read(self, prefix: bytes, body: bytes) -> Any:
        """The bytes behind a known prefix as plain values. KeyError: it was never asked for."""
        known = self._known[prefix]
        if known.read is None:
            raise Undecodable(known.why_not)
        try:
            return known.read(body)
        except Undecodable as error:
            raise Undecodable(f"{named(prefix)}: {error}") from None
        except Exception as error:  # noqa: BLE001 - bytes of anybody, through three libraries; their texts quote the event
            raise Undecodable(f"{named(prefix)}: the bytes do not fit their schema ({type(error).__name__})") from None

    def lacking(self, prefixes: Iterable[bytes]) -> set[bytes]:
        """Those that must be asked for (again)."""
        missing = set()
        for prefix in prefixes:
            known = self._known.get(prefix)
            if known is None or (known.read is None and known.until < self._clock()):
                missing.add(prefix)
        return missing

    def fetch(self, prefixes: Iterable[bytes]) -> None:
        """Ask for them. Raises `CodecUnavailable` (weather) or `SettingsError`; what is known by then is kept."""
        wanted = set(prefixes)
        with self._lock:
            missing = self.lacking(wanted)
            self._make_room(len(missing), wanted)
            for prefix in sorted(missing):
                self._known[prefix] = self._asked_for(prefix)

    def check(self) -> None:
        """Raise where the registry cannot be reached or does not let us in."""
        try:
            self._ask(self._client.get_schema_types)
        except (_NotFoundError, _ElsewhereError) as missing:
            raise SettingsError(f"registry.url: {self._address} is no schema registry: {missing}") from None

    def referred(self, reference: SchemaReference, fmt: str | None = None) -> Schema:
        """The version of a subject that a schema refers to; a deleted one may still be referred to."""
        subject, version = reference.subject, reference.version
        if subject is None or version is None:
            raise Undecodable(f"refers to {reference.name!r} and does not say where that is")
        return self._ask(lambda: self._client.get_version(subject, version, True, fmt)).schema

    def close(self) -> None:
        """Give back the connection."""
        self._client.close()

    def _asked_for(self, prefix: bytes) -> _Known:
        try:
            return _Known(reading(self._schema(prefix), self, self._own))
        except _NotFoundError as missing:
            why = f"the schema registry at {self._address} says: {missing}"
        except Undecodable as error:
            why = f"its schema {error}"
        except PenstockError:
            raise
        except Exception as error:  # noqa: BLE001 - a schema that its own library cannot parse
            why = f"its schema cannot be used ({type(error).__name__})"
        return _Known(None, f"{named(prefix)}: {why}", self._clock() + REFUSAL_SECONDS)

    def _schema(self, prefix: bytes) -> Schema:
        # The client's own cache does not tell formats apart, and nothing bounds it.
        self._client.clear_caches()  # type: ignore[no-untyped-call]
        schema = self._ask(lambda: self._get(prefix))
        if schema.schema_type == "PROTOBUF":
            self._client.clear_caches()  # type: ignore[no-untyped-call]
            schema = self._ask(lambda: self._get(prefix, "serialized"))
        return schema

    def _get(self, prefix: bytes, fmt: str | None = None) -> Schema:
        if prefix[0] == 0:
            return self._client.get_schema(struct.unpack(">I", prefix[1:])[0], fmt=fmt)
        return self._client.get_schema_by_guid(str(uuid.UUID(bytes=prefix[1:])), fmt)

    def _make_room(self, count: int, wanted: set[bytes]) -> None:
        """Bounded, whatever ids garbage may hold: the oldest go first, but none that this fetch is for."""
        excess = max(0, len(self._known) + count - MAX_SCHEMAS)
        for prefix in [prefix for prefix in self._known if prefix not in wanted][:excess]:
            del self._known[prefix]

    def _ask(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except SchemaRegistryError as error:
            raise self._meant(error) from None
        except Exception as error:  # no answer, or one that is none: whatever it was, events must not pay for it
            raise CodecUnavailable(
                f"the schema registry at {self._address} gives no answer: {_in_words(error)} (setting registry.url)"
            ) from error

    def _meant(self, error: SchemaRegistryError) -> PenstockError | _NotFoundError:
        status, code = error.http_status_code, error.error_code
        if status == HTTPStatus.NOT_FOUND and code in _NOT_FOUND:
            return _NotFoundError(f"{error.error_message} (404, code {code})")
        if status in _UNAUTHORISED:
            return SettingsError(
                f"the schema registry at {self._address} refuses these credentials ({status}): "
                "set registry.basic_auth to user:password (environment PENSTOCK_REGISTRY__BASIC_AUTH)"
            )
        said = " ".join(str(error.error_message).split())[:_MAX_WORDS]
        kind = _ElsewhereError if status == HTTPStatus.NOT_FOUND else CodecUnavailable
        return kind(f"the schema registry at {self._address} answers {status}: {said} (setting registry.url)")


class _NotFoundError(Exception):
    """The registry itself says that it does not have it."""


class _ElsewhereError(CodecUnavailable):
    """Something answers that is not the registry: a proxy, another path."""


def named(prefix: bytes) -> str:
    """The schema's id as people know it."""
    if prefix[0] == 0:
        return f"schema id {struct.unpack('>I', prefix[1:])[0]}"
    return f"schema GUID {uuid.UUID(bytes=prefix[1:])}"


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_WORDS].removesuffix(": ")
