"""Reviews as the serialisers of confluent-kafka write them: in Avro, Protobuf and JSON Schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from confluent_kafka.schema_registry import header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2, wrappers_pb2
from google.protobuf.message_factory import GetMessageClass
from pydantic import BaseModel

from penstock import Record

TOPIC = "reviews"
AT = datetime(2026, 5, 4, 3, 2, 1, 500_000, UTC)
IN_HEADER = {"schema.id.serializer": header_schema_id_serializer}
TOPIC_NAME = {"subject.name.strategy.type": "TOPIC"}


class Author(BaseModel):
    name: str
    is_verified: bool = False


class Review(BaseModel):
    id: str
    text: str
    rating: int = 0
    language: str | None = None
    at: datetime | None = None
    price: Decimal | None = None
    author: Author | None = None


AVRO = {
    "type": "record",
    "name": "Review",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "text", "type": "string"},
        {"name": "rating", "type": "int"},
        {"name": "language", "type": ["null", "string"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {
            "name": "author",
            "type": ["null", {"type": "record", "name": "Author", "fields": [
                {"name": "name", "type": "string"}, {"name": "is_verified", "type": "boolean"},
            ]}],
            "default": None,
        },
    ],
}  # fmt: skip
AVRO_SMALL = {"type": "record", "name": "Note", "fields": [
    {"name": "id", "type": "string"}, {"name": "text", "type": "string"}, {"name": "rating", "type": "int"},
]}  # fmt: skip
JSON_SCHEMA = {
    "title": "Review",
    "type": "object",
    "properties": {"id": {"type": "string"}, "text": {"type": "string"}, "rating": {"type": "integer"}},
    "required": ["id", "text"],
}


def a_review(number: int = 1, **changes) -> dict:
    """A whole review, as a producer has it before it is written."""
    return {
        "id": f"r{number}", "text": f"Came on day {number}, fits well.", "rating": 4, "language": "en", "at": AT,
        "price": Decimal("19.90"), "author": {"name": "Jo", "is_verified": True},
    } | changes  # fmt: skip


def record(value: bytes | None, headers=(), offset: int = 0) -> Record:
    return Record(TOPIC, 0, offset, None, value, tuple(headers), 0)


def written(serializer, value) -> Record:
    """The record that a producer would have made of it."""
    headers: list = []
    content = serializer(value, SerializationContext(TOPIC, MessageField.VALUE, headers))
    return record(content, headers)


def avro(client, schema=AVRO, **conf) -> AvroSerializer:
    text = schema if not isinstance(schema, dict) else json.dumps(schema)
    return AvroSerializer(client, text, conf=TOPIC_NAME | conf)


def json_schema(client, **conf) -> JSONSerializer:
    return JSONSerializer(json.dumps(JSON_SCHEMA), client, conf=TOPIC_NAME | conf)


def protobuf(client, message_class, **conf) -> ProtobufSerializer:
    return ProtobufSerializer(message_class, client, conf=TOPIC_NAME | conf)


def _field(message, number, name, kind, *, type_name="", is_many=False, is_optional=False):
    field = message.field.add(name=name, number=number, type=kind, label=3 if is_many else 1, json_name=name)
    if type_name:
        field.type_name = type_name
    if is_optional:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _files() -> list[descriptor_pb2.FileDescriptorProto]:
    """What protoc would make of shop.proto and author.proto; message types 9 string, 11 message, 14 enum, 12 bytes."""
    author = descriptor_pb2.FileDescriptorProto(name="author.proto", package="shop", syntax="proto3")
    message = author.message_type.add(name="Author")
    _field(message, 1, "name", 9)
    _field(message, 2, "is_verified", 8)

    shop = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    shop.dependency.extend(["author.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    shop.message_type.add(name="Ping")
    review = shop.message_type.add(name="Review")
    kind = shop.enum_type.add(name="Kind")
    kind.value.add(name="KIND_NONE", number=0)
    kind.value.add(name="KIND_SHOP", number=1)
    entry = review.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    _field(entry, 1, "key", 9)
    _field(entry, 2, "value", 3)
    reply = review.nested_type.add(name="Reply")
    _field(reply, 1, "id", 9)
    _field(reply, 2, "text", 9)
    _field(review, 1, "id", 9)
    _field(review, 2, "text", 9)
    _field(review, 3, "rating", 5)
    _field(review, 4, "language", 9, is_optional=True)
    _field(review, 5, "at", 11, type_name=".google.protobuf.Timestamp")
    _field(review, 6, "author", 11, type_name=".shop.Author")
    _field(review, 7, "replies", 11, type_name=".shop.Review.Reply", is_many=True)
    _field(review, 8, "kind", 14, type_name=".shop.Kind")
    _field(review, 9, "counts", 11, type_name=".shop.Review.CountsEntry", is_many=True)
    _field(review, 10, "views", 4)
    _field(review, 11, "thumb", 12)
    _field(review, 12, "score", 11, type_name=".google.protobuf.DoubleValue")
    return [author, shop]


def _classes() -> dict[str, type]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    for file in _files():
        pool.AddSerializedFile(file.SerializeToString())
    names = ("shop.Ping", "shop.Review", "shop.Review.Reply")
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


MESSAGES = _classes()


def a_message(number: int = 1):
    message = MESSAGES["shop.Review"](
        id=f"r{number}", text="Works", rating=4, kind=1, counts={"helpful": 2**40}, views=2**63, thumb=b"\xff\x00"
    )
    message.at.FromDatetime(AT)
    message.author.name = "Jo"
    message.score.value = 0.0
    message.replies.add(id="a", text="thanks")
    return message
