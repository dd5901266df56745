"""A request's body to the bytes of its events, each exactly as it was sent: one, an array, lines, CloudEvents.

request → [bodies] → judge → posting
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from penstock.codecs.cloudevents import STRUCTURED
from penstock.engine.urgency import DEADLINE, PRIORITY, urgency_of
from penstock.record import Headers
from penstock.web.problems import Problem

BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
MEDIA_TYPES = (JSON, LINES[0], STRUCTURED, BATCH)
REQUIRED = ("ce-id", "ce-source", "ce-type", "ce-specversion")
MAX_ATTRIBUTE_BYTES = 1_024
_ATTRIBUTE = re.compile(r"ce-[a-z0-9]{1,64}")
_SPACE = re.compile(r"[ \t\n\r]*")
_TRACE = ("traceparent", "tracestate")
_URGENCY = {"penstock-priority": PRIORITY, "penstock-deadline": DEADLINE}


class Offer(NamedTuple):
    """One event as it was sent, and the headers that its record gets of it."""

    value: bytes
    headers: Headers


class Body(NamedTuple):
    """What a request offers."""

    offers: list[Offer]
    is_batch: bool
    deadline_ms: int = 0


def read_body(body: bytes, headers: Mapping[str, str], max_events: int) -> Body:
    """Split it by what its content type says. Raises a `Problem` where that cannot be done."""
    media = media_type(headers)
    common = _common(headers)
    deadline_ms = urgency_of(common).deadline_ms
    attributes = _attributes(headers)
    if attributes:
        if media != JSON:
            raise _one_event()
        return Body([Offer(body, (*attributes, ("content-type", b"application/json"), *common))], False, deadline_ms)
    kind = STRUCTURED if media in {STRUCTURED, BATCH} else JSON
    added: Headers = (("content-type", kind.encode()), *common)
    if media == BATCH or (media == JSON and body[:64].lstrip()[:1] == b"["):
        values, is_batch = _array(body, max_events), True
    else:
        values, is_batch = [body], False
    if is_batch and not values:
        raise Problem("malformed", "the batch is empty: send at least one event")
    if len(values) > max_events:
        raise too_many(max_events)
    return Body([Offer(value, added) for value in values], is_batch, deadline_ms)


def lines_head(headers: Mapping[str, str]) -> tuple[Headers, int]:
    """What every event of a stream of lines gets, and the deadline of all in Unix milliseconds, or 0."""
    common = _common(headers)
    if _attributes(headers):
        raise _one_event()
    return (("content-type", JSON.encode()), *common), urgency_of(common).deadline_ms


def media_type(headers: Mapping[str, str]) -> str:
    """The body's kind. Raises where it is none that we read; asked before the body is."""
    media, _, parameters = headers.get("content-type", "").lower().partition(";")
    media = media.strip()
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise _unsupported("compressed bodies are not read: send it without content-encoding")
    charset = re.search(r"charset=\"?([\w-]+)", parameters)
    if charset and charset[1] not in {"utf-8", "utf8", "us-ascii"}:
        raise _unsupported("bodies are UTF-8")
    if media in {STRUCTURED, BATCH, *LINES}:
        return media
    if media == JSON or (media.endswith("+json") and not media.startswith("application/cloudevents")):
        return JSON
    raise _unsupported(f"set content-type to one of {', '.join(MEDIA_TYPES)}")


def too_many(max_events: int) -> Problem:
    """A batch is longer than it may be."""
    return Problem("too-large", f"at most {max_events:,} events a request (gateway.max_batch_events): send several")


def _unsupported(detail: str) -> Problem:
    return Problem("unsupported-media-type", detail)


def _one_event() -> Problem:
    return _unsupported("an event with ce- headers is JSON: content-type: application/json")


def _common(headers: Mapping[str, str]) -> Headers:
    """What every event of the request gets: the trace and its urgency."""
    found = [(name, headers[name].encode("latin-1")) for name in _TRACE if name in headers]
    for name, meant in _URGENCY.items():
        if name not in headers:
            continue
        pair = (meant, headers[name].strip().encode("latin-1"))
        if urgency_of((pair,)).ignored:
            what = "high, normal or low" if meant == PRIORITY else "Unix time in milliseconds"
            raise Problem("malformed", f"header {name}: write {what}")
        found.append(pair)
    for name, content in found:
        if len(content) > MAX_ATTRIBUTE_BYTES:
            raise Problem("malformed", f"header {name} has more than {MAX_ATTRIBUTE_BYTES:,} bytes")
    return tuple(found)


def _attributes(headers: Mapping[str, str]) -> Headers:
    """CloudEvents in binary mode: the attributes are headers, percent-encoded."""
    given = {name: text for name, text in headers.items() if name.startswith("ce-")}
    if not given:
        return ()
    missing = [name for name in REQUIRED if not given.get(name)]
    if missing:
        raise Problem("malformed", f"a CloudEvent in binary mode needs {', '.join(missing)} too")
    if not given["ce-specversion"].startswith("1.0"):
        raise Problem("malformed", "ce-specversion: 1.0 is read")
    for name, text in given.items():
        if not _ATTRIBUTE.fullmatch(name) or len(text) > MAX_ATTRIBUTE_BYTES:
            what = f"a CloudEvents attribute is lower-case letters and digits, of at most {MAX_ATTRIBUTE_BYTES:,} bytes"
            raise Problem("malformed", f"a ce- header: {what}")
    return tuple(("ce_" + name[3:], _plain(text)) for name, text in given.items())


def _plain(text: str) -> bytes:
    content = unquote_to_bytes(text.encode("latin-1"))
    try:
        content.decode()
    except UnicodeDecodeError:
        raise Problem("malformed", "a ce- header is not UTF-8 when its percent signs are resolved") from None
    return content


def _array(body: bytes, max_events: int) -> list[bytes]:
    try:
        return [value.encode() for value in _elements(body.decode(), max_events)]
    except UnicodeDecodeError as broken:
        raise Problem("not-json", f"not UTF-8: byte {broken.start}") from None
    except json.JSONDecodeError as broken:
        raise Problem("not-json", f"{broken.msg} at character {broken.pos}") from None
    except RecursionError:
        raise Problem("not-json", "nested too deep") from None
    except ValueError:
        raise Problem("not-json", "a number that JSON does not have, or one with too many digits") from None


def _elements(text: str, max_events: int) -> Iterator[str]:
    """The elements of an array as they stand there: numbers and escapes are not touched."""
    at = _skipped(text, text.index("[") + 1)
    if text[at : at + 1] == "]":
        _need_end(text, at + 1)
        return
    for count in range(1, max_events + 2):
        _, end = _DECODER.raw_decode(text, at)
        if count > max_events:
            raise too_many(max_events)
        yield text[at:end]
        at = _skipped(text, end)
        if text[at : at + 1] == "]":
            _need_end(text, at + 1)
            return
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", "", at)
        at = _skipped(text, at + 1)


def _skipped(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # it matches nothing, too
    return found.end()


def _need_end(text: str, at: int) -> None:
    if _skipped(text, at) != len(text):
        raise json.JSONDecodeError("Extra data", "", at)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def is_json(value: bytes) -> bool:
    """Whether the bytes are JSON at all; asked only of what a task does not take."""
    try:
        _DECODER.decode(value.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True


_DECODER: Any = json.JSONDecoder(parse_constant=_no_number)
