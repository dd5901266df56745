"""Events that were made to be heavy: the console's page of one stays a page, and whole texts stay readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console_calls import letter, looking, put, read, verdict
from penstock import NewRecord
from penstock.store.options import DatabaseOptions
from penstock.web.pages.text import MOST_CHARS, MOST_DEPTH, MOST_SIGNS, laid_out, one_page, shown, visible


def nested(depth: int, size: int = 250_000) -> bytes:
    """As deep as that, and so many bytes."""
    inner = ",".join("0" * ((size - 2 * depth) // 2))
    return f'{{"event_id": "deep", "x": {"[" * depth}{inner}{"]" * depth}}}'.encode()


@pytest.fixture
def database(tmp_path: Path) -> DatabaseOptions:
    return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")


@pytest.mark.parametrize("depth", [150, 900])
async def test_a_deep_event_is_shown_as_it_stands(tmp_path, database, depth):
    """Indents would be most of it: the text as it was sent, cut where a page ends; of the log as of a dead letter."""
    await put(database, verdict("deep", output={"decision": "yes"}), letter("dead", value=nested(depth)))
    event = NewRecord("notes", None, nested(depth), (), 1_795_000_000_000)
    async with looking(tmp_path, database, events=[event]) as reader:
        pages = [
            await reader.get(path) for path in ("/console/event?event_id=deep&task=rich", "/console/letter?id=dead")
        ]
    for page in pages:
        (raw,) = page.tree.all("pre", aria_label="value")
        assert (page.status, "[" * depth in raw.text, len(page.html) < 5 * MOST_CHARS) == (200, True, True)


def test_what_is_laid_out_ends_where_a_page_ends() -> None:
    """A value of any width brings little more than is shown; what is short is laid out whole; what is deep is not."""
    deepest: list[object] = []
    for _ in range(MOST_DEPTH - 1):
        deepest = [deepest]
    wide = laid_out(list(range(100_000)))
    assert wide is not None
    assert MOST_CHARS < len(wide) < MOST_CHARS + 100
    assert (laid_out(deepest) is None, laid_out([deepest]) is None) == (False, True)
    assert shown(b'{"a": [1]}').text == json.dumps({"a": [1]}, indent=2)


async def test_invisible_signs_fill_no_page(tmp_path, database):
    """A label is longer than its sign: so many of them a page, and the page says that there are more."""
    event = {"event_id": "e", **{f"f{n}": "\u200b" * MOST_CHARS for n in range(4)}}
    record = NewRecord("notes", None, json.dumps(event, ensure_ascii=False).encode(), (), 1_795_000_000_000)
    await put(database, verdict("e"))
    async with looking(tmp_path, database, events=[record]) as reader:
        page = await reader.get("/console/event?event_id=e&task=rich")
    signs = [one.text for one in page.tree.all("span", cls="sign")]
    assert (page.status, signs.count("U+200B")) == (200, MOST_SIGNS)
    assert "too many invisible signs" in page.html
    assert len(page.html) < 400_000


def test_texts_of_one_page_share_their_labels() -> None:
    """What one text used up another lacks; the next page has all of them again; letters of other scripts cost nothing."""
    for _ in range(2):
        with one_page():
            made = [visible("\u200b" * (MOST_SIGNS - 1) + "漢" * 9), visible("漢\u200bé\u200b" * 3)]
        counts = [len([one for one in read(f"<p>{part}</p>").all("span") if one.text != "…"]) for part in made]
        assert counts == [MOST_SIGNS - 1, 1]
