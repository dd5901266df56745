"""One schema of a registry to the function that reads its bytes: Avro, Protobuf, JSON Schema.

registry_schemas → [registry_formats] → registry
Schemas come through confluent-kafka's client; bytes are read by the libraries under its deserialisers (fastavro,
protobuf) and not by these themselves: they may ask the registry in the middle of a message, and theirs for Avro
expands the schema anew for each one.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import fastavro
from confluent_kafka.schema_registry.avro import parse_schema_with_repo
from confluent_kafka.schema_registry.protobuf import protobuf_to_decimal
from confluent_kafka.schema_registry.serde import SchemaId
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from penstock.codecs.json import Undecodable
from penstock.codecs.registry_messages import Messages

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaReference
    from google.protobuf.message import Message

Read = Callable[[bytes], Any]
"""The bytes behind the schema's id to plain values, or to bytes where they are JSON themselves. May raise anything."""

_ENCRYPTING = {"ENCRYPT", "ENCRYPT_PAYLOAD"}


class Registry(Protocol):
    """What reading a schema may need beside it: the schemas that it refers to."""

    def referred(self, reference: SchemaReference, fmt: str | None = None) -> Schema:
        """The version of a subject that a schema refers to."""
        ...


def reading(schema: Schema, registry: Registry, own: str | type[Message] | None) -> Read:
    """How bytes of this schema are read. `own` is the reader's schema: Avro text, or a generated Protobuf class."""
    _refuse_encryption(schema)
    kind = schema.schema_type or "AVRO"
    if kind == "JSON":
        return _as_it_is
    if kind == "PROTOBUF":
        return _protobuf(schema, registry, None if isinstance(own, str) else own)
    if kind == "AVRO":
        return _avro(schema, registry, own if isinstance(own, str) else None)
    raise Undecodable(f"is of type {kind}; read are AVRO, JSON and PROTOBUF")


def _refuse_encryption(schema: Schema) -> None:
    """Text that only its owner's keys open must not be asked about as if it were the event."""
    rules = schema.rule_set
    if rules is None:
        return
    for rule in [*(rules.domain_rules or ()), *(rules.encoding_rules or ())]:
        if rule.type in _ENCRYPTING and not rule.disabled:
            raise Undecodable(f"encrypts what it holds (rule {rule.name!r}); Penstock has no keys for it")


def _text(schema: Schema) -> str:
    if schema.schema_str is None:
        raise Undecodable("has no text")
    return schema.schema_str


def _as_it_is(body: bytes) -> bytes:
    return body


# --- Avro -------------------------------------------------------------------------------------------------------


def _avro(schema: Schema, registry: Registry, own: str | None) -> Read:
    writer = parse_schema_with_repo(_text(schema), _named(schema, registry))
    reader = parse_schema_with_repo(own, {}) if own else None
    if writer == "bytes" or (isinstance(writer, dict) and writer.get("type") == "bytes"):
        return _as_it_is  # the one type that is written without its length

    def read(body: bytes) -> Any:
        stream = io.BytesIO(body)
        value = fastavro.schemaless_reader(stream, writer, reader)
        if stream.tell() != len(body):
            raise Undecodable(f"{len(body) - stream.tell()} bytes are left over behind the record")
        return value

    return read


def _named(schema: Schema, registry: Registry) -> dict[str, Any]:
    """The named types that a schema takes from other subjects, by the name under which it refers to them and in full."""
    found: dict[str, Any] = {}
    for reference in schema.references or ():
        other = registry.referred(reference)
        found |= _named(other, registry)
        declared = json.loads(_text(other))
        found[str(reference.name)] = declared
        if isinstance(declared, dict) and declared.get("namespace") and "." not in declared["name"]:
            found[f"{declared['namespace']}.{declared['name']}"] = declared
    return found


# --- Protobuf ---------------------------------------------------------------------------------------------------


def _protobuf(schema: Schema, registry: Registry, own: type[Message] | None) -> Read:
    pool = descriptor_pool.DescriptorPool()
    file = _add(pool, "(event)", schema, registry)
    messages = Messages({"confluent.type.Decimal": protobuf_to_decimal}, json_format.MessageToDict)
    by_path: dict[tuple[int, ...], type[Message]] = {}

    def read(body: bytes) -> Any:
        path, content = _path(body)
        message_class = by_path.get(path)
        if message_class is None:
            message_class = by_path[path] = _agreed(GetMessageClass(_at(file, path)), own)
        message = message_class()
        message.ParseFromString(content)
        return messages.values(message)

    return read


def _path(body: bytes) -> tuple[tuple[int, ...], bytes]:
    """Which message of the schema's file it is: indexes from the outside in, written before the message."""
    if body[:1] == b"\0":  # short for the file's first
        return (0,), body[1:]
    found = SchemaId("PROTOBUF")
    rest = found.from_bytes(io.BytesIO(b"\0\0\0\0\0" + body))
    return tuple(found.message_indexes or ()), rest.read()


def _at(file: Any, path: tuple[int, ...]) -> Any:
    names = list(file.message_types_by_name.values())
    found = None
    for index in path:
        if not 0 <= index < len(names):
            break
        found, names = names[index], names[index].nested_types
    else:
        if found is not None:
            return found
    raise Undecodable(f"there is no message at {list(path)} in the schema")


def _agreed(written: type[Message], own: type[Message] | None) -> type[Message]:
    if own is None:
        return written
    if own.DESCRIPTOR.name != written.DESCRIPTOR.name:
        raise Undecodable(f"it is a {written.DESCRIPTOR.full_name}, not a {own.DESCRIPTOR.full_name} (reader=)")
    return own


def _add(pool: Any, name: str, schema: Schema, registry: Registry) -> Any:
    """Put a schema's file into the pool, what it imports first."""
    file = descriptor_pb2.FileDescriptorProto()
    try:
        file.ParseFromString(base64.b64decode(_text(schema), validate=True))
    except ValueError as text:  # the .proto itself: format=serialized is not known there
        raise Undecodable("the registry gives its Protobuf as text only; it must know format=serialized") from text
    file.name = name
    given = {reference.name: reference for reference in schema.references or ()}
    for imported in file.dependency:
        if _has(pool, imported):
            continue
        reference = given.get(imported)
        if reference is None:
            _add_known(pool, imported)
        else:
            _add(pool, imported, registry.referred(reference, "serialized"), registry)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(name)


def _add_known(pool: Any, name: str) -> None:
    """Google's and Confluent's own types come with the libraries."""
    file = descriptor_pool.Default().FindFileByName(name)
    for imported in file.dependencies:
        if not _has(pool, imported.name):
            _add_known(pool, imported.name)
    pool.AddSerializedFile(file.serialized_pb)


def _has(pool: Any, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True
