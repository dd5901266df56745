"""The console in a real browser: keys, rows that come by themselves, no script, small screens, contrast, hostile text, links."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from browser import browsing
from console_calls import NOW, RICH, cost, letter, looking, put, verdict
from gateway_calls import made_key
from penstock import NewRecord
from penstock.store.options import DatabaseOptions
from penstock.web.pages.keyboard import KEYS

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"
PAGES = ("/console/", "/console/events", "/console/events?task=rich&f.decision=no&range=24h", "/console/dead-letters", "/console/event?task=rich&event_id=e-1", "/console/event?task=rich&event_id=e-old", "/console/letter?id=l-1", "/console/nowhere")  # fmt: skip
CONTRAST = (Path(__file__).parent.parent / "contrast.js").read_text()


@pytest.fixture
async def database(tmp_path: Path) -> DatabaseOptions:
    options = DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")
    rows = [
        verdict(f"e-{n}", NOW - timedelta(minutes=n), output={"decision": ("yes", "no")[n % 3 == 0], "why": f"{HOSTILE} {n}"}, provisional=n % 9 == 0, simulated=n % 2 == 0, confidence=("sure", "likely", "unsure")[n % 3])
        for n in range(70)
    ]  # fmt: skip
    rows += [
        verdict("e-old", NOW - timedelta(days=3)),
        verdict(HOSTILE, NOW - timedelta(minutes=3)),
        letter("l-1", NOW - timedelta(minutes=4), detail=HOSTILE, value=HOSTILE.encode()),
    ]
    await put(options, *rows, *(cost(f"c{n}", NOW - timedelta(hours=n)) for n in range(20)))
    return options


async def chosen(page: Any) -> str:
    """The row that the keys have chosen."""
    found = await page.eval_on_selector_all(
        "tr.on", "rows => rows.map(row => row.querySelector('.id')?.innerText ?? row.innerText)"
    )
    assert len(found) <= 1
    return found[0] if found else ""


async def until(page: Any, truth: str) -> None:
    """The page's own policy forbids what Playwright would wait with."""
    for _ in range(600):
        if await page.evaluate(truth):
            return
        await page.wait_for_timeout(50)
    raise AssertionError(f"never: {truth}")


async def test_the_list_is_worked_by_keys(tmp_path, database):
    """j, k and Enter, up again, search, pages, the sheet; while a field has the focus letters are letters."""
    async with looking(tmp_path, database, live_seconds=60.0) as reader, browsing() as (page, seen):
        await page.goto(f"{reader.url}/console/events")
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        assert await chosen(page) == "e-1"
        await page.keyboard.press("k")
        assert await chosen(page) == "e-0"
        await page.keyboard.press("j")
        async with page.expect_navigation():
            await page.keyboard.press("Enter")
        assert await page.inner_text("h1") == "e-1"
        async with page.expect_navigation():
            await page.keyboard.press("u")
        await page.keyboard.press("/")
        await page.keyboard.type("jk?")
        assert (await page.input_value("[data-search]"), await chosen(page)) == ("jk?", "")
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        caps = await page.eval_on_selector_all("dialog[open] kbd", "all => all.map(one => one.innerText)")
        assert caps == [key.cap for key in KEYS]
        await page.keyboard.press("j")
        assert await chosen(page) == ""
        await page.keyboard.press("?")
        assert await page.query_selector("dialog[open]") is None
        for key, path in (
            ("n", "before="),
            ("g", "/console/events"),
            ("3", "/console/dead-letters"),
            ("1", "/console/"),
        ):
            async with page.expect_navigation():
                await page.keyboard.press(key)
            assert path in page.url
        assert seen.complaints == []


async def test_what_is_new_waits_until_it_is_wanted(tmp_path, database):
    """A row that comes moves nothing under the reader's eyes: it is told, and stands on top when it is asked for."""
    async with (
        looking(tmp_path, database, live_seconds=0.2) as reader,
        browsing(viewport={"width": 1280, "height": 500}) as (page, seen),
    ):
        await page.goto(f"{reader.url}/console/events?task=rich")
        await page.mouse.wheel(0, 600)
        await until(page, "scrollY > 300")
        before = await page.eval_on_selector(
            "#rows tr:nth-child(30)", "row => [row.innerText, row.getBoundingClientRect().top]"
        )
        await put(database, verdict("e-new", NOW + timedelta(minutes=1)), verdict("e-other", NOW, "other"))
        await page.wait_for_selector("#fresh button:not([hidden])")
        after = await page.eval_on_selector(
            "#rows tr:nth-child(30)", "row => [row.innerText, row.getBoundingClientRect().top]"
        )
        assert (after, await page.inner_text("#fresh button")) == (before, "1 new")
        await page.keyboard.press(".")
        assert await page.inner_text("#rows tr:first-child .id") == "e-new"
        assert await page.get_attribute("#fresh button", "hidden") is not None
        await put(database, verdict("e-late", NOW + timedelta(seconds=50)))
        await until(page, "waiting.rows.length === 1")
        await page.keyboard.press(".")
        assert await page.inner_text("#rows tr:first-child .id") == "e-late"
        await put(database, *(verdict(f"many-{n}", NOW + timedelta(minutes=2, seconds=n)) for n in range(210)))
        await until(page, "waiting.more")
        count = await page.evaluate("waiting.rows.length")
        await put(database, verdict("one-more", NOW + timedelta(minutes=9)))
        await page.evaluate("look()")
        assert await page.evaluate("waiting.rows.length") == count
        await page.goto(f"{reader.url}/console/")
        count = "document.querySelector('.classes td.num').innerText"
        first = await page.evaluate(count)
        await put(database, *(verdict(f"more-{n}", NOW + timedelta(seconds=n)) for n in range(5)))
        await until(page, f"{count} != {json.dumps(first)}")
        assert seen.complaints == []


async def test_it_works_without_a_script(tmp_path, database):
    """Filters, pages, one event, dead letters: forms and links only."""
    async with looking(tmp_path, database) as reader, browsing(java_script_enabled=False) as (page, _):
        await page.goto(f"{reader.url}/console/events")
        await page.select_option("[name=task]", "rich")
        await page.click("text=Show")
        await page.select_option("[name='f.decision']", "no")
        await page.click("text=Show")
        labels = await page.locator("#rows .verdict").all_inner_texts()
        assert (len(labels), {text.split()[0] for text in labels}) == (24, {"no"})
        await page.click("#rows tr:first-child a")
        assert await page.inner_text("h1") == "e-0"
        await page.click("text=Dead letters")
        await page.click("tr[data-row] a")
        assert await page.locator("#rows tr").count() == 1


async def test_hostile_text_does_nothing(tmp_path, database):
    """No dialog, no request elsewhere, nothing that the policy had to refuse: on no page."""
    events = [NewRecord("notes", None, json.dumps({"text": HOSTILE}).encode())]
    async with looking(tmp_path, database, events=events, live_seconds=0.2) as reader, browsing() as (page, seen):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for path in (*PAGES[:-1], f"/console/event?task=rich&event_id={HOSTILE.replace('<', '%3C')}"):
            await page.goto(reader.url + path)
            await page.wait_for_timeout(300)
            assert await page.locator("main img, main script").count() == 0
        assert await page.inner_text("h1") != ""
        assert all(url.startswith(reader.url) for url in asked)
        assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
async def test_every_page_is_legible(tmp_path, database, scheme, width):
    """Nothing stands beyond the edge, every text has the contrast of WCAG AA, every field a name, headings their order."""
    async with looking(tmp_path, database, live_seconds=60.0) as reader, browsing(viewport={"width": width, "height": 800}, color_scheme=scheme) as (page, _):  # fmt: skip
        for path in PAGES:
            await page.goto(reader.url + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert await page.evaluate(CONTRAST) == [], path
            names = await page.eval_on_selector_all(
                "input:not([type=hidden]), select, button:not([hidden])",
                "all => all.map(one => one.labels?.length || one.innerText || one.ariaLabel)",
            )
            assert all(names), path
            assert await page.locator("h1").count() == 1, path
        await page.evaluate(
            "document.querySelector('main').style.color = getComputedStyle(document.documentElement).backgroundColor"
        )
        assert await page.evaluate(CONTRAST) != []  # the rule above can fail


async def test_a_link_from_another_site_opens_for_who_is_logged_in(tmp_path, database):
    """A strict cookie stays behind when another site links here; the page that answers fetches it. Logged out: the login, then there."""
    key = made_key(tmp_path / "keys.toml", "anna", ["console:read"])
    async with looking(tmp_path, database, auth="keys", tasks=[RICH]) as reader, browsing() as (page, seen):
        target = f"{reader.url}/console/event?task=rich&event_id=e-1"

        async def elsewhere(_: web.Request) -> web.Response:
            return web.Response(text=f"<a href='{target}'>look</a>", content_type="text/html")

        app = web.Application()
        app.router.add_get("/{path:.*}", elsewhere)
        async with TestServer(app, host="127.0.0.1") as other:
            foreign = f"http://localhost:{other.port}/"
            await page.goto(foreign)
            await page.click("text=look")
            await page.wait_for_selector("[name=key]")
            await page.fill("[name=key]", key)
            await page.click("main button")
            await page.wait_for_selector("h1")
            assert (page.url, await page.inner_text("h1")) == (target, "e-1")
            await page.goto(foreign)
            await page.click("text=look")
            await page.wait_for_selector(".card")
            assert (page.url, await page.inner_text("h1")) == (target, "e-1")
            assert await page.evaluate("document.cookie") == ""
            await page.click("text=Log out")
            await page.wait_for_selector("[name=key]")
        assert seen.complaints == []
