"""Who may look at the console, and what it says where database or log are away: the gateway goes on, nobody sees a traceback."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from sqlalchemy import text

from console_calls import RICH, Reader, looking, put, verdict
from gateway_calls import made_key, order_task
from penstock.errors import SettingsError
from penstock.log.topics import topic_specs
from penstock.settings import load_settings
from penstock.store.options import DatabaseOptions
from penstock.store.reading import StoreMissing, StoreReader, StoreSlow
from penstock.store.schema import VERSION_TABLE, connect, upgrade
from penstock.web.pages import session
from penstock.web.pages.keyboard import KEYS
from penstock.web.pages.options import ConsoleOptions
from penstock.web.pages.render import STATIC
from penstock.wiring import open_log
from penstock.wiring_web import build_gateway

PAGES = ("/console/", "/console/events", "/console/dead-letters", "/console/event?event_id=x", "/console/letter?id=x")
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture
def database(tmp_path: Path) -> DatabaseOptions:
    return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")


def allowed(directory: Path, *scopes: str, **given) -> str:
    return made_key(directory / "keys.toml", "anna", scopes or ("console:read",), **given)


async def log_in(reader: Reader, key: str, **headers: str):
    return await reader.post("/console/login", {"key": key, "next": "/console/events?task=rich"}, **headers)


# --- who may look ---------------------------------------------------------------------------------------------------


async def test_a_key_opens_a_session_that_no_script_can_read(tmp_path, database):
    """Without one every page leads to the login; with one to where it was wanted; the cookie is strict, out of scripts' reach."""
    key = allowed(tmp_path)
    await put(database, verdict("e-1"))
    async with looking(tmp_path, database, auth="keys") as reader:
        for path in PAGES:
            sent = await reader.get(path)
            assert (sent.status, "/console/login?next=" in sent.headers["location"]) == (303, True)
        assert (await reader.get("/console/events/new")).status == 401
        page = await reader.get("/console/login?next=/console/events")
        (field,) = page.tree.all("input", name="key")
        opened = await log_in(reader, key)
        cookie = opened.headers["set-cookie"]
        assert (field.attrs["type"], opened.status, opened.headers["location"]) == (
            "password",
            303,
            "/console/events?task=rich",
        )
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/console"))
        assert ("Secure" in cookie, key in cookie) == (False, False)
        assert [(await reader.get(path)).status for path in PAGES] == [200, 200, 200, 404, 404]
        out = await reader.post("/console/logout", {})
        assert (out.status, (await reader.get("/console/")).status) == (303, 303)


async def test_a_key_without_the_scope_opens_nothing(tmp_path, database):
    """Producers' keys, unknown keys, no key: a word on the login page, and never the key itself."""
    producer, over = allowed(tmp_path, "events:write", "events:read"), allowed(tmp_path, days=1e-9)
    async with looking(tmp_path, database, auth="keys") as reader:
        refused = [await log_in(reader, key) for key in (producer, over, "psk_x", "", "<b>")]
    assert [page.status for page in refused] == [403, 401, 401, 401, 401]
    assert all("set-cookie" not in page.headers and producer not in page.html for page in refused)
    assert "may not look at the console" in refused[0].text


async def test_the_key_of_the_console_writes_no_events(tmp_path, database):
    """The scope is for looking: the gateway refuses it, and a key that was told nothing cannot look."""
    key = allowed(tmp_path)
    async with looking(tmp_path, database, auth="keys") as reader:
        headers = {"authorization": f"Bearer {key}"}
        async with reader.session.post(f"{reader.url}/v1/events", json={"text": "x"}, headers=headers) as reply:
            assert reply.status == 403
        async with reader.session.get(f"{reader.url}/console/", headers=headers, allow_redirects=False) as reply:
            assert reply.status == 303


async def test_a_session_ends_with_its_key(tmp_path, database):
    """Taken back: the next page asks for another, within a second or two."""
    await put(database)
    key = allowed(tmp_path)
    allowed(tmp_path, "events:read")
    async with looking(tmp_path, database, auth="keys") as reader:
        await log_in(reader, key)
        assert (await reader.get("/console/")).status == 200
        blocks = (tmp_path / "keys.toml").read_text().split("[[key]]")
        (tmp_path / "keys.toml").write_text("[[key]]".join([blocks[0], blocks[2]]))
        for _ in range(200):
            again = await reader.get("/console/")
            if again.status != 200:
                break
            await asyncio.sleep(0.05)
    assert again.status == 303


async def test_a_session_ends_with_its_time(tmp_path, database):
    """`console.session_hours` after the login."""
    await put(database)
    key = allowed(tmp_path)
    async with looking(tmp_path, database, auth="keys", session_hours=1e-6) as reader:
        await log_in(reader, key)
        await asyncio.sleep(0.01)
        assert (await reader.get("/console/")).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "", "origin": "https://evil.example"},
        {"sec_fetch_site": "", "origin": "null"},
        {"sec_fetch_site": ""},
    ],
)
async def test_another_sites_form_does_nothing(tmp_path, database, headers):
    """Neither login nor logout: by what the browser says of the page that sent it, else by its origin; else not at all."""
    key = allowed(tmp_path)
    await put(database)
    async with looking(tmp_path, database, auth="keys") as reader:
        assert (await log_in(reader, key, **headers)).status == 403
        await log_in(reader, key)
        assert (await reader.post("/console/logout", {}, **headers)).status == 403
        assert (await reader.get("/console/")).status == 200


async def test_an_old_browser_logs_in_by_its_origin(tmp_path, database):
    """Our own origin is enough; behind a proxy that speaks TLS the cookie is for TLS only."""
    key = allowed(tmp_path)
    async with looking(tmp_path, database, auth="keys") as reader:
        opened = await log_in(reader, key, sec_fetch_site="", origin=reader.url)
        proxied = await log_in(
            reader, key, sec_fetch_site="", origin="https://penstock.example.com", host="penstock.example.com"
        )
    assert (opened.status, "Secure" in opened.headers["set-cookie"]) == (303, False)
    assert (proxied.status, "Secure" in proxied.headers["set-cookie"]) == (303, True)


async def test_guessing_is_slowed_down(tmp_path, database):
    """After some wrong keys an address is told to wait, and how long; a right one gets in all the same: behind a proxy all
    have one address."""
    key = allowed(tmp_path)
    async with looking(tmp_path, database, auth="keys") as reader:
        wrong = [(await log_in(reader, "psk_wrong")).status for _ in range(session.TRIES)]
        late = await log_in(reader, "psk_wrong")
        right = await log_in(reader, key)
    assert (set(wrong), late.status, int(late.headers["retry-after"]) >= 1) == ({401}, 429, True)
    assert right.status == 303


async def test_a_form_that_cannot_be_read_is_said_to(tmp_path, database):
    """More fields than a login has, longer than a key, or ended before it was whole: refused with a word, never a fault."""
    allowed(tmp_path)
    async with looking(tmp_path, database, auth="keys") as reader:
        many = await reader.post("/console/login", {f"f{n}": "x" for n in range(20)})
        long = await reader.post("/console/login", {"key": "x" * 5_000})
        with caplog_of_server() as faults:
            address = urlsplit(reader.url)
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            head = f"POST /console/login HTTP/1.1\r\nhost: {address.netloc}\r\nsec-fetch-site: same-origin\r\ncontent-length: 90\r\n\r\n"
            writer.write(head.encode() + b"key=")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            for _ in range(3):
                assert (await reader.get("/console/login")).status == 200
    assert (many.status, "more than 8 fields" in many.text, long.status, faults) == (400, True, 413, [])


@contextmanager
def caplog_of_server() -> Iterator[list[str]]:
    """What the server logs as its own fault."""
    found: list[str] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Notes(logging.ERROR)
    logging.getLogger("uvicorn.error").addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/console//evil.example", "javascript:alert(1)", "/v1/events", "/console/\r\nx: y", "/consoled", ""],
)  # fmt: skip
def test_the_login_leads_to_our_own_pages_only(wanted):
    """Whatever was asked for."""
    assert session.target(wanted) == "/console/"


def test_the_login_leads_to_where_one_was() -> None:
    """Filters included."""
    for wanted in ("/console/", "/console/events?q=a%2F%2Fb&f.x=1", "/console/event?task=t&event_id=a//b"):
        assert session.target(wanted) == wanted


async def test_a_link_from_another_site_keeps_who_is_logged_in(tmp_path, database):
    """The browser holds a strict cookie back then: our page loads the same address again, and never leads elsewhere."""
    key = allowed(tmp_path)
    await put(database, verdict("e-1"))
    async with looking(tmp_path, database, auth="keys") as reader:
        foreign = await reader.get("/console/event?task=rich&event_id=e-1", sec_fetch_site="cross-site")
        odd = await reader.get("/console/event?event_id=%22%3E%3Cb%3E", sec_fetch_site="cross-site")
        (refresh,) = foreign.tree.all("meta", http_equiv="refresh")
        assert refresh.attrs["content"] == "0; url=/console/event?task=rich&event_id=e-1"
        assert not odd.tree.all("b")
        await log_in(reader, key)
        assert (await reader.get("/console/event?task=rich&event_id=e-1", sec_fetch_site="cross-site")).status == 200


async def test_without_keys_only_this_machine_may_look(tmp_path, database):
    """Another host's name in the request: refused, or a foreign page whose name points here could read it."""
    await put(database)
    async with looking(tmp_path, database) as reader:
        assert (await reader.get("/console/", host="evil.example")).status == 421
        assert (await reader.get("/console/", host="localhost:1")).status == 200
        assert (await reader.get("/console/login")).status == 303


async def test_every_page_has_safe_headers_and_nothing_from_elsewhere(tmp_path, database):
    """A policy without inline script or style, no host but ours, nothing kept by caches; one policy, not two that contradict."""
    await put(database, verdict("x"))
    async with looking(tmp_path, database) as reader:
        pages = [
            await reader.get(path)
            for path in (*PAGES, "/console/nowhere", "/console/static/none", "/console/events?before=x")
        ]
        static = await reader.get("/console/static/console.css")
        outside = await reader.get("/console/static/..%2fkeyboard.py")
        gateway = await reader.get("/openapi.json")
    for page in pages:
        (policy,) = page.headers.getall("content-security-policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (page.headers["cache-control"], page.headers["x-content-type-options"]) == ("no-store", "nosniff")
        for node in page.tree.all():
            assert not [name for name in node.attrs if name.startswith("on") or name == "style"]
            for name in ("href", "src", "action"):
                assert node.attrs.get(name, "/console/").startswith(("/console/", "#")), node
        assert all(node.attrs.get("src") and not node.text for node in page.tree.all("script"))
        assert not page.tree.all("style")
    assert (static.status, outside.status) == (200, 404)
    assert gateway.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


# --- what is away ----------------------------------------------------------------------------------------------------


async def takes_events(reader: Reader, name: str) -> bool:
    async with reader.session.post(f"{reader.url}/v1/events", json={"id": name, "text": "x"}) as reply:
        return reply.status == 202


async def test_a_database_that_is_not_there_is_explained(tmp_path, database):
    """No file, an older revision, a newer one, something else: each page says what to do; the gateway takes events."""

    def revised(to: str) -> None:
        engine = connect(database)
        if to == "0002":
            upgrade(engine)
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{to}'"))
        engine.dispose()

    async with looking(tmp_path, database, tasks=[order_task()]) as reader:
        assert not (tmp_path / "store.db").exists()
        for path in PAGES:
            page = await reader.get(path)
            told = "penstock deliver database"
            assert (page.status in {200, 503}, told in page.text, "Traceback" in page.html) == (True, True, False), path
        assert not (tmp_path / "store.db").exists()
        await asyncio.to_thread(revised, "0002")
        assert "penstock db upgrade" in (await reader.get("/console/events")).text
        await asyncio.to_thread(revised, "0009")
        assert "newer Penstock" in (await reader.get("/console/events")).text
        (tmp_path / "store.db").write_bytes(b"no database at all, but a file with some text in it" * 100)
        odd = await reader.get("/console/events")
        assert (odd.status, await takes_events(reader, "o-1")) == (503, True)


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.mark.slow
async def test_a_server_that_is_away_is_explained(tmp_path, postgres):
    """Nobody listens, no such database, tables missing: what is wrong and what to do; the next page asks again."""
    address = postgres.make()
    nobody = DatabaseOptions(url="postgresql://x@127.0.0.1:1/y")
    async with looking(tmp_path, nobody, tasks=[order_task()], query_seconds=3.0) as reader:
        page = await reader.get("/console/events")
        assert (page.status, "does not answer" in page.text, await takes_events(reader, "o-1")) == (503, True, True)
        assert (await reader.get("/console/")).status == 200
    missing = DatabaseOptions(url=re.sub(r"/penstock_\w+", "/penstock_nowhere", address))
    async with looking(made(tmp_path / "b"), missing) as reader:
        assert "refuses us" in (await reader.get("/console/events")).text
    empty = DatabaseOptions(url=address)
    async with looking(made(tmp_path / "c"), empty) as reader:
        assert "penstock db upgrade" in (await reader.get("/console/events")).text
        await put(empty, verdict("e-1"))
        assert (await reader.get("/console/events")).ids == ["e-1"]


@pytest.fixture(params=DATABASES)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    if request.param == "sqlite":
        return DatabaseOptions(url=f"sqlite:{tmp_path / 'store.db'}")
    return DatabaseOptions(url=request.getfixturevalue("postgres").make())


async def test_a_question_has_an_end(either):
    """One that would run for ever is stopped by the database itself, on either; the next one is answered."""
    await put(either, verdict("e-1"))
    reader = StoreReader(either, seconds=0.3, connections=1)
    try:
        with pytest.raises(StoreSlow, match=r"within 0\.3 s"):
            await asyncio.to_thread(reader.ask, lambda connection: connection.execute(text(SLOW)).scalar())
        found = await asyncio.to_thread(
            reader.ask, lambda connection: connection.execute(text("SELECT count(*) FROM verdicts")).scalar()
        )
        assert found == 1
    finally:
        reader.close()


async def test_the_console_changes_nothing(either):
    """Its connections cannot write, whatever a page asked of them."""
    await put(either, verdict("e-1"))
    reader = StoreReader(either, seconds=5.0, connections=1)
    try:
        with pytest.raises(Exception, match=r"read-?only|readonly"):
            reader.ask(lambda connection: connection.execute(text("DELETE FROM verdicts")))
        assert reader.ask(lambda connection: connection.execute(text("SELECT count(*) FROM verdicts")).scalar()) == 1
    finally:
        reader.close()


async def test_a_database_that_is_stuck_holds_up_nobody(tmp_path, database):
    """While every thread of the console waits for it, the gateway takes events, and pages end in their time."""
    await put(database, verdict("e-1"))
    async with looking(tmp_path, database, tasks=[order_task(), RICH], query_seconds=0.5) as reader:
        held = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
        held.execute("PRAGMA locking_mode = EXCLUSIVE")
        held.execute("BEGIN EXCLUSIVE")
        held.execute("UPDATE verdicts SET tier = 'x'")
        asked = [asyncio.create_task(reader.get("/console/events?q=zzz")) for _ in range(12)]
        topic = f"{reader.url}/v1/topics/orders/events"
        async with reader.session.post(topic, json={"id": "o-1", "text": "x"}) as reply:
            assert reply.status == 202
        pages = await asyncio.gather(*asked)
        held.execute("ROLLBACK")
        held.close()
        assert {page.status for page in pages} <= {200, 503}
        assert (await reader.get("/console/events")).ids == ["e-1"]


def test_a_missing_file_is_not_made(tmp_path):
    """Looking at a database must not make one."""
    reader = StoreReader(DatabaseOptions(url=f"sqlite:{tmp_path / 'none.db'}"), seconds=1.0, connections=1)
    with pytest.raises(StoreMissing, match="is not there yet"):
        reader.ask(lambda connection: connection)
    assert list(tmp_path.iterdir()) == []


async def test_the_console_can_be_turned_off(tmp_path, monkeypatch):
    """`console.enabled=false`: the gateway only, and no page tells of another."""
    monkeypatch.chdir(tmp_path)
    for enabled, statuses in (("true", {200, 303}), ("false", {404})):
        settings = load_settings(
            assignments=["gateway.auth=none", "gateway.port=0", f"console.enabled={enabled}"]
        ).settings
        log = open_log(settings)
        task = order_task()
        await log.create_topics(topic_specs(task, 1))
        server = build_gateway(settings, [task], log)
        running = asyncio.create_task(server.run())
        await server.started.wait()
        async with aiohttp.ClientSession() as client:
            found = set()
            for path in ("/", "/console", "/console/"):
                async with client.get(server.url + path, allow_redirects=False) as reply:
                    found.add(reply.status)
            async with client.get(server.url + "/livez") as reply:
                assert reply.status == 200
        server.stop()
        await running
        assert found == statuses


@pytest.mark.parametrize(
    "given",
    [{"rows": 0}, {"rows": 501}, {"query_seconds": 0.0}, {"live_seconds": -1.0}, {"session_hours": float("nan")}],
)
def test_a_setting_that_cannot_work_is_named(given):
    """With what to write instead."""
    with pytest.raises(SettingsError, match=rf"console\.{next(iter(given))}="):
        ConsoleOptions(**given)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_every_key_does_what_its_sheet_says() -> None:
    """One table: what it names the browser's code has, and what that code has is named; no key twice."""
    code = (STATIC / "console.js").read_text()
    (body,) = re.findall(r"const acts = \{(.*?)\n\};", code, re.DOTALL)
    acts = set(re.findall(r"^  (\w+)(?::|,$)", body, re.MULTILINE))
    assert {key.act for key in KEYS} == acts
    assert len({key.key for key in KEYS}) == len(KEYS)


def test_what_is_served_comes_from_here() -> None:
    """Templates and static files name no other host, and the script stays short."""
    files = [*STATIC.iterdir(), *(STATIC.parent / "templates").iterdir()]
    assert len(files) > 8
    for file in files:
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text())) - {"http://www.w3.org"}
        assert not hosts, file
    assert len((STATIC / "console.js").read_text().splitlines()) < 150
