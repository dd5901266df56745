"""Events by a schema registry: what the library's own serialisers wrote comes out whole, and every fault has its place."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import uuid
from datetime import datetime
from decimal import Decimal
from functools import cache

import pytest
from confluent_kafka.schema_registry import (
    Rule,
    RuleKind,
    RuleMode,
    RuleSet,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import registry_events as events
from penstock import Skip, TaskError
from penstock.codecs import Undecodable, from_registry
from penstock.codecs.base import Fetching
from penstock.codecs.registry import RegistryOptions
from penstock.codecs.registry_schemas import MAX_SCHEMAS, REFUSAL_SECONDS, Schemas
from penstock.errors import CodecUnavailable, SettingsError
from penstock.settings import load_settings
from registry_events import IN_HEADER, MESSAGES, Author, Review, a_message, a_review, record, written
from schema_registry import LocalRegistry


@pytest.fixture
def mock():
    """The registry's mock that comes with confluent-kafka."""
    with SchemaRegistryClient.new_client({"url": "mock://"}) as client:
        yield client


@pytest.fixture
def registry():
    registry = LocalRegistry()
    yield registry
    registry.go_on.set()
    registry.stop()


@pytest.fixture
def producer(registry):
    """The client of whoever writes the events."""
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


@pytest.fixture
async def codec(registry):
    codec = from_registry().connected(RegistryOptions(url=registry.url))
    yield codec
    await codec.close()


# --- what was written comes out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("conf", [{}, IN_HEADER], ids=["id before the value", "GUID in the header"])
def test_avro_comes_out_as_it_was_written(mock, conf):
    """Nested records, unions, timestamps and decimals: what the library's own deserialiser gives, as the task's model."""
    event = written(events.avro(mock, **conf), a_review())
    assert from_registry(client=mock)(event, Review) == Review(
        id="r1", text="Came on day 1, fits well.", rating=4, language="en", at=events.AT, price=Decimal("19.90"),
        author=Author(name="Jo", is_verified=True),
    )  # fmt: skip
    theirs = AvroDeserializer(mock, conf={"subject.name.strategy": record_subject_name_strategy})
    plain = written(events.avro(mock), a_review())
    schemas = Schemas(mock, "mock")
    schemas.fetch([plain.value[:5]])
    assert schemas.read(plain.value[:5], plain.value[5:]) == theirs(plain.value)


def test_an_avro_union_keeps_null(mock):
    """Branches that are null are None, not missing and not text."""
    event = written(events.avro(mock), a_review(language=None, author=None))
    review = from_registry(client=mock)(event, Review)
    assert (review.language, review.author) == (None, None)


def test_json_schema_comes_out_as_it_was_written(mock):
    """The JSON behind the schema's id is read as any JSON is."""
    event = written(events.json_schema(mock), {"id": "r1", "text": "ok", "rating": 3})
    assert from_registry(client=mock)(event, Review) == Review(id="r1", text="ok", rating=3)
    event = written(events.json_schema(mock, **IN_HEADER), {"id": "r2", "text": "ok"})
    assert event.value[:1] == b"{"
    assert from_registry(client=mock)(event, Review) == Review(id="r2", text="ok")


class Everything(BaseModel):
    id: str
    text: str
    rating: int
    language: str | None = None
    at: datetime | None = None
    author: Author | None = None
    replies: list[dict]
    kind: str
    counts: dict[str, int]
    views: int
    thumb: bytes
    score: float | None = None


@pytest.mark.parametrize("conf", [{}, IN_HEADER], ids=["id before the value", "GUID in the header"])
def test_protobuf_comes_out_as_it_was_written(registry, producer, conf):
    """The file's second message, with imports, an enum, a map, 64 bits, bytes and Google's types; unset is left out."""
    event = written(events.protobuf(producer, MESSAGES["shop.Review"], **conf), a_message())
    found = from_registry().connected(RegistryOptions(url=registry.url))(event, Everything)
    assert found == Everything(
        id="r1", text="Works", rating=4, at=events.AT, author=Author(name="Jo"), replies=[{"id": "a", "text": "thanks"}],
        kind="KIND_SHOP", counts={"helpful": 2**40}, views=2**63, thumb=b"\xff\x00", score=0.0,
    )  # fmt: skip
    assert "language" not in found.model_fields_set


def test_protobuf_of_the_mock_and_a_nested_message(mock):
    """The index path leads to a message within a message; the short form for the first one is read too."""
    reply = MESSAGES["shop.Review.Reply"](id="a1", text="nested")
    event = written(events.protobuf(mock, MESSAGES["shop.Review.Reply"]), reply)
    assert from_registry(client=mock)(event, Review) == Review(id="a1", text="nested")

    class Nothing(BaseModel):
        pass

    event = written(events.protobuf(mock, MESSAGES["shop.Ping"]), MESSAGES["shop.Ping"]())
    assert len(event.value) == 6
    assert from_registry(client=mock)(event, Nothing) == Nothing()


def test_avro_types_of_other_subjects(registry, producer, codec):
    """A schema that refers to another subject's type is put together, once."""
    author = {"type": "record", "name": "Author", "namespace": "shop", "fields": [{"name": "name", "type": "string"}]}
    producer.register_schema("author", Schema(json.dumps(author), "AVRO"))
    review = {"type": "record", "name": "Review", "namespace": "shop", "fields": [
        {"name": "id", "type": "string"}, {"name": "text", "type": "string"}, {"name": "author", "type": "shop.Author"},
    ]}  # fmt: skip
    schema = Schema(json.dumps(review), "AVRO", [SchemaReference("shop.Author", "author", 1)])
    event = written(events.avro(producer, schema), {"id": "r1", "text": "ok", "author": {"name": "Jo"}})
    before = registry.asked("GET /subjects/author")
    for _ in range(3):
        assert codec(event, Review).author == Author(name="Jo")
    assert registry.asked("GET /subjects/author") == before + 1


# --- evolution ----------------------------------------------------------------------------------------------------


def test_older_and_newer_schemas_side_by_side(mock):
    """Each event is read by the schema that it was written with; the model takes what it knows."""
    older = {
        "type": "record",
        "name": "Review",
        "fields": [{"name": "id", "type": "string"}, {"name": "text", "type": "string"}],
    }
    newer = {
        **older,
        "fields": [
            *older["fields"],
            {"name": "mood", "type": {"type": "enum", "name": "Mood", "symbols": ["UP", "DOWN"]}},
        ],
    }
    codec = from_registry(client=mock)
    old = written(events.avro(mock, older), {"id": "r1", "text": "old"})
    new = written(events.avro(mock, newer), {"id": "r2", "text": "new", "mood": "UP"})
    assert old.value[:5] != new.value[:5]
    assert codec(old, Review) == Review(id="r1", text="old")
    assert codec(new, Review) == Review(id="r2", text="new")


def test_a_reader_schema_of_ones_own(mock):
    """`reader=` resolves aliases, defaults and promotions, as Avro defines them."""
    own = {"type": "record", "name": "Note", "fields": [
        {"name": "id", "type": "string"}, {"name": "body", "type": "string", "aliases": ["text"]},
        {"name": "rating", "type": "double"}, {"name": "shop", "type": "string", "default": "main"},
    ]}  # fmt: skip

    class Note(BaseModel):
        id: str
        body: str
        rating: float
        shop: str

    event = written(events.avro(mock, events.AVRO_SMALL), {"id": "n1", "text": "hello", "rating": 2})
    codec = from_registry(reader=json.dumps(own), client=mock)
    assert codec(event, Note) == Note(id="n1", body="hello", rating=2.0, shop="main")


def test_a_protobuf_class_of_ones_own(mock):
    """`reader=` with a generated class reads messages of that name, and no others as if they were it."""
    codec = from_registry(reader=MESSAGES["shop.Review"], client=mock)
    event = written(events.protobuf(mock, MESSAGES["shop.Review"]), a_message())
    assert codec(event, Review).rating == 4
    other = written(events.protobuf(mock, MESSAGES["shop.Review.Reply"]), MESSAGES["shop.Review.Reply"](id="a"))
    with pytest.raises(Undecodable, match=r"it is a shop\.Review\.Reply, not a shop\.Review"):
        codec(other, Review)
    with pytest.raises(TaskError, match="reader="):
        from_registry(reader=3)


# --- bytes that are no event ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"", "it is empty"),
        (b'{"id": "r1"}', "byte 0 is 0x7b"),
        (b"\x02\x00\x00\x00\x01", "byte 0 is 0x02"),
        (b"\x00\x00\x01", "ends within the schema's id, after 3 bytes"),
        (b"\x01" + b"\x00" * 10, "ends within the schema's id, after 11 bytes"),
    ],
)
def test_what_is_not_framed_is_undecodable(mock, value, told):
    """Wrong magic byte and cut ids are told by byte, and nothing is asked for them."""
    codec = from_registry(client=mock)
    assert not codec.lacks([record(value)])
    with pytest.raises(Undecodable, match=told):
        codec(record(value), Review)


@pytest.mark.parametrize("kind", ["avro", "json"])
def test_every_cut_is_undecodable(mock, kind):
    """An event that lost its end never passes for a whole one, and its text is not repeated."""
    event = {
        "avro": lambda: written(events.avro(mock), a_review()),
        "json": lambda: written(events.json_schema(mock), {"id": "r1", "text": "ok"}),
    }[kind]()
    codec = from_registry(client=mock)
    assert codec(event, Review).id == "r1"
    for end in range(5, len(event.value)):
        with pytest.raises(Undecodable) as caught:
            codec(record(event.value[:end]), Review)
        assert "day" not in str(caught.value)


def test_a_cut_protobuf_field_is_undecodable(mock):
    """A message that ends within a field; one that ends between two is a whole message to Protobuf."""
    event = written(events.protobuf(mock, MESSAGES["shop.Review"]), a_message())
    with pytest.raises(Undecodable, match=r"schema id \d: the bytes do not fit their schema .DecodeError"):
        from_registry(client=mock)(record(event.value[:-1]), Review)


def test_bytes_left_over_are_told(mock):
    """Avro that goes on behind its record was not written by that schema."""
    event = written(events.avro(mock), a_review())
    with pytest.raises(Undecodable, match="schema id 1: 2 bytes are left over"):
        from_registry(client=mock)(record(event.value + b"ab"), Review)


@given(body=st.binary(max_size=60))
def test_garbage_is_undecodable_or_an_event(body):
    """Whatever stands behind a known id: a model or `Undecodable`, never another exception."""
    codec, prefixes = _all_three()
    for prefix in prefixes:
        try:
            assert isinstance(codec(record(prefix + body), Review), Review)
        except Undecodable:
            continue


@cache
def _all_three():
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    written_by = [
        written(events.avro(client), a_review()),
        written(events.protobuf(client, MESSAGES["shop.Review"]), a_message()),
        written(events.json_schema(client), {"id": "r1", "text": "ok"}),
    ]
    return from_registry(client=client), [event.value[:5] for event in written_by]


def test_what_does_not_fit_the_model_is_told_by_field(mock):
    """A field that the schema has not, or has of another type, is named; the event's own text is not repeated."""

    class Strict(BaseModel):
        id: int
        shop: str

    event = written(events.avro(mock, events.AVRO_SMALL), {"id": "secret", "text": "t", "rating": 1})
    with pytest.raises(Undecodable) as caught:
        from_registry(client=mock)(event, Strict)
    assert "id: Input should be a valid integer" in str(caught.value)
    assert "shop: Field required" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_tombstone_is_skipped(mock):
    """No value is no event, and no schema is asked for."""
    codec = from_registry(client=mock)
    assert not codec.lacks([record(None)])
    with pytest.raises(Skip):
        codec(record(None), Review)


def test_encrypted_fields_are_not_taken_for_text(mock):
    """A schema with an encryption rule is refused: what only its owner's keys open must not be asked about."""
    rule = Rule("hide", None, RuleKind.TRANSFORM, RuleMode.WRITEREAD, "ENCRYPT", ["PII"], None, None, None, None, False)
    schema = Schema(json.dumps(events.AVRO_SMALL), "AVRO", [], None, RuleSet(None, [rule]))
    number = mock.register_schema("notes-value", schema)
    with pytest.raises(Undecodable, match=r"schema id 1: its schema encrypts what it holds .rule 'hide'"):
        from_registry(client=mock)(record(struct.pack(">bI", 0, number) + b"\0\0\0"), Review)


# --- the registry ---------------------------------------------------------------------------------------------------


async def test_a_schema_is_asked_for_once(registry, producer, codec):
    """`lacks` says what must be fetched; after the fetch nothing is asked any more, however many events there are."""
    event = written(events.avro(producer), a_review())
    registry.requests.clear()
    assert isinstance(codec, Fetching)
    assert codec.lacks([event, event])
    await codec.fetch([event, event])
    assert not codec.lacks([event])
    for _ in range(50):
        assert codec(event, Review).id == "r1"
    assert registry.requests == ["GET /schemas/ids/101"]


async def test_an_unknown_id_is_undecodable_and_named(registry, codec):
    """Only after the registry itself said so; asked for once, not once per event."""
    event = record(struct.pack(">bI", 0, 777) + b"xyz")
    await codec.fetch([event])
    assert not codec.lacks([event])
    for _ in range(3):
        with pytest.raises(Undecodable, match=r"schema id 777: .*Schema 777 not found \(404, code 40403\)"):
            codec(event, Review)
    guid = uuid.uuid4()
    event = record(b"xyz", [("__value_schema_id", b"\1" + guid.bytes)])
    with pytest.raises(Undecodable, match=f"schema GUID {guid}"):
        codec(event, Review)
    assert registry.asked("/schemas/ids/777") == 1


def test_no_such_schema_is_believed_for_a_while(registry, producer):
    """A redrive after the schema was registered finds it, without a restart."""
    now = [0.0]
    schemas = Schemas(SchemaRegistryClient({"url": registry.url}), registry.url, clock=lambda: now[0])
    prefix = struct.pack(">bI", 0, 101)
    schemas.fetch([prefix])
    assert schemas.lacking([prefix]) == set()
    event = written(events.avro(producer, events.AVRO_SMALL), {"id": "n", "text": "t", "rating": 1})
    assert event.value[:5] == prefix
    with pytest.raises(Undecodable):
        schemas.read(prefix, event.value[5:])
    now[0] = REFUSAL_SECONDS + 1
    assert schemas.lacking([prefix]) == {prefix}
    schemas.fetch([prefix])
    assert schemas.read(prefix, event.value[5:]) == {"id": "n", "text": "t", "rating": 1}
    schemas.close()


@pytest.mark.parametrize(
    "answer",
    [
        (500, b'{"error_code": 50001, "message": "store"}'),
        (503, b"<html>busy</html>"),
        (429, b"{}"),
        (404, b"<html>not here</html>"),
        (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'),
        (200, b"<html>please log in</html>"),
        (302, b""),
    ],
    ids=lambda answer: f"{answer[0]} {answer[1][:9].decode()}",
)
async def test_what_says_nothing_about_the_schema_is_weather(registry, codec, answer):
    """Law 5: outages, overload and what answers in the registry's place end no event, and are over when they are over."""
    event = record(struct.pack(">bI", 0, 9) + b"x")
    registry.answer_all = answer
    with pytest.raises(CodecUnavailable, match=registry.url):
        await codec.fetch([event])
    assert codec.lacks([event])
    registry.answer_all = None
    await codec.fetch([event])
    assert not codec.lacks([event])


async def test_a_registry_that_is_down_is_weather(registry, producer, codec):
    """Law 5: nothing listens there; the text names address and setting. What was fetched is read all the same."""
    known = written(events.avro(producer), a_review())
    new = written(events.avro(producer, events.AVRO_SMALL), {"id": "n", "text": "t", "rating": 1})
    await codec.fetch([known])
    registry.stop()
    try:
        with pytest.raises(CodecUnavailable, match=rf"{registry.url}.*registry\.url"):
            await codec.fetch([known, new])
        assert codec(known, Review).id == "r1"
        with pytest.raises(CodecUnavailable):
            await codec.reach()
    finally:
        registry.start()
    await codec.fetch([known, new])
    assert codec(new, Review).id == "n"


async def test_a_registry_that_does_not_answer_is_weather(registry):
    """The time-out of the settings holds: without it the client would wait for ever."""
    codec = from_registry().connected(RegistryOptions(url=registry.url, timeout_seconds=0.1))
    registry.go_on.clear()
    with pytest.raises(CodecUnavailable, match="ReadTimeout"):
        await codec.fetch([record(struct.pack(">bI", 0, 9) + b"x")])


@pytest.mark.parametrize("basic_auth", ["", "me:wrong"])
async def test_wrong_credentials_name_the_setting(registry, basic_auth):
    """Nobody is let in without them: an error of the settings, at the check and at a fetch, without the secret."""
    registry.credentials = "me:right"
    codec = from_registry().connected(RegistryOptions(url=registry.url, basic_auth=basic_auth))
    for act in (codec.reach(), codec.fetch([record(struct.pack(">bI", 0, 9) + b"x")])):
        with pytest.raises(SettingsError, match=r"registry\.basic_auth.*PENSTOCK_REGISTRY__BASIC_AUTH") as caught:
            await act
        assert "wrong" not in str(caught.value)
    good = from_registry().connected(RegistryOptions(url=registry.url, basic_auth="me:right"))
    await good.reach()


async def test_another_server_is_no_registry(registry):
    """A path that leads elsewhere is told at the start."""
    codec = from_registry().connected(RegistryOptions(url=f"{registry.url}/elsewhere"))
    with pytest.raises(SettingsError, match="elsewhere is no schema registry"):
        await codec.reach()


async def test_what_is_kept_is_bounded(registry):
    """Law 10: garbage with ever new ids costs a request each and no memory; a fetch keeps all that it was made for."""
    schemas = Schemas(SchemaRegistryClient({"url": registry.url}), registry.url)
    registry.answer_all = (404, b'{"error_code": 40403, "message": "no"}')
    most = [struct.pack(">bI", 0, number) for number in range(MAX_SCHEMAS)]
    schemas._known.update(dict.fromkeys(most, schemas._asked_for(most[0])))
    more = [struct.pack(">bI", 0, MAX_SCHEMAS + number) for number in range(3)]
    schemas.fetch([most[0], *more])
    assert len(schemas._known) == MAX_SCHEMAS
    assert schemas.lacking([most[0], *more]) == set()
    assert schemas.lacking(most[1:5]) == set(most[1:4])
    schemas.close()


def test_protobuf_that_is_given_as_text_only_is_told(registry, producer, codec):
    """A registry that does not know `format=serialized` is named as the reason."""
    number = producer.register_schema("x-value", Schema('syntax = "proto3"; message A {}', "PROTOBUF"))
    with pytest.raises(Undecodable, match="must know format=serialized"):
        codec(record(struct.pack(">bI", 0, number) + b"\0"), Review)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_come_from_everywhere_and_hide_the_secret(monkeypatch, tmp_path):
    """`[registry]` in the file, the environment for secrets; `config show` masks them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.toml").write_text(
        '[registry]\nurl = "https://registry.example:8081"\n[registry.properties]\n"bearer.auth.token" = "t0p"\n'
    )
    monkeypatch.setenv("PENSTOCK_REGISTRY__BASIC_AUTH", "me:s3cret")
    loaded = load_settings()
    options = loaded.settings.registry
    assert (options.url, options.basic_auth) == ("https://registry.example:8081", "me:s3cret")
    shown = {entry.name: str(entry.value) for entry in loaded.entries()}
    assert shown["registry.url"] == options.url
    assert "s3cret" not in str(shown) + repr(loaded.settings)
    assert "t0p" not in str(shown) + repr(options)
    assert options.client_properties()["basic.auth.user.info"] == "me:s3cret"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"url": "https://me:s3cret@registry.example"},
            "registry.url: user and password belong into registry.basic_auth",
        ),
        ({"url": "registry.example:8081"}, "registry.url='registry.example:8081': write https://HOST:PORT"),
        ({"url": "http://r:1", "basic_auth": "s3cret"}, "registry.basic_auth: write user:password"),
        ({"url": "http://r:1", "timeout_seconds": 0}, "registry.timeout_seconds=0: seconds, more than 0"),
        ({"key_file": "k.pem"}, "registry.key_file needs registry.certificate_file"),
    ],
)
def test_settings_that_cannot_work_are_told(given, told):
    """The message names the setting, and never the secret."""
    with pytest.raises(SettingsError) as caught:
        RegistryOptions(**given)
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_an_address_the_setting_is_named(mock):
    """A task that needs a registry does not start without one; a codec that nobody connected says so."""
    with pytest.raises(SettingsError, match=r"registry\.url is not set.*PENSTOCK_REGISTRY__URL"):
        from_registry().connected(RegistryOptions())
    with pytest.raises(TaskError, match="not connected"):
        from_registry()(record(b"\0\0\0\0\1x"), Review)
    given = from_registry(client=mock)
    assert given.connected(RegistryOptions()) is given


def test_unreadable_certificates_are_told(tmp_path):
    """A wrong path is an error of the settings when the worker is built, not at the first event."""
    with pytest.raises(SettingsError, match="registry"):
        from_registry().connected(RegistryOptions(url="https://r:1", ca_file=tmp_path / "missing.pem"))


def test_a_missing_extra_is_named():
    """Without the packages: one line that says what to install; declaring the task and importing Penstock still works."""
    code = """
import sys
sys.modules["fastavro"] = None
from penstock.codecs import from_registry
from penstock.codecs.registry import RegistryOptions
from penstock.errors import SettingsError
codec = from_registry()
assert "confluent_kafka" not in sys.modules
try:
    codec.connected(RegistryOptions(url="http://127.0.0.1:9"))
except SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fastavro" in done.stdout
    assert "pip install 'penstock[registry]'" in done.stdout
