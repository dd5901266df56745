"""The console's lists over HTTP, on SQLite and PostgreSQL: newest first, every row once, and no row that a filter leaves out."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from console_calls import NOW, Node, letter, looking, put, verdict
from penstock.store import queries
from penstock.store.options import DatabaseOptions

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    if request.param == "sqlite":
        return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")
    return DatabaseOptions(url=request.getfixturevalue("postgres").make())


async def test_every_row_is_shown_once_newest_first(tmp_path, database):
    """Page after page, also where many rows were committed in the same moment and names sort oddly."""
    rows = [
        (verdict if number % 3 else letter)(f"{'Zaü_-'[number % 5]}{number}", NOW - timedelta(seconds=number // 20))
        for number in range(97)
    ]
    rows += [verdict("A0", NOW, "other"), verdict("ZZ", NOW, "other")]
    await put(database, *rows)
    async with looking(tmp_path, database, rows=7) as reader:
        seen: list[str] = []
        path = "/console/events"
        while path:
            page = await reader.get(path)
            assert (page.status, len(page.ids) <= 7) == (200, True)
            seen += page.ids
            path = page.link("older")
    times = {row["event_id"]: row["committed_at"] for row in rows}
    assert sorted(seen) == sorted(times)
    assert [times[name] for name in seen] == sorted(times.values(), reverse=True)


ROWS = [
    verdict("v-yes", NOW - timedelta(minutes=1), output={"decision": "yes", "colour": "red", "urgent": True, "stars": 2, "tags": ["a", "b"], "why": "100% sûr_ely"}),
    verdict("v-no", NOW - timedelta(minutes=2), output={"decision": "no", "colour": "blue", "urgent": False, "stars": 3, "tags": [], "why": 'said "wait"'}, confidence="unsure", needs_review=True, subject="thing"),
    verdict("v-old", NOW - timedelta(days=3), output={"decision": "yes", "colour": "green", "urgent": False, "stars": 1, "tags": ["c"], "why": "1000 surely"}),
    verdict("v-other", NOW - timedelta(minutes=3), "labeler", output={"label": "good"}, label="good"),
    letter("l-refused", NOW - timedelta(minutes=4), value=b'{"text": "needle \xff"}'),
    letter("l-late", NOW - timedelta(minutes=5), stage="intake", reason="expired", detail="too late by 7 s", subject="thing"),
    letter("l-sink", NOW - timedelta(minutes=6), "labeler", stage="deliver", reason="row_refused"),
]  # fmt: skip
VERDICTS = ["v-yes", "v-no", "v-other", "v-old"]
LETTERS = ["l-refused", "l-late", "l-sink"]
SINCE = (NOW - timedelta(minutes=5, seconds=30)).strftime("%Y-%m-%dT%H:%M:%S")
UNTIL = (NOW - timedelta(minutes=1, seconds=30)).strftime("%Y-%m-%dT%H:%M:%S")
FILTERS = {
    "": ["v-yes", "v-no", "v-other", *LETTERS, "v-old"],
    "kind=verdict": VERDICTS,
    "kind=letter": LETTERS,
    "kind=review": ["v-no"],
    "task=rich": ["v-yes", "v-no", "l-refused", "l-late", "v-old"],
    "task=labeler": ["v-other", "l-sink"],
    "task=nobody": [],
    "task=rich&f.decision=yes": ["v-yes", "v-old"],
    "task=rich&f.colour=blue": ["v-no"],
    "task=rich&f.urgent=true": ["v-yes"],
    "task=rich&f.urgent=false": ["v-no", "v-old"],
    "task=rich&f.stars=3": ["v-no"],
    "task=rich&f.tags=b": ["v-yes"],
    "task=rich&f.decision=yes&f.colour=green": ["v-old"],
    "confidence=unsure": ["v-no"],
    "stage=deliver": ["l-sink"],
    "reason=expired": ["l-late"],
    "task=rich&stage=answer&reason=refused": ["l-refused"],
    "range=1h": ["v-yes", "v-no", "v-other", *LETTERS],
    f"since={SINCE}&until={UNTIL}": ["v-no", "v-other", "l-refused", "l-late"],
    "q=v-no": ["v-no"],
    "q=thing": ["v-no", "l-late"],
    "q=thing&kind=letter": ["l-late"],
    "q=" + quote("100% s"): ["v-yes"],
    "q=" + quote("r_e"): ["v-yes"],
    "q=SURELY": ["v-old"],
    "q=" + quote('"wait"'): ["v-no"],
    "q=needle": ["l-refused"],
    "q=" + quote("too late"): ["l-late"],
    "q=nowhere": [],
}  # fmt: skip


async def test_a_filter_leaves_exactly_what_it_says(tmp_path, database):
    """Task, kind, fields of the output of every type, confidence, stage, reason, time, names and words."""
    await put(database, *ROWS)
    async with looking(tmp_path, database) as reader:
        found = {query: (await reader.get(f"/console/events?{query}")).ids for query in FILTERS}
    assert found == FILTERS


async def test_a_search_goes_on_where_it_stopped(tmp_path, database, monkeypatch):
    """What no index finds is looked for among so many rows a page; the page says how far, and the next ones find the rest."""
    monkeypatch.setattr(queries, "WINDOW", 10)
    rows = [
        verdict(f"e{number:02}", NOW - timedelta(seconds=number), output={"decision": "no", "colour": "blue" if number in {3, 24, 38} else "red"})
        for number in range(40)
    ]  # fmt: skip
    rows += [letter(f"l{number}", NOW - timedelta(seconds=number)) for number in range(40)]
    await put(database, *rows)
    async with looking(tmp_path, database) as reader:
        seen: list[str] = []
        path, pages = "/console/events?task=rich&f.colour=blue", 0
        while path:
            page = await reader.get(path)
            seen += page.ids
            path, pages = page.link("older"), pages + 1
            assert ("Looked through" in page.text) is bool(path)
        words: list[str] = []
        path = "/console/events?q=blue"
        while path:
            page = await reader.get(path)
            words += page.ids
            path = page.link("older")
    assert (seen, words, pages > 2) == (["e03", "e24", "e38"], ["e03", "e24", "e38"], True)


async def test_what_is_new_is_told_and_nothing_else(tmp_path, database):
    """Rows in front of the newest that was shown, through the same filters; the browser knows those that it has by their ids."""
    await put(database, verdict("first", NOW - timedelta(seconds=9)))
    async with looking(tmp_path, database) as reader:
        tree = (await reader.get("/console/events?kind=verdict")).tree
        (fresh,) = tree.all("div", id="fresh")
        base, after = fresh.attrs["data-new"], fresh.attrs["data-newest"]
        shown = row_ids(tree)
        nothing = await reader.get(f"{base}&after={after}")
        await put(database, verdict("second"), verdict("third", NOW + timedelta(seconds=1)), letter("dead"))
        news = await reader.get(f"{base}&after={after}")
        (body,) = news.tree.all("tbody")
        again = await reader.get(f"{base}&after={body.attrs['data-newest']}")
        wrong = await reader.get(f"{base}&after=nonsense")
    assert (row_ids(nothing.tree) - shown, wrong.status) == (set(), 400)
    assert (news.ids, row_ids(again.tree) - row_ids(news.tree)) == (["third", "second", "first"], set())
    assert len(row_ids(news.tree)) == 3


def row_ids(tree: Node) -> set[str]:
    return {row.attrs["data-id"] for row in tree.all("tr", data_row="")}


async def test_a_row_that_comes_late_is_told(tmp_path, database):
    """Committed before the newest that is shown, written behind it: it is news too; what stands on an older page is none."""
    await put(database, *(verdict(f"e{n}", NOW - timedelta(seconds=n)) for n in range(6)))
    async with looking(tmp_path, database, rows=4) as reader:
        tree = (await reader.get("/console/events")).tree
        (fresh,) = tree.all("div", id="fresh")
        await put(database, verdict("late", NOW - timedelta(seconds=2.5)), letter("later", NOW - timedelta(seconds=5)))
        news = await reader.get(f"{fresh.attrs['data-new']}&after={fresh.attrs['data-newest']}")
    (body,) = news.tree.all("tbody")
    new = row_ids(news.tree) - row_ids(tree)
    assert [row.all("td", cls="id")[0].text for row in body.all("tr") if row.attrs["data-id"] in new] == ["late"]
    assert body.attrs["data-newest"] == fresh.attrs["data-newest"]


async def test_a_subject_has_pages_newest_first(tmp_path, database):
    """More rows of one subject than a page holds: all of them, by their time, page after page, and the filters count."""
    rows = [
        (verdict if number % 4 else letter)(f"e{number * 7 % 23:02}", NOW - timedelta(seconds=number), subject="anna")
        for number in range(23)
    ]
    await put(database, *rows, verdict("other", NOW))
    async with looking(tmp_path, database, rows=5) as reader:
        found = {}
        for query in ("q=anna", "q=anna&kind=letter"):
            seen, path = [], f"/console/events?{query}"
            while path:
                page = await reader.get(path)
                assert "By this id or subject" in page.text
                seen += page.ids
                path = page.link("older")
            found[query] = seen
    names = [row["event_id"] for row in rows]
    assert found == {"q=anna": names, "q=anna&kind=letter": names[::4]}


def place(*content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


PLACES = {
    "before time": place("0001-01-01T00:00:00+23:59", "verdict", "t", "x"),
    "odd kind": place(NOW.isoformat(), [], "t", "x"),
    "deep": base64.urlsafe_b64encode(b"[" * 5_000).decode(),
    "half a sign": place(NOW.isoformat(), "verdict", "t", "\ud800"),
    "half a task": place(NOW.isoformat(), "verdict", "\udfff", "x"),
    "no sign": place(NOW.isoformat(), "letter", "t", "\0"),
}


async def test_a_place_that_is_none_is_said_to(tmp_path, database):
    """Times before time, kinds that are lists, depth, half characters, NUL, length: a word on the page, never a fault."""
    await put(database, *ROWS)
    async with looking(tmp_path, database) as reader:
        for what, given in PLACES.items():
            page = await reader.get(f"/console/events?before={given}")
            new = [await reader.get(f"/console/events/new?{name}={given}") for name in ("after", "down_to")]
            assert (what, page.status, "no place in this list" in page.text) == (what, 200, True)
            assert [(one.status, "no place in a list" in one.text) for one in new] == [(400, True)] * 2
        first = place("0001-01-01T00:00:00+00:00", "letter", "t", "x")
        assert (await reader.get(f"/console/events/new?after={first}")).status == 200


async def test_an_address_that_means_nothing_is_said_to(tmp_path, database):
    """Unknown kinds, fields, times and places in the list: a word on the page, and the list all the same."""
    await put(database, *ROWS)
    wrong = {
        "kind=x": "kind=x: there are", "confidence=9": "confidence=9: there are", "range=ages": "write a number of m, h or d",
        "since=yesterday": "write a time", "f.shape=x&task=rich": "has no such field", "f.decision=no": "choose its task first",
        "before=x": "no place in this list", "since=9999-99-99": "write a time", "range=9999d": "",
    }  # fmt: skip
    async with looking(tmp_path, database) as reader:
        for query, told in wrong.items():
            page = await reader.get(f"/console/events?{query}")
            assert (page.status, told in page.text) == (200, True), query


async def test_filters_stand_in_the_address(tmp_path, database):
    """The form shows what the address says, and the next page keeps it."""
    await put(database, *(verdict(f"e{n}", NOW - timedelta(seconds=n), output={"decision": "no"}) for n in range(5)))
    async with looking(tmp_path, database, rows=2) as reader:
        page = await reader.get("/console/events?task=rich&f.decision=no&range=24h&q=no")
    chosen = {
        select.attrs["name"]: [
            one.attrs.get("value", one.text) for one in select.all("option") if "selected" in one.attrs
        ]
        for select in page.tree.all("select")
    }
    (field,) = page.tree.all("input", name="q")
    assert (chosen["task"], chosen["f.decision"], chosen["range"], field.attrs["value"]) == (
        ["rich"],
        ["no"],
        ["24h"],
        "no",
    )
    assert all(part in page.link("older") for part in ("task=rich", "f.decision=no", "range=24h", "q=no", "before="))


async def test_dead_letters_are_grouped(tmp_path, database):
    """By task, stage and reason, with count, oldest, newest and the newest as a sample; each leads to its list."""
    rows = [letter(f"r{n}", NOW - timedelta(minutes=n), detail=f"no {n}") for n in range(5)]
    rows += [letter("x", NOW - timedelta(days=2), stage="intake", reason="expired"), letter("o", task="labeler")]
    await put(database, *rows)
    async with looking(tmp_path, database) as reader:
        page = await reader.get("/console/dead-letters")
        (table,) = page.tree.all("table")
        cells = [[cell.text.split() for cell in row.all("td")] for row in table.all("tr", data_row="")]
        links = [row.all("a")[0].attrs["href"] for row in table.all("tr", data_row="")]
        lists = [(await reader.get(link)).ids for link in links]
        empty = await reader.get("/console/events?kind=letter&task=rich&stage=deliver&reason=refused")
    assert sorted((" ".join(one[0] + one[1] + one[2]), one[3], one[4]) for one in cells) == [
        ("labeler answer refused", ["1"], ["1"]),
        ("rich answer refused", ["5"], ["5"]),
        ("rich intake expired", ["1"], ["0"]),
    ]
    assert sorted(map(len, lists)) == [1, 1, 5]
    assert next(one for one in cells if one[3] == ["5"])[7] == ["r0", "no", "0"]
    assert "Nothing fits these filters" in empty.text


async def test_empty_pages_say_so(tmp_path, database):
    """A database without rows is no fault: each page says that nothing is there yet, and what brings it."""
    await put(database)
    async with looking(tmp_path, database) as reader:
        told = {path: (await reader.get(path)) for path in ("/console/", "/console/events", "/console/dead-letters")}
    assert {page.status for page in told.values()} == {200}
    assert "Nothing in the last 24 hours" in told["/console/"].text
    assert "penstock deliver database" in told["/console/events"].text
    assert "No dead letters" in told["/console/dead-letters"].text


async def test_odd_rows_are_shown(tmp_path, database):
    """A missing label, an output that is no object, empty and strange texts: `unknown`, never an error."""
    odd = [
        verdict("odd", output={}, label=None, tier="", model=""),
        verdict("deep", output={"decision": None, "x": {"y": [1, {"z": None}]}}),
        verdict("list", label="x") | {"output": [1, {"a": None}]},
        letter("null", value=None, detail="", stage="", reason=""),
    ]
    await put(database, *odd)
    paths = ["/console/", "/console/events", "/console/dead-letters", "/console/letter?id=null"]
    paths += [f"/console/event?event_id={name}&task=rich" for name in ("odd", "deep", "list", "null")]
    async with looking(tmp_path, database) as reader:
        statuses = {path: (await reader.get(path)).status for path in paths}
    assert set(statuses.values()) == {200}
