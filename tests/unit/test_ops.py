"""The ops port: metrics and health of a worker, true while it works, and never in its way."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from fakes import GatedTier, ScriptedTier, make_task, note
from penstock import Partition
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.errors import LogUnavailable, SettingsError, TierStopped
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from penstock.ops.health import Check, Memory, told
from penstock.ops.ops import Ops
from penstock.ops.server import OpsOptions, OpsServer, Page
from penstock.settings import load_settings
from penstock.telemetry.pulse import Pulse
from penstock.worker import Worker

QUICK = PipelineOptions(
    commit_interval_seconds=0.01,
    drain_seconds=5.0,
    batch=BatchLimits(max_wait_seconds=0.01),
    retry=RetryOptions(first_seconds=0.01, most_seconds=0.05),
)
SECRET = "sk-ant-nobody-may-see-this"


class Broken(SqliteLog):
    """A log whose weather a test makes: every commit, or every poll, fails as it is told to."""

    commit_error: Exception | None = None
    poll_error: Exception | None = None

    async def join(self, group, topics, listener, **settings):
        consumer = await super().join(group, topics, listener, **settings)
        consumer.commit = self._failing(consumer.commit, "commit_error")
        consumer.poll = self._failing(consumer.poll, "poll_error")
        return consumer

    def _failing(self, call, name):
        async def act(*arguments):
            if (error := getattr(self, name)) is not None:
                await asyncio.sleep(0.01)
                raise error
            return await call(*arguments)

        return act


async def made(log, partitions=3):
    """The log with the topics of `make_task`."""
    names = ("notes", "labeler-results", "labeler-dlq", "labeler.retry")
    await log.create_topics(
        [TopicSpec(name, partitions) for name in names] + [TopicSpec(STATE_TOPIC, 1, is_compacted=True)]
    )
    return log


@pytest.fixture
async def log(tmp_path):
    log = await made(Broken(tmp_path / "events.db"))
    yield log
    await log.close()


async def get(ops, path):
    """Status and text of a page."""
    async with aiohttp.ClientSession() as session, session.get(ops.server.url + path) as reply:
        return reply.status, await reply.text()


async def until(condition, seconds=20.0):
    """Wait for an awaitable condition; the time is a bound against hanging."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def working(log, tier, *, task=None):
    """A pipeline at work with its ops port; stopped at the end, whatever it ended in."""
    task = task or make_task(tier)
    pipeline = Pipeline(task, [tier], log, QUICK)
    stop = asyncio.Event()
    async with Ops(OpsOptions(port=0, lag_interval_seconds=0.05), [pipeline], log) as ops:
        run = asyncio.create_task(pipeline.run(stop))
        try:
            yield ops, pipeline, stop
        finally:
            stop.set()
            await asyncio.gather(run, return_exceptions=True)


def is_ready(ops):
    async def look():
        return (await get(ops, "/readyz"))[0] == 200

    return look


# --- the port


async def test_a_port_in_use_is_told_with_its_setting():
    """Nobody has to search which of the ports it was."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"ops\.port={port}: another process listens"):
            await OpsServer(OpsOptions(port=port), {}).start()


async def test_workers_of_one_machine_do_not_get_in_each_others_way():
    """`auto` takes a free port where the usual one is taken; 0 always does; `off` listens nowhere."""
    servers = [OpsServer(OpsOptions(port=port), {}) for port in ("auto", "auto", 0)]
    for server in servers:
        await server.start()
    assert len({server.url for server in servers}) == 3
    for server in servers:
        await server.close()
    off = OpsServer(OpsOptions(port="off"), {})
    await off.start()
    assert off.url == ""


RACER = """
import asyncio, sys, time, uvloop
from penstock.ops.server import OpsOptions, OpsServer

async def main():
    for number in range(100):
        server = OpsServer(OpsOptions(), {})
        moment = float(sys.argv[1]) + number / 50
        await asyncio.sleep(moment - time.time() - 0.002)
        while time.time() < moment:
            pass
        await server.start()
        assert server.url
        await asyncio.sleep(0.005)
        await server.close()

uvloop.run(main())
"""


def test_workers_that_start_together_each_get_a_port():
    """The race for the usual port has one winner, and the others listen too: none dies of it."""
    start_at = time.time() + 2.0
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(start_at)]) for _ in range(3)]
    assert [racer.wait(60) for racer in racers] == [0] * 3


async def test_a_host_that_is_not_ours_is_told_with_its_setting():
    """An address of another machine is a mistake in the settings."""
    with pytest.raises(SettingsError, match=r"ops\.host='192\.0\.2\.1'"):
        await OpsServer(OpsOptions(host="192.0.2.1", port=0), {}).start()


@pytest.mark.parametrize(("given", "port"), [("auto", "auto"), ("off", "off"), ("0", 0), ("9000", 9000)])
def test_the_port_is_a_setting(given, port):
    """By command line, as a number or a word."""
    assert load_settings(assignments=[f"ops.port={given}"]).settings.ops.port == port


@pytest.mark.parametrize("given", ["70000", "-1", "maybe"])
def test_what_is_no_port_is_refused(given):
    """The text names the setting."""
    with pytest.raises(SettingsError, match=r"ops\.port"):
        load_settings(assignments=[f"ops.port={given}"])


async def test_a_page_that_breaks_is_an_error_of_its_own():
    """One broken page is a 500; the others are served on, and what is not a page is a 404."""

    def broken(ask):
        raise RuntimeError(SECRET)

    server = OpsServer(OpsOptions(port=0), {"/broken": broken, "/fine": lambda _: Page(b"fine")})
    await server.start()
    async with aiohttp.ClientSession() as session:
        found = {}
        for path in ("/broken", "/fine", "/other"):
            async with session.get(server.url + path) as reply:
                found[path] = reply.status, await reply.text()
        async with session.post(server.url + "/fine") as reply:
            assert reply.status == 405
    await server.close()
    assert {path: status for path, (status, _) in found.items()} == {"/broken": 500, "/fine": 200, "/other": 404}
    assert SECRET not in found["/broken"][1]


# --- ready, alive, started


async def test_a_worker_is_ready_from_its_partitions_to_its_drain(log):
    """Not ready before the group gave it partitions, ready while it works, not ready while it drains; alive all the time."""
    release = asyncio.Event()

    class Slow(ScriptedTier):
        async def answer(self, task, items):
            await release.wait()
            return await super().answer(task, items)

    tier = Slow()
    pipeline = Pipeline(make_task(tier), [tier], log, QUICK)
    stop = asyncio.Event()
    async with Ops(OpsOptions(port=0, lag_interval_seconds=0.05), [pipeline], log) as ops:
        assert (await get(ops, "/startupz"))[0] == 503
        status, text = await get(ops, "/readyz")
        assert (status, text.splitlines()[0]) == (503, "not ok")
        assert "has not joined its group yet" in text
        run = asyncio.create_task(pipeline.run(stop))
        await until(is_ready(ops))
        assert (await get(ops, "/startupz"))[0] == 200
        assert "owns 6" in (await get(ops, "/readyz?verbose"))[1]
        await log.append([note(1)])

        async def asked():
            return bool(pipeline.counts.calls)

        await until(asked)
        stop.set()

        async def drains():
            return "drains, 1 items in flight" in (await get(ops, "/readyz"))[1]

        await until(drains)
        assert (await get(ops, "/livez"))[0] == 200
        release.set()
        await run


async def test_more_workers_than_partitions_is_ready_and_says_so(tmp_path):
    """Standing by is legitimate: a deployment with one pod too many must not hang."""
    log = await made(SqliteLog(tmp_path / "one.db"), partitions=1)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(log, ScriptedTier())) for _ in range(3)]

        async def shared():  # events and retries have one partition each: two have work
            return sorted(pipeline.reading().partitions for _, pipeline, _ in workers) == [0, 1, 1]

        await until(shared)
        (spare,) = [ops for ops, pipeline, _ in workers if not pipeline.reading().partitions]
        await until(is_ready(spare))
        assert "there are more workers than partitions" in (await get(spare, "/readyz?verbose"))[1]
    await log.close()


async def test_a_log_that_takes_nothing_is_not_ready_and_alive(log):
    """An outage must not restart the fleet: /livez stays, /readyz says since when and comes back by itself."""
    tier = ScriptedTier()
    async with working(log, tier) as (ops, _, _):
        await until(is_ready(ops))
        log.commit_error = LogUnavailable("the coordinator is away")
        await log.append([note(1)])

        async def says_so():
            status, text = await get(ops, "/readyz")
            return status == 503 and "labeler: log: the coordinator is away (since 2" in text

        await until(says_so)
        assert (await get(ops, "/livez"))[0] == 200
        log.commit_error = None
        await until(is_ready(ops))


async def test_polls_that_fail_are_not_ready_and_alive(log):
    """The same for reading."""
    async with working(log, ScriptedTier()) as (ops, pipeline, _):
        await until(is_ready(ops))
        log.poll_error = LogUnavailable("no broker answers")

        async def says_so():
            return "no broker answers" in (await get(ops, "/readyz"))[1]

        await until(says_so)
        assert (await get(ops, "/livez"))[0] == 200
        assert pipeline.counts.log_errors["poll"] > 0
        log.poll_error = None
        await until(is_ready(ops))


async def test_a_loop_that_died_is_not_alive(log):
    """What cannot come back by itself is what a restart is for."""
    async with working(log, ScriptedTier()) as (ops, _, _):
        await until(is_ready(ops))
        assert (await get(ops, "/livez"))[0] == 200
        log.poll_error = RuntimeError(SECRET)

        async def is_dead():
            return (await get(ops, "/livez"))[0] == 503

        await until(is_dead)
        text = (await get(ops, "/livez"))[1]
        assert "labeler: intake died" in text
        assert SECRET not in text


async def test_a_tier_that_stopped_is_not_ready(log):
    """Nothing can succeed until a person acts; the reason stands in the worker's log, not on an open port."""

    class Stopped(ScriptedTier):
        async def answer(self, task, items):
            raise TierStopped(SECRET)

    async with working(log, Stopped()) as (ops, _, _):
        await until(is_ready(ops))
        await log.append([note(1)])

        async def says_so():
            return "cannot go on (TierStopped)" in (await get(ops, "/readyz"))[1]

        await until(says_so)
        assert SECRET not in (await get(ops, "/readyz?verbose"))[1]


async def test_nothing_of_an_event_is_on_any_page(log):
    """Neither text, nor key, nor id, whatever the event ends in."""

    def script(tier, items):
        return [tier.answer_of(item) if item.offset else RuntimeError() for item in items]

    async with working(log, ScriptedTier(script=script)) as (ops, pipeline, _):
        await until(is_ready(ops))
        await log.append([note(n, key=f"{SECRET}-{n}", text=SECRET, id=f"{SECRET}-{n}") for n in range(9)])

        async def asked():
            return bool(pipeline.counts.calls)

        await until(asked)
        for path in ("/metrics", "/livez?verbose", "/readyz?verbose", "/startupz?verbose"):
            assert SECRET not in (await get(ops, path))[1]


async def test_metrics_are_served_in_the_format_that_is_asked_for(log):
    """Prometheus asks for OpenMetrics, people for text; both are complete."""
    async with working(log, ScriptedTier()) as (ops, _, _), aiohttp.ClientSession() as session:
        for accept, end in (("", ""), ("application/openmetrics-text; version=1.0.0", "# EOF\n")):
            async with session.get(ops.server.url + "/metrics", headers={"accept": accept}) as reply:
                text = await reply.text()
                assert reply.status == 200
                assert 'penstock_results_total{task="labeler"} 0.0' in text
                assert text.endswith(end)


async def test_a_worker_opens_the_port_for_its_life(log):
    """It listens before it joins and until it has left; then the port is free again."""
    pipeline = Pipeline(make_task(ScriptedTier()), [ScriptedTier()], log, QUICK)
    ops = Ops(OpsOptions(port=0), [pipeline], log)
    worker = Worker([pipeline], log, ops=ops)
    run = asyncio.create_task(worker.run())

    async def listens():
        return bool(ops.server.url)

    await until(listens)
    await until(is_ready(ops))
    worker.stop()
    await run
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(ops, "/livez")


# --- lag


async def test_lag_counts_what_is_not_resolved_and_its_age(log):
    """The oldest event that waits decides the age, however many after it are done; nothing waiting is 0."""
    tier = GatedTier("n0")
    async with working(log, tier, task=make_task(tier, max_batch_items=1)) as (ops, pipeline, _):
        await until(is_ready(ops))
        old = note(0)._replace(timestamp_ms=1_000_000, partition=0)
        await log.append([old, *(note(n)._replace(partition=0) for n in range(1, 30))])

        async def others_done():
            return pipeline.counts.results == 29

        await until(others_done)
        await ops.look()
        page = (await get(ops, "/metrics"))[1]
        assert 'penstock_lag_records{task="labeler"} 1.0' in page
        seconds = next(line for line in page.splitlines() if line.startswith('penstock_lag_seconds{task="labeler"}'))
        assert float(seconds.split()[-1]) > 1e9
        tier.gate.set()

        async def all_done():
            await ops.look()
            return 'penstock_lag_records{task="labeler"} 0.0' in (await get(ops, "/metrics"))[1]

        await until(all_done)
        assert 'penstock_lag_seconds{task="labeler"} 0.0' in (await get(ops, "/metrics"))[1]
    assert Partition("notes", 0) not in pipeline.positions()


# --- the small parts


def test_a_loop_hangs_only_beyond_what_it_promised():
    """At rest it may take for ever; at work it is overdue after its own time."""
    pulse = Pulse("calls")
    assert pulse.overdue_seconds() == 0
    pulse.expect(1000)
    assert pulse.overdue_seconds() == 0
    pulse.expect(-5)
    assert pulse.overdue_seconds() > 4
    pulse.rest()
    assert pulse.overdue_seconds() == 0


def test_since_when_changes_with_the_answer_only():
    """Asking again does not make an old trouble new."""
    memory = Memory()
    (first,) = memory.note([Check("log", is_ok=False, why="away")])
    (second,) = memory.note([Check("log", is_ok=False, why="still away")])
    (third,) = memory.note([Check("log", is_ok=True, why="reachable")])
    assert first.since == second.since <= third.since
    assert memory._since["log"] == (True, third.since)


def test_a_probe_reads_one_word_and_a_person_every_reason():
    """What is wrong is always told; what is well only when asked for. One check is one line."""
    memory = Memory()
    seen = memory.note([Check("a", is_ok=True, why="fine"), Check("b", is_ok=False, why="two\nlines")])
    is_ok, short = told(seen, is_verbose=False)
    _, long = told(seen, is_verbose=True)
    assert not is_ok
    assert short.startswith("not ok\n[FAIL] b: two lines (since 2")
    assert "[ok]   a: fine" in long
    assert "fine" not in short
    assert told(seen[:1], is_verbose=False) == (True, "ok\n")
