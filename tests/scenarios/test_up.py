"""`penstock up`: everything on one machine, the whole way of an event, and what is left when a process of it is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from webhook_receiver import SECRET, Receiver

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 90.0
TASK = "feedback:sorter"
SETTINGS = f"""
[deliver]
sinks = ["database", "webhooks"]
simulated = "deliver"
[gateway]
auth = "none"
port = 0
[ops]
port = "off"
[sqlite]
session_timeout_seconds = 3
heartbeat_seconds = 0.3
[sinks.webhooks.shop]
url = "http://127.0.0.1:PORT/hooks"
secrets = "{SECRET}"
allow_http = true
allow_networks = ["127.0.0.0/8"]
"""


class Up:
    """`penstock up` in a project of the test's own; what it says is kept."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "penstock.cli", "up", TASK, *arguments],
            cwd=directory, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._seen: list[psutil.Process] = []

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(iter(self._process.stderr.readline, ""))

    def said(self, pattern: str, times: int = 1) -> list[re.Match[str]]:
        """The lines that match, as soon as there are so many."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [match for line in [*self.lines] if (match := re.search(pattern, line))]
            return len(found) >= times

        wait_until(look, lambda: f"{pattern} in:\n{''.join(self.lines)}")
        return found

    def url(self) -> str:
        return self.said(r"POST (http://\S+)/v1/events")[-1][1]

    def pid(self, role: str) -> int:
        return int(self.said(rf"\| {role}: started.* process (\d+)")[-1][1])

    def everybody(self) -> list[psutil.Process]:
        self._seen = psutil.Process(self._process.pid).children(recursive=True)
        return self._seen

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(PATIENCE_SECONDS)
        self._reader.join(10)
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            self.everybody()
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
        for one in self._seen:
            if one.is_running():
                one.kill()
        assert self._process.stderr is not None
        self._reader.join(10)
        self._process.stderr.close()


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}


def wait_until(look: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, receiver: Receiver) -> Path:
    """What `penstock init` makes, with a database and a webhook."""

    def call(*arguments: str) -> None:
        command = [sys.executable, "-P", "-m", "penstock.cli", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment(), check=True, timeout=PATIENCE_SECONDS)

    call("init", "--quiet", ".")
    (tmp_path / "penstock.toml").write_text(SETTINGS.replace("PORT", str(receiver.port)))
    call("topics", "create", "--task", TASK, "--quiet")
    return tmp_path


@pytest.fixture
def up(project: Path) -> Iterator[Callable[..., Up]]:
    made: list[Up] = []

    def start(*arguments: str) -> Up:
        made.append(Up(project, "--simulated", *arguments))
        return made[-1]

    yield start
    for one in made:
        one.close()


def ask(url: str, value: dict[str, Any] | None = None) -> dict[str, Any]:
    """A POST of an event, or a GET."""
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


def event(n: int) -> dict[str, Any]:
    return {"id": f"up-{n}", "customer": f"c-{n}", "text": "The app crashes when I open the invoice."}


def rows(project: Path) -> dict[str, Any]:
    """The database's verdicts by event."""
    file = project / "penstock-store.db"
    if not file.exists():
        return {}
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return {
            name: json.loads(output) for name, output in connection.execute("SELECT event_id, output FROM verdicts")
        }
    except sqlite3.OperationalError:  # its tables are just being made
        return {}
    finally:
        connection.close()


def test_the_whole_way(up: Callable[..., Up], project: Path, receiver: Receiver) -> None:
    """An event posted by HTTP is a verdict for who asks, a row of the database and a signed webhook; all three the same."""
    running = up()
    url = running.url()
    assert ask(f"{url}/v1/events", event(1))["state"] == "accepted"
    told: dict[str, Any] = {}

    def is_answered() -> bool:
        told.update(ask(f"{url}/v1/events/up-1?wait=10s"))
        return bool(told["state"] == "answered")

    wait_until(is_answered, lambda: f"up-1 is {told} after:\n{''.join(running.lines)}")
    wait_until(lambda: "up-1" in rows(project), lambda: "".join(running.lines))
    wait_until(lambda: "up-1" in receiver.events(), lambda: "".join(running.lines))
    (message,) = receiver.taken
    assert message.type == "penstock.result.v1"
    text = json.dumps(told)
    assert message.data["simulated"] is True
    assert rows(project)["up-1"] == message.data["output"]
    assert json.dumps(message.data["output"]) in text
    everybody = running.everybody()
    assert running.end(signal.SIGTERM) == 0, "".join(running.lines)
    ends = [match[1] for match in running.said(r"\| (\w+): stopped$", 4)]
    assert ends[:2] == ["gateway", "worker"]
    assert set(ends[2:]) == {"database", "webhooks"}
    assert not psutil.wait_procs(everybody, timeout=5)[1]


def test_a_killed_role_comes_back_and_no_event_is_lost(
    up: Callable[..., Up], project: Path, receiver: Receiver
) -> None:
    """kill -9 of each role in turn, with events before and after: every one is a row and a webhook."""
    running = up("--workers", "2")
    url = running.url()
    for n, role in enumerate(("worker-1", "worker-2", "database", "webhooks", "gateway")):
        ask(f"{url}/v1/events", event(n))
        os.kill(running.pid(role), signal.SIGKILL)
        running.said(rf"\| {role}: started again, process (\d+)")
    running.said(r"POST (http://\S+)/v1/events", 2)
    ask(f"{running.url()}/v1/events", event(5))
    wanted = {f"up-{n}" for n in range(6)}
    wait_until(lambda: wanted <= set(rows(project)), lambda: "".join(running.lines))
    wait_until(lambda: wanted <= set(receiver.events()), lambda: "".join(running.lines))
    assert running.end(signal.SIGINT) == 0, "".join(running.lines)


def test_nobody_survives_a_killed_parent(up: Callable[..., Up]) -> None:
    """kill -9 of `penstock up` itself: every process of it ends, the offline stand-in too."""
    running = up()
    running.url()
    everybody = running.everybody()
    assert len(everybody) >= 5
    running.end(signal.SIGKILL)
    assert not psutil.wait_procs(everybody, timeout=PATIENCE_SECONDS)[1]


def test_a_mistake_ends_all_with_its_text(up: Callable[..., Up]) -> None:
    """A gateway without keys is the user's to mend: it is said once, exit code 2, nobody is left."""
    running = up("-X", "gateway.auth=keys")
    assert running.wait() == 2
    text = "".join(running.lines)
    assert len(re.findall(r"\| gateway: started", text)) == 1
    assert "error: gateway:" in text
    assert "penstock gateway key" in text.split("error: gateway:")[-1]
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--sink", "databse"), "no sink 'databse'"),
        (("-X", "ops.port=65535"), "ops.port=65535"),
        (("--workers", "0"), "--workers"),
    ],
)
def test_what_can_be_known_is_refused_before_any_process(
    up: Callable[..., Up], arguments: tuple[str, ...], names: str
) -> None:
    """A wrong sink, port or number is named by the command itself, and nothing is started."""
    running = up(*arguments)
    assert running.wait() == 2
    text = "".join(running.lines)
    assert names in text
    assert ": started" not in text
