"""Events whose schemas a registry keeps: `Task(…, decode=from_registry())`; where it is, settings say.

intake → [registry] → batcher
Confluent's wire format: byte 0 and a schema id of 4 bytes (or byte 1 and a GUID of 16), before the value or in the
header `__value_schema_id`; then Avro, Protobuf or JSON. Imported cheaply: only a connected codec loads the libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from penstock.codecs.json import Undecodable, decode_json, explain
from penstock.errors import SettingsError, Skip, TaskError
from penstock.record import header

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from google.protobuf.message import Message

    from penstock.codecs.registry_schemas import Schemas
    from penstock.record import Record

ModelT = TypeVar("ModelT", bound=BaseModel)

HEADER = "__value_schema_id"
_SIZES = {b"\0": 5, b"\1": 17}
"""By the magic byte: how long the magic byte and the schema's id or GUID are together."""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Where the schema registry is, for tasks with `decode=from_registry()`."""

    url: str = ""
    """`https://registry.example:8081`; several, separated by commas, are tried in turn."""
    basic_auth: str = field(default="", repr=False)
    """`user:password`, or an API key and its secret with a colon between."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust instead of the usual ones."""
    certificate_file: Path | None = None
    """The client's own certificate (PEM), where the registry asks for one."""
    key_file: Path | None = None
    """The private key of `certificate_file`, unless it stands in there."""
    key_password: str = field(default="", repr=False)
    """Of the private key, where it is encrypted."""
    timeout_seconds: float = 5.0
    """Of one request; a registry that does not answer is asked again for as long as it takes."""
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further properties of confluent-kafka's `SchemaRegistryClient`, passed through: bearer.auth.… and its like."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting and never the secret."""
        for url in filter(None, self.url.split(",")):
            parts = urlsplit(url.strip())
            if parts.username or parts.password:
                raise SettingsError("registry.url: user and password belong into registry.basic_auth")
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise SettingsError(f"registry.url={self.url!r}: write https://HOST:PORT or http://HOST:PORT")
        if self.basic_auth and ":" not in self.basic_auth:
            raise SettingsError("registry.basic_auth: write user:password, with a colon between")
        if not self.timeout_seconds > 0:
            raise SettingsError(f"registry.timeout_seconds={self.timeout_seconds!r}: seconds, more than 0")
        if self.key_file and not self.certificate_file:
            raise SettingsError("registry.key_file needs registry.certificate_file")

    def client_properties(self) -> dict[str, Any]:
        """For confluent-kafka's client, secrets included: never print it."""
        given = {
            "basic.auth.user.info": self.basic_auth,
            "ssl.ca.location": self.ca_file and str(self.ca_file),
            "ssl.certificate.location": self.certificate_file and str(self.certificate_file),
            "ssl.key.location": self.key_file and str(self.key_file),
            "ssl.key.password": self.key_password,
        }
        # It would try again by itself, sleeping: who waits is the engine's decision.
        fixed = {"url": self.url, "timeout": self.timeout_seconds, "max.retries": 0}
        return {**self.properties, **{name: value for name, value in given.items() if value}, **fixed}


def from_registry(
    *, reader: str | type[Message] | None = None, client: SchemaRegistryClient | None = None
) -> RegistryCodec:
    """Decode Avro, Protobuf or JSON by the schema that each event names.

    `reader`: your own version of the schema (Avro's JSON text, or a generated Protobuf class), if fields were renamed;
    without it the task's input model takes what it knows by name. `client`: a ready client of confluent-kafka,
    as for tests (`mock://`); without it the settings `[registry]` say where the registry is.
    """
    codec = RegistryCodec(reader)
    return codec if client is None else codec.over(client)


class RegistryCodec:
    """A codec that looks schemas up. It decodes once `connected`; `fetch` may wait, decoding what was fetched does not."""

    def __init__(
        self, reader: str | type[Message] | None = None, schemas: Schemas | None = None, *, is_ours: bool = False
    ) -> None:
        if not (reader is None or isinstance(reader, str) or hasattr(reader, "DESCRIPTOR")):
            raise TaskError(f"from_registry(reader={reader!r}): Avro's JSON text or a generated Protobuf class")
        self._reader = reader
        self._given = schemas
        self._is_ours = is_ours

    def connected(self, options: RegistryOptions) -> RegistryCodec:
        """The same codec with a registry behind it. Nothing is asked yet."""
        if self._given is not None:
            return self
        if not options.url:
            raise SettingsError(
                "registry.url is not set, and from_registry() needs it: "
                "write url under [registry], or set PENSTOCK_REGISTRY__URL"
            )
        _need_libraries()
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - loads an HTTP client

        try:
            client = SchemaRegistryClient(options.client_properties())
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"registry: {error}") from None
        return self._with(client, options.url, is_ours=True)

    def over(self, client: SchemaRegistryClient) -> RegistryCodec:
        """The same codec with a client that somebody else made and closes."""
        _need_libraries()
        return self._with(client, "client=", is_ours=False)

    def _with(self, client: SchemaRegistryClient, address: str, *, is_ours: bool) -> RegistryCodec:
        from penstock.codecs.registry_schemas import Schemas  # noqa: PLC0415 - loads Avro and Protobuf

        return RegistryCodec(self._reader, Schemas(client, address, own=self._reader), is_ours=is_ours)

    def __call__(self, record: Record, model: type[ModelT]) -> ModelT:
        """Read the record as the model. Raises `Undecodable`; a tombstone raises `Skip`.

        A schema that was not fetched before is fetched now, which blocks: the engine never lets that happen.
        """
        if record.value is None:
            raise Skip("tombstone")
        prefix, body = _split(record, record.value)
        try:
            value = self._schemas.read(prefix, body)
        except KeyError:
            self._schemas.fetch([prefix])
            value = self._schemas.read(prefix, body)
        if isinstance(value, bytes):
            return decode_json(value, model)
        try:
            return model.model_validate(value)
        except ValidationError as invalid:
            raise Undecodable(explain(invalid, model)) from None

    def lacks(self, records: Sequence[Record]) -> bool:
        """Whether `fetch` must come before these can be decoded."""
        return bool(self._schemas.lacking(_prefixes(records)))

    async def fetch(self, records: Sequence[Record]) -> None:
        """Get the schemas of these records, in a thread. Raises `CodecUnavailable`: nothing is wrong with the events."""
        await asyncio.to_thread(self._schemas.fetch, _prefixes(records))

    async def reach(self) -> None:
        """Raise where the registry cannot be reached (`CodecUnavailable`) or will never serve us (`SettingsError`)."""
        if self._is_ours:
            await asyncio.to_thread(self._schemas.check)

    async def close(self) -> None:
        """Give back the connection."""
        if self._given is not None and self._is_ours:
            self._given.close()

    @property
    def _schemas(self) -> Schemas:
        if self._given is None:
            raise TaskError("from_registry() is not connected: run the task by `penstock`, or give client=")
        return self._given


def _prefixes(records: Iterable[Record]) -> set[bytes]:
    """The schemas that these records name; records that name none are told when they are decoded."""
    found = set()
    for record in records:
        head = (header(record.headers, HEADER) if record.headers else None) or record.value
        size = _SIZES.get(head[:1]) if head else None
        if head and size and len(head) >= size:
            found.add(head[:size])
    return found


def _split(record: Record, value: bytes) -> tuple[bytes, bytes]:
    """The schema's id, and what comes behind it."""
    named = header(record.headers, HEADER) if record.headers else None
    data = named + value if named else value
    size = _SIZES.get(data[:1])
    where = f"header {HEADER}" if named else "value"
    if size is None:
        first = f"byte 0 is 0x{data[0]:02x}" if data else "it is empty"
        raise Undecodable(
            f"{where}: {first}, but a registry's serialisers begin with 0x00 or 0x01; plain JSON needs no decode="
        )
    if len(named or value) < size:
        raise Undecodable(f"{where}: ends within the schema's id, after {len(named or value)} bytes")
    return data[:size], data[size:]


def _need_libraries() -> None:
    """Tell which extra brings what is missing."""
    try:
        import confluent_kafka.schema_registry.avro  # noqa: PLC0415
        import confluent_kafka.schema_registry.protobuf  # noqa: F401, PLC0415
    except ImportError as error:
        raise SettingsError(
            f"from_registry() needs packages that are not installed ({error.name or error}): pip install 'penstock[registry]'"
        ) from None
