"""Where the database is, and how long it keeps what: `[sinks.database]`.

settings → [options] → schema, writing, retention
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from sqlalchemy import URL

_ADDRESS = re.compile(r"sqlite:.+|postgresql(\+psycopg)?://[^/]*/.+")


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """The database that results are written to, and that the console reads."""

    url: str = "sqlite:penstock-store.db"
    """`sqlite:FILE` or `postgresql://USER@HOST:PORT/NAME`."""
    password: SecretStr | None = None
    """Of PostgreSQL, where it does not stand in the address; `password_file` names a file that holds it."""
    review_labels: tuple[str, ...] = ("hold",)
    """Verdicts that a person shall see (`needs_review`), besides provisional and unsure ones."""
    max_batch_items: int = 1_000
    """Written in one transaction at most."""
    connect_timeout_seconds: float = 5.0
    """For a connection; on SQLite, for another program that has the file."""
    statement_timeout_seconds: float = 30.0
    """For one statement, on PostgreSQL."""
    keep_days: float | None = None
    """Verdicts and decisions older than this are deleted; for ever unless given."""
    keep_letters_days: float | None = None
    """The same for dead letters, which hold events."""
    keep_costs_days: float | None = None
    """The same for costs, which hold neither events nor ids of them."""
    prune_interval_seconds: float = 600.0
    """How often old rows are looked for."""
    prune_batch_rows: int = 5_000
    """Deleted in one transaction at most, so that nothing waits long for it."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        if not _ADDRESS.fullmatch(self.url):
            got = "" if "@" in self.url else f", got {self.url!r}"  # there may be a password in it
            raise SettingsError(f"sinks.database.url: write 'sqlite:FILE' or 'postgresql://USER@HOST:PORT/NAME'{got}")
        for name in ("keep_days", "keep_letters_days", "keep_costs_days"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"sinks.database.{name}={value!r}: days, more than 0")
        for name in ("max_batch_items", "prune_batch_rows", "prune_interval_seconds"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"sinks.database.{name}={getattr(self, name)!r}: write a number greater than 0")

    def address(self) -> URL:
        """As SQLAlchemy wants it, password included: never print it."""
        from sqlalchemy import URL, make_url  # noqa: PLC0415 - every command reads settings, few have a database
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        kind, _, rest = self.url.partition(":")
        if kind == "sqlite" and not rest.startswith("//"):
            return URL.create("sqlite", database=rest)
        try:
            url = make_url(self.url)
        except (ArgumentError, ValueError):
            raise SettingsError("sinks.database.url: this is no address of a database") from None
        if url.get_backend_name() == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
            if self.password is not None:
                url = url.set(password=self.password.get_secret_value())
        return url

    @property
    def shown(self) -> str:
        """For people: without the password."""
        url = self.address()
        if url.get_backend_name() == "sqlite":
            return f"sqlite:{url.database}"
        return url.set(drivername="postgresql", password=None).render_as_string()
