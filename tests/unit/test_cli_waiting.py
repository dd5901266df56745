"""`penstock status --worker`: whatever stands there, a person learns what to write instead."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from cli_calls import cli_in
from penstock.cli.waiting import show
from penstock.ops.asking import Waiting, words


@pytest.fixture
def cli(tmp_path):
    with cli_in(tmp_path) as cli:
        cli.done("topics", "create", "notes", "--log", "sqlite:events.db")
        yield cli


@contextmanager
def speaker(says: bytes) -> Iterator[str]:
    """A port of something that is no worker."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            caller, _ = server.accept()
            with caller:
                caller.sendall(says)
                caller.shutdown(socket.SHUT_WR)
                while caller.recv(4_096):
                    pass

        thread = Thread(target=speak)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "worker",
    [
        "",
        ":",
        "a b",
        "a\nb",
        "[::1",
        "9464",
        "ftp://host:9464",
        "http://",
        "host:0",
        "host:99999",
        "host:x",
        "host:1/metrics",
        "host:1?x",
    ],
)
def test_what_is_no_address_is_refused(cli, worker):
    """Nothing is asked, and the text says what to write and where it stands."""
    said = cli.refused("status", "--log", "sqlite:events.db", "--worker", worker)
    assert f"--worker {worker!r}: write HOST:PORT of its ops port" in said


@pytest.mark.parametrize(
    "says",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n<html></html>",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_the_port_of_something_else_is_told_as_that(cli, says):
    """Not as an error of Penstock, and what the log knows is shown all the same."""
    with speaker(says) as worker:
        found = cli("status", "--log", "sqlite:events.db", "--worker", worker, "--json")
    assert found.exit_code == 0, found.stderr
    assert "something else than a worker of Penstock has this port" in found.stdout


def test_a_closed_port_asks_whether_the_worker_runs(cli):
    """The cause in plain words, and what to look at."""
    found = cli.page("status", "--log", "sqlite:events.db", "--worker", "127.0.0.1:1", "--json")
    assert "urlopen" not in found["workers"][0]["error"]
    assert "does it run, and is this its ops port?" in found["workers"][0]["error"]


def test_the_words_of_a_cause_are_printed_as_they_are(capsys):
    """Brackets name a table of the settings, they are no colour."""
    wait = Waiting("noter", "notes", 0, "budget", waits=True)
    wait.told = words(wait)
    show([wait], [])
    assert "[spend]" in capsys.readouterr().out
