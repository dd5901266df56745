"""`penstock webhook`, as a person types it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from cli_calls import Cli, cli_in
from penstock.cli.command import Invocation
from penstock.cli.webhook_listen import Listener
from penstock.log.sqlite import SqliteLog
from penstock.sinks.webhook.signing import Signer
from sink_feed import TASK, Feeder, made_topics
from webhook_receiver import SECRET, Receiver, of_event

MODULE = f"""
from pydantic import BaseModel
from penstock import Task
class Text(BaseModel):
    text: str
class Label(BaseModel):
    label: bool
labeler = Task({TASK.name!r}, reads={TASK.reads!r}, writes={TASK.writes!r}, dead_letters={TASK.dead_letters!r},
               input=Text, output=Label, instructions="Label.")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def cli(tmp_path: Path, receiver: Receiver) -> Iterator[Cli]:
    """A directory with one endpoint, and two results in the log."""
    with cli_in(tmp_path) as made:
        made.write("labels.py", MODULE)
        made.write("shop-secret", SECRET + "\n")
        made.write(
            "penstock.toml",
            '[deliver]\ntasks = ["labels:labeler"]\n[ops]\nport = "off"\n[sinks.webhooks.shop]\n'
            f'url = "http://127.0.0.1:{receiver.port}/hooks/s3cr3t-path"\nsecrets_file = "shop-secret"\n'
            'allow_http = true\nallow_networks = ["127.0.0.0/8"]\n',
        )
        asyncio.run(_fill(tmp_path))
        yield made


async def _fill(directory: Path) -> None:
    log = SqliteLog(directory / "penstock.db")
    await made_topics(log)
    feed = Feeder()
    await log.append([feed.result("a"), feed.result("b")])
    await log.close()


def test_results_are_delivered_looked_up_and_sent_again(cli: Cli, receiver: Receiver) -> None:
    """Deliver, list, log, resend: what a person does when a shop says that something is missing."""
    receiver.script = of_event("b", 500)
    cli.done("deliver", "webhooks", "--until-idle", "--quiet")
    (row,) = cli.lines("webhook", "list", "--json")
    assert (row["name"], row["waiting"], row["why"]) == ("shop", 1, "")
    tried = cli.lines("webhook", "log", "shop", "--json")
    assert {one["status"] for one in tried} == {204, 500}
    for output in (cli.done("webhook", "list"), cli.done("webhook", "log", "shop")):
        assert "s3cr3t-path" not in output
    receiver.script = None
    assert cli("webhook", "resend", "shop").stderr.startswith("1 of webhook.shop due now")
    delivered = receiver.ids()[0]
    assert "1 of webhook.shop due now" in cli("webhook", "resend", "shop", delivered).stderr
    (row,) = cli.lines("webhook", "list", "--json")
    assert row["waiting"] == 2
    assert "knows no message" in cli.refused("webhook", "resend", "shop", "nonsense")
    cli.done("redeliver", "webhooks", "--from", "1d")


def test_a_disabled_endpoint_is_shown_and_enabled(cli: Cli, receiver: Receiver) -> None:
    """410 ends `deliver` with what to do; `enable` does it."""
    receiver.script = lambda _: web.Response(status=410)
    assert "penstock webhook enable shop" in cli.refused("deliver", "webhook.shop", "--until-idle", "--quiet")
    assert "disabled since" in cli.done("webhook", "list")
    receiver.script = None
    assert "is enabled" in cli("webhook", "enable", "shop").stderr
    cli.done("deliver", "webhook.shop", "--until-idle", "--quiet")
    assert sorted(receiver.events()) == ["a", "b"]


def test_a_test_message_tells_whether_the_endpoint_works(cli: Cli, receiver: Receiver) -> None:
    """Exit code 1 where it does not."""
    assert "took it (204" in cli.done("webhook", "test", "shop")
    assert [one.type for one in receiver.tried] == ["penstock.ping.v1"]
    receiver.script = lambda _: web.Response(status=404)
    assert cli("webhook", "test", "shop").exit_code == 1


def test_a_secret_is_new_each_time_and_fits(cli: Cli) -> None:
    """As the standard writes them."""
    first, second = cli.done("webhook", "secret").strip(), cli.done("webhook", "secret").strip()
    assert first != second
    Signer([first, second], "secrets")


@pytest.mark.parametrize("arguments", [["log", "shpo"], ["enable", "shpo"], ["resend", "shpo"], ["test", "shpo"]])
def test_an_unknown_endpoint_is_told(cli: Cli, arguments: list[str]) -> None:
    """With those that there are."""
    assert "there are shop" in cli.refused("webhook", *arguments)


async def test_the_listener_takes_what_is_signed_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints each message once verified, and ends after as many as wanted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listener = Listener([SECRET], 204, 1)
    running = asyncio.create_task(listener.run(port, Invocation(is_quiet=True)))
    body = json.dumps({"type": "penstock.ping.v1", "timestamp": "x", "data": {}})
    headers = Signer([SECRET], "secrets").headers("m1", body, datetime.now(UTC))
    async with asyncio.timeout(10):
        while not _is_open(port):  # noqa: ASYNC110 - the port is what tells
            await asyncio.sleep(0.01)
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/anything"
        async with session.post(url, data=body, headers=headers | {"webhook-id": "m2"}) as forged:
            assert forged.status == 401
        async with session.post(url, data=body) as unsigned:
            assert unsigned.status == 401
        async with session.post(url, data=body, headers=headers) as good:
            assert good.status == 204
    await asyncio.wait_for(running, 10)
    assert json.loads(capsys.readouterr().out)["webhook-id"] == "m1"


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
