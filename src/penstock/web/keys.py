"""API keys: made once, kept as hashes, compared in constant time, each with scopes, an end and a rate of its own.

`penstock gateway key` → [keys] → gateway
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.errors import SettingsError
from penstock.web.problems import Problem

logger = logging.getLogger("penstock.gateway")
SCOPES = ("events:write", "events:read")
"""Of producers: what a key may do unless it is told."""
ALL_SCOPES = (*SCOPES, "console:read")
PREFIX = "psk"
LOOK_SECONDS = 1.0
BURST_SECONDS = 2.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")
HEAD = "# API keys of the gateway, hashed. Made by `penstock gateway key`; to take a key back, delete its block.\n"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key. Several keys of one name are one client: that is how keys are rotated."""

    id: str
    name: str
    sha256: str
    scopes: frozenset[str]
    expires: datetime | None = None
    events_per_second: float | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether it has ended."""
        return self.expires is not None and now >= self.expires


NOBODY = ApiKey("", "anonymous", "", frozenset(SCOPES))
"""Who asks where `gateway.auth` is `none`."""


def new_key(
    name: str, scopes: Sequence[str], *, days: float | None = None, events_per_second: float | None = None
) -> tuple[ApiKey, str]:
    """A key and what is shown of it once."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"--name {name!r}: letters, digits, '.', '_', '-', at most 64")
    unknown = sorted(set(scopes) - set(ALL_SCOPES))
    if unknown or not scopes:
        raise SettingsError(f"--scope {' '.join(unknown) or '(none)'}: write {' or '.join(ALL_SCOPES)}")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
    return ApiKey(key_id, name, _hash(secret), frozenset(scopes), expires, events_per_second), (
        f"{PREFIX}_{key_id}_{secret}"
    )


def add_key(file: Path, key: ApiKey) -> None:
    """Append it; the file is readable for its owner only."""
    read_keys(file)  # what is there must be whole before something is added to it
    lines = [
        "",
        "[[key]]",
        f'id = "{key.id}"',
        f'name = "{key.name}"',
        f'sha256 = "{key.sha256}"',
        f"scopes = {json.dumps(sorted(key.scopes))}",
    ]
    if key.expires is not None:
        lines.append(f"expires = {key.expires.isoformat()}")
    if key.events_per_second is not None:
        lines.append(f"events_per_second = {key.events_per_second}")
    try:
        is_new = not file.exists()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as out:
            out.write((HEAD if is_new else "") + "\n".join(lines) + "\n")
    except OSError as error:
        raise SettingsError(f"gateway.keys_file={str(file)!r} cannot be written: {error.strerror}") from error


def read_keys(file: Path) -> list[ApiKey]:
    """Every key of a file; none where there is no file."""
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"gateway.keys_file={str(file)!r} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"gateway.keys_file={str(file)!r} is no TOML: {error}") from error
    blocks = tree.get("key", [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise SettingsError(
            f"gateway.keys_file={str(file)!r}: `key` is no list of blocks: write [[key]] above each key"
        )
    return [_key(block, file) for block in blocks]


def _key(block: dict[str, object], file: Path) -> ApiKey:
    def wrong(what: str) -> SettingsError:
        return SettingsError(f"gateway.keys_file={str(file)!r}: key {block.get('id', '?')!r}: {what}")

    key_id, name, digest, scopes = (block.get(field) for field in ("id", "name", "sha256", "scopes"))
    if not all(isinstance(text, str) and text for text in (key_id, name, digest)) or not isinstance(scopes, list):
        raise wrong("id, name, sha256 and scopes are needed; make it again with `penstock gateway key`")
    if not all(isinstance(scope, str) and scope in ALL_SCOPES for scope in scopes):
        raise wrong(f"scopes are {' and '.join(ALL_SCOPES)}")
    expires, rate = block.get("expires"), block.get("events_per_second")
    if expires is not None and not (isinstance(expires, datetime) and expires.tzinfo):
        raise wrong("expires is a time with its zone, such as 2030-01-31T00:00:00Z")
    if rate is not None and not (isinstance(rate, int | float) and rate > 0):
        raise wrong("events_per_second is a number greater than 0")
    return ApiKey(str(key_id), str(name), str(digest), frozenset(scopes), expires, rate)


class Keys:
    """Who may do what. The file is read again when it changes, so that keys come and go without a restart."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keys = {key.id: key for key in read_keys(file)}
        self._seen = _stamp(file)
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._keys)

    def client(self, authorization: str, scope: str) -> ApiKey:
        """The key of an `Authorization` header. Raises a `Problem` where it does not open this door."""
        self._look()
        scheme, _, given = authorization.partition(" ")
        found = _KEY.fullmatch(given.strip()) if scheme.lower() == "bearer" else None
        key = self._keys.get(found[1]) if found else None
        # An unknown key costs the same comparison as a known one.
        is_right = hmac.compare_digest(_hash(found[2] if found else ""), key.sha256 if key else "0" * 64)
        if key is None or not is_right or key.is_over(datetime.now(UTC)):
            raise _unauthorized(bool(authorization))
        if scope not in key.scopes:
            raise Problem("forbidden", f"this key lacks the scope {scope}; make one that has it")
        return key

    def holds(self, key_id: str, sha256: str, scope: str) -> bool:
        """Whether this very key is still there, not over, and may do that: another secret under its id is another key."""
        self._look()
        key = self._keys.get(key_id)
        if key is None or key.sha256 != sha256:
            return False
        return scope in key.scopes and not key.is_over(datetime.now(UTC))

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        seen = _stamp(self._file)
        if seen == self._seen:
            return
        try:
            self._keys = {key.id: key for key in read_keys(self._file)}
        except SettingsError as error:
            logger.warning("the keys stay as they were: %s", error)
        else:
            logger.info("%s changed: %d keys", self._file, len(self._keys))
        self._seen = seen


def _unauthorized(was_given: bool) -> Problem:  # noqa: FBT001 - one word
    detail = (
        "the key is unknown or over; `penstock gateway key` makes another"
        if was_given
        else "send `Authorization: Bearer psk_…`; `penstock gateway key` makes a key"
    )
    return Problem("unauthorized", detail, headers={"www-authenticate": 'Bearer realm="penstock"'})


def _hash(secret: str) -> str:
    """A secret of 256 random bits needs no slow hash: nobody can guess one."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class Rates:
    """How many events a client may still send now. A batch may take the level below zero: the next one waits for it."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key: ApiKey, events: int) -> None:
        """Raises a `Problem` with the time to wait where the client is too fast."""
        rate = key.events_per_second
        if rate is None:
            return
        if wait := self.wait_seconds(key):
            raise Problem("rate-limited", f"this key may send {rate:g} events per second", retry_after_seconds=wait)
        self._levels[key.name] = (self._level(key, rate) - events, time.monotonic())

    def wait_seconds(self, key: ApiKey) -> float:
        """How long until the client may send again; 0 for now."""
        rate = key.events_per_second
        return 0.0 if rate is None else max(0.0, 1.0 - self._level(key, rate)) / rate

    def _level(self, key: ApiKey, rate: float) -> float:
        now = time.monotonic()
        full = max(1.0, rate * BURST_SECONDS)
        level, at = self._levels.get(key.name, (full, now))
        return min(full, level + (now - at) * rate)
