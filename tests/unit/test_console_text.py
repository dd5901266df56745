"""Texts of others on pages: whatever an event says, it is text, and what cannot be seen is made visible."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from console_calls import Node, read
from gateway_calls import order_task
from penstock import Route, Task
from penstock.ops.asking import Asked, SinkStanding, Waiting, alike
from penstock.ops.groups import Groups, GroupTopic
from penstock.store.places import Cursor
from penstock.store.queries import Row
from penstock.store.queries_counts import Endpoint, LetterKind, TaskCounts, What
from penstock.store.queries_event import Known
from penstock.web.pages import one as one_page
from penstock.web.pages.faults import Trouble
from penstock.web.pages.fields import choices
from penstock.web.pages.filters import Filters
from penstock.web.pages.lists import Lists
from penstock.web.pages.overview import Overview, SinkView
from penstock.web.pages.render import at, event_url, nanousd, page, quoted, usd
from penstock.web.pages.text import MOST_CHARS, plain, shown, visible

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\"' onload=x><img src=x onerror=y>{{7*7}}&lt;&#60;</dd></title><!--\u202e\0\x1b[31m"
TEXTS = st.text(max_size=60) | st.sampled_from([HOSTILE, "</script>", "'\"><b>", "javascript:alert(1)", "\ud800"])
PARTS = (
    "<",
    ">",
    '"',
    "'",
    "&",
    "</td>",
    "<b>",
    "<!--",
    "]]>",
    "\u202e",
    "\0",
    "a",
    " ",
    "\n",
    "=",
    "onx",
    "`",
    "{{",
    "%}",
)
MIXED = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


def back(node: Node) -> str:
    """The text that a page shows, its labels for signs turned back into the signs."""
    found = ""
    for part in node.parts:
        if isinstance(part, str):
            found += part
        elif part.has("cls", "sign") and re.fullmatch(r"U\+[0-9A-F]{4,6}", part.text):
            found += chr(int(part.text.removeprefix("U+"), 16))
        else:
            found += back(part)
    return found


@given(TEXTS | MIXED)
@example(HOSTILE)
@example("e\u0301\u0301\u0301\u0301\u0301\u0301")
@example("👩\u200d👧 \u0645\u06cc\u200c\u062e\u0648 a\u200db")
def test_a_text_is_shown_whole_and_as_text(text: str) -> None:
    """No character is lost or becomes markup: what the page shows, its labels read back, is the text."""
    tree = read(f"<p>{visible(text)}</p>")
    assert {node.tag for node in tree.all()} <= {"p", "span"}
    (paragraph,) = tree.all("p")
    lone = any("\ud800" <= char <= "\udfff" for char in text)
    assert lone or back(paragraph) == (text or "empty")


@given(st.text(min_size=1, max_size=80))
def test_nothing_invisible_is_shown_as_it_is(text: str) -> None:
    """Controls, overrides of direction, tags, private signs: a label each; joiners only between signs that need them."""
    (paragraph,) = read(f"<p>{visible(text)}</p>").all("p")
    raw = "".join(part for part in paragraph.parts if isinstance(part, str))
    odd = {char for char in raw if unicodedata.category(char) in {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}}
    assert odd <= {"\n", "\t", "\u200c", "\u200d"}
    assert all(char.isprintable() for char in plain(text))


def test_a_long_text_is_cut_and_says_so() -> None:
    """A page stays a page, whatever an event holds."""
    made = visible("x" * (MOST_CHARS + 5))
    assert (len(made) < MOST_CHARS + 100, "the text goes on" in made) == (True, True)


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode) | st.recursive(st.integers() | st.text(max_size=9), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3)).map(lambda v: json.dumps(v).encode()))  # fmt: skip
def test_bytes_are_shown_as_what_they_are(value: bytes) -> None:
    """JSON laid out means the same, other text is itself, the rest is hexadecimal: never an error."""
    found = shown(value)
    if found.kind == "json":
        assert json.dumps(json.loads(found.text)) == json.dumps(json.loads(value))  # NaN is not itself
    elif found.kind == "text":
        assert found.text.encode() == value
    else:
        assert bytes.fromhex("".join(line[8:55] for line in found.text.splitlines())) == value
    assert found.size == len(value)


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=8), max_size=4))
def test_marked_quotes_change_no_letter(text: str, quotes: list[str]) -> None:
    """What a verdict quotes is marked in the event's text; the text stays what it is."""
    (paragraph,) = read(f"<p>{quoted(text, quotes)}</p>").all("p")
    marks = [back(node) for node in paragraph.all("mark")]
    assert all(any(mark == quote for quote in quotes) for mark in marks)
    assert back(paragraph) == (text or "empty")
    assert bool(marks) == any(quote in text for quote in quotes)


# --- whole pages -------------------------------------------------------------------------------------------------


def verdict_row(text: str) -> dict[str, Any]:
    return {
        "task": text, "event_id": text, "result_id": text, "subject": text + "s", "label": text, "confidence": text,
        "needs_review": True, "provisional": True, "supersedes": text, "simulated": True,
        "output": {text: text, "list": [text], "deep": {text: [text]}}, "tier": text, "model": text + "m", "prompt": text,
        "policy": text, "attempts": 1, "nanousd": 7, "produced_at": NOW, "answered_at": None, "committed_at": NOW,
        "generation": 2, "key": text.encode("utf-8", "replace"), "source_topic": text, "source_partition": 0, "source_offset": 1,
    }  # fmt: skip


def letter_row(text: str) -> dict[str, Any]:
    return {
        "id": text, "task": text, "event_id": text, "subject": text + "s", "stage": text, "reason": text, "detail": text,
        "attempts": 1, "nanousd": 1, "first_at": NOW, "last_at": None, "committed_at": NOW, "is_pointer": True,
        "key": None, "value": b"", "bytes": 0, "source_topic": text, "source_partition": 0, "source_offset": 1,
        "log_topic": text, "log_partition": 0, "log_offset": 0,
    }  # fmt: skip


class Unasked:
    """Where pages are made of what is given."""


def pages_with(text: str) -> list[str]:
    """Every page, with this text wherever a text of others can stand."""
    lists = Lists(Unasked(), {}, 50)  # type: ignore[arg-type]
    row = verdict_row(text)
    rows = [
        Row(
            "verdict",
            NOW,
            text,
            text,
            text,
            text,
            text,
            text,
            provisional=True,
            simulated=True,
            output=row["output"],
            tier=text,
        ),
        Row("letter", NOW, text, text, text, text, stage=text, reason=text, detail=text),
    ]
    lines = [lists.line(one) for one in rows]
    event = one_page.EventText(
        fields=[(text, text), ("quote", f"a {text} b")], raw=shown(text.encode("utf-8", "replace")),
        key=shown(b"\xff"), headers=[(text, text)], produced=NOW,
    )  # fmt: skip
    known = Known(
        [row], [letter_row(text)], {text: {"committed_at": NOW, "model": text, "tier": text}},
        [{"task": text, "decided_by": text, "decided_at": NOW, "label": text}],
        [{"task": text, "scope": "key", "committed_at": NOW}],
    )  # fmt: skip
    view = one_page.VerdictView(row, (), "", [(text, text)], [text] if text else [])
    filters = Filters(task=text, reason=text, words=text, since=text, range=text, fields={text: text}, wrong=[text])
    base: dict[str, Any] = {"place": "events", "live_seconds": 1.0, "who": None}
    lists_given = {"filters": filters, "lines": lines, "tasks": [text], "choices": [], "kinds": {}, "ranges": {}, "confidences": (), "page": "/console/events", "is_live": True, "newest": rows[0].cursor.text(), "older": filters.url("/console/events", before="x")}  # fmt: skip
    event_given = {"event_id": text, "task": text, "known": known, "verdicts": [view], "text": event, "quotes": view.quotes, "history": one_page.history(known, event), "missing": [text], "endings": []}  # fmt: skip
    kind = LetterKind(text, text, text, 3, True, NOW, NOW, text, text, text, 1)
    made = [
        page("events.html", **base, **lists_given),
        page("new.html", lines=lines, newest="x"),
        page("event.html", **base, **event_given),
        page(
            "event.html",
            **base,
            **event_given | {"known": Known(erased=known.erased), "verdicts": [], "is_erased": True},
        ),
        page("letter.html", **base, row=letter_row(text), text=event, quotes=[]),
        page("letters.html", **base, kinds=[kind], now=NOW, page="/console/events", filters=filters),
        page("overview.html", **base, **overview_with(text)),
        page("login.html", wanted=text, wrong=text, place=""),
        page("trouble.html", **base, trouble=Trouble(text, f"`{text}` {text}", (text,))),
    ]
    return [bytes(one.body).decode("utf-8", "replace") for one in made]


def overview_with(text: str) -> dict[str, Any]:
    counts = TaskCounts(text, {NOW - timedelta(hours=1): {}, NOW: {}})  # type: ignore[dict-item]
    from collections import Counter

    counts.hours = {NOW: Counter({What(text): 3, What(None, text, text or "r"): 2, What(None): 1})}
    counts.last_hour = Counter(counts.hours[NOW])
    counts.usd = {NOW: 1.5}

    class Given:
        options = type("Options", (), {"live_seconds": 1.0, "query_seconds": 1.0})()

    overview = Overview(Unasked(), Given(), {}, endpoints=(), sink_prefix="sink.")  # type: ignore[arg-type]
    wait = Waiting(text, text, 0, "budget", waits=True, told=text)
    sink = SinkView(text, 3, 2.0, 1, [text], [SinkStanding(text, text, "away", text)])
    groups = Groups([GroupTopic(text, text, 4, 2.0, 0, 0, 3, 1, 0, [])], {text: text})
    look = type("Look", (), {"asked": [Asked(text, error=text)], "at": 1.0, "delivery": "exactly_once"})()
    return {
        "tasks": [overview._task(counts, None)], "endpoints": [Endpoint(text, NOW, text, 1, NOW, NOW, NOW, text, 500, text)],
        "counted_at": NOW, "standing": look, "lags": groups.rows, "waits": alike([wait]), "sinks": [sink],
        "unreadable": groups.unreadable, "attention": [("bad", text)], "now": 1.0,
    }  # fmt: skip


def skeleton(html: str) -> set[tuple[str, str]]:
    """Elements and the names of their attributes."""
    return {(node.tag, name) for node in read(html).all() for name in ("", *node.attrs)}


KNOWN = [
    skeleton(html) | {("span", "class"), ("span", "title"), ("span", ""), ("mark", "")} for html in pages_with("plain")
]


@settings(max_examples=60)
@given(TEXTS | MIXED)
@example(HOSTILE)
@example("")
def test_no_text_of_an_event_becomes_markup(text: str) -> None:
    """Every page, with the text in every place where a text of others stands: no element and no attribute more than with a
    harmless word, no address that leads elsewhere, no script but ours."""
    for html, known in zip(pages_with(text), KNOWN, strict=True):
        assert skeleton(html) <= known
        for node in read(html).all():
            for name in ("href", "src", "action"):
                assert node.attrs.get(name, "/console/").startswith(("/console/", "#"))
            assert node.tag != "script" or not node.text


def test_the_rule_above_can_fail() -> None:
    """A text that became markup would be seen."""
    assert ("b", "") not in KNOWN[0]
    assert ("b", "") in skeleton("<p><b>x</b></p>")
    assert any(HOSTILE[:8] in read(html).text for html in pages_with(HOSTILE))


# --- filters, cursors, numbers ------------------------------------------------------------------------------------


NAMES = st.text().map(lambda text: text.replace("\0", ""))  # no database keeps one with it


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["verdict", "letter"]), NAMES, NAMES)
def test_a_place_in_a_list_survives_its_address(moment: datetime, kind: Any, task: str, name: str) -> None:
    """To the microsecond, with any name."""
    cursor = Cursor(moment, kind, task, name)
    assert Cursor.of(cursor.text()) == cursor


@given(st.text(max_size=80))
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """Whatever stands there: no other error."""
    try:
        Cursor.of(text)
    except ValueError:
        return
    raise AssertionError(f"{text!r} was taken for a place")


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Output(BaseModel):
    why: str = ""
    flag: bool = False
    mood: Mood = Mood.GOOD
    level: Literal[1, 2] = 1
    maybe: Literal["x", "y"] | None = None
    tags: list[Literal["a", "b"]] = []
    free: list[str] = []
    aliased: Literal["p", "q"] = Field("p", alias="other")


def test_fields_of_closed_values_can_be_chosen() -> None:
    """Literal, Enum, bool, optional ones, lists of them; the verdict in a word first; free text is none."""
    task = Task("t", reads="orders", input=order_task().input, output=Output, instructions="x", route=Route("haiku"))
    found = {one.name: (one.values, one.kind, one.is_label) for one in choices(task)}
    assert next(iter(found)) == "flag"
    assert found == {
        "flag": (("true", "false"), "bool", True),
        "mood": (("good", "bad"), "text", False),
        "level": (("1", "2"), "number", False),
        "maybe": (("x", "y"), "text", False),
        "tags": (("a", "b"), "list", False),
        "aliased": (("p", "q"), "text", False),
    }


@pytest.mark.parametrize(
    ("nano", "told"),
    [(0, "$0"), (12_345_000_000, "$12.35"), (123_400_000, "$0.123"), (4_560_000, "$0.0046"), (13_800, "$0.000014"), (9_960, "$0.000010"), (7, "$0.000000007"), (None, "unknown")],
)  # fmt: skip
def test_money_is_told_in_two_digits_at_least(nano: int | None, told: str) -> None:
    """Small sums are never nothing."""
    assert nanousd(nano) == told


def test_a_time_has_the_day_where_it_is_not_todays() -> None:
    """Short for today, with the day before that, with the year before that; hovering tells all of it, in UTC."""
    now = datetime.now(UTC)
    for moment, told in ((now, f"{now:%H:%M:%S}"), (NOW.replace(year=2020), "2020-11-28 12:00:00")):
        (node,) = read(f"<p>{at(moment)}</p>").all("time")
        assert (node.text, node.attrs["title"][-4:], f"{moment:%Y-%m-%d}" in node.attrs["title"]) == (
            told,
            " UTC",
            True,
        )
    assert "2026-11-28 12:00:00" in at(NOW, with_date=True)


def test_odd_values_are_unknown() -> None:
    """Times and sums that are none."""
    assert "unknown" in at(None)
    assert "unknown" in at("yesterday")
    assert usd("x") == "unknown"
    assert event_url("a/b c", "t") == "/console/event?task=t&event_id=a%2Fb+c"
