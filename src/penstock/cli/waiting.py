"""Asks workers why their partitions wait, and says it in words.

ops port → [waiting] → status
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock.cli.console import out, table, tell
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.record import Partition

ASK_SECONDS = 3.0
USUAL_PORT = 9464
NOT_WAITING = frozenset({"asked", "nothing_to_read", "company"})
WORDS = {
    "requests": "requests per minute of {family} are used up",
    "input_tokens": "input tokens per minute of {family} are used up",
    "output_tokens": "output tokens per minute of {family} are used up",
    "slow_start": "slow start: use of {family} grows step by step",
    "retry_after": "the API said when to come back ({family})",
    "concurrency": "as many calls of {tier} are in flight as may be",
    "cold_cache": "the first call of {tier} writes the prompt cache",
    "budget": "a ceiling of [spend] leaves no room for a call",
    "claim": "what is left of the budget is held for calls in flight",
    "account_stop": "the account's own money limit is reached",
    "outage": "{tier} does not answer as it should",
    "overloaded": "{tier} is overloaded",
    "unreachable": "{tier} cannot be reached",
    "server_error": "{tier} fails",
    "timed_out": "calls of {tier} take too long",
    "retry_budget": "failed calls of {tier} are repeated bit by bit",
    "retry_later": "items are asked again later",
    "company": "items wait for company in a call",
    "asked": "nothing: its items are being asked",
    "commit": "what is answered is being written",
    "offset_map": "offset {offset} has no outcome, the map behind it is full",
    "key_order": "answers wait for offset {offset}, which is earlier of their key",
    "worker_full": "this worker has as much in flight as it may",
    "schema": "a schema cannot be had from the registry",
    "log": "the log does not answer",
    "draining": "this worker stops",
    "stopped": "this worker cannot go on: its log says why",
    "nothing_to_read": "nothing: there is nothing to read",
    "other_worker": "another worker has it, which was not asked: {worker}",
    "no_worker": "no worker has it",
}


@dataclass
class Waiting:
    """One partition of a group, and what keeps most of it waiting. Times are Unix time."""

    group: str
    topic: str
    partition: int
    cause: str
    waits: bool
    told: str = ""
    worker: str = ""
    tier: str = ""
    family: str = ""
    items: int = 0
    """Items that wait for this."""
    since: float | None = None
    until: float | None = None
    """By estimate; none where nobody knows."""
    next_try: float | None = None
    offset: int | None = None
    in_flight: int = 0
    oldest_since: float | None = None
    lag: int | None = None
    also: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Asked:
    """A worker that was asked."""

    url: str
    host: str = ""
    pid: int = 0
    error: str = ""


async def ask_workers(given: Sequence[str], log: str) -> tuple[list[Asked], list[Waiting]]:
    """Those that are named, else those of this machine that work on this log."""
    urls = [_url(worker) for worker in given]
    if not urls:
        from penstock.ops.register import noted

        urls = [note.url for note in noted() if note.log == log]
    pages = await asyncio.gather(*(asyncio.to_thread(_page, url) for url in urls))
    workers, waits = [], []
    for url, page in zip(urls, pages, strict=True):
        if isinstance(page, str):
            workers.append(Asked(url, error=page))
            continue
        workers.append(Asked(url, page["worker"]["host"], page["worker"]["pid"]))
        for task in page["tasks"]:
            waits += [_waiting(task, one, url) for one in task["partitions"]]
    return workers, waits


async def unasked(log: EventLog, waits: Iterable[Waiting], topics: Mapping[str, set[str]]) -> list[Waiting]:
    """Partitions of these groups' topics that no asked worker spoke of: somebody else's, or nobody's."""
    told = {(wait.group, wait.topic, wait.partition) for wait in waits}
    groups = await log.groups()
    found = []
    for group, names in topics.items():
        owners: dict[Partition, str] = {p: m.member for m in groups.get(group, ()) if m.is_alive for p in m.partitions}
        for topic in sorted(names):
            for partition in sorted(await log.bounds(topic)):
                if (group, topic, partition.number) in told:
                    continue
                owner = owners.get(partition, "")
                cause = "other_worker" if owner else "no_worker"
                wait = Waiting(group, topic, partition.number, cause, waits=not owner, worker=owner)
                wait.told = words(wait)
                found.append(wait)
    return found


def words(wait: Waiting) -> str:
    """The cause as people say it; one that a newer worker made up is shown as it is."""
    return WORDS.get(wait.cause, wait.cause).format_map(asdict(wait))


def show(waits: Sequence[Waiting], workers: Sequence[Asked]) -> None:
    """A row for partitions that wait for the same."""
    for worker in workers:
        if worker.error:
            tell(f"worker {worker.url} did not answer: {worker.error}")
    alike: dict[tuple[Any, ...], list[Waiting]] = {}
    for wait in waits:
        if wait.cause == "nothing_to_read" and wait.topic.endswith(".retry"):
            continue  # they are empty nearly always
        alike.setdefault((wait.group, wait.topic, wait.told, wait.cause), []).append(wait)
    if not alike:
        return
    from rich.markup import escape

    columns = ("for", "in flight", "lag")
    shown = table("group", "topic", "partitions", "waits for", "for", "goes on", "in flight", "lag", right=columns)
    now = time.time()
    for (group, topic, told, _), rows in alike.items():
        lag = [row.lag for row in rows if row.lag is not None]
        shown.add_row(
            group,
            topic,
            spans(row.partition for row in rows),
            escape(told),
            _for(rows, now),
            _goes_on(rows, now),
            f"{sum(row.in_flight for row in rows):,}",
            f"{sum(lag):,}" if lag else "",
        )
    out().print(shown)


def spans(numbers: Iterable[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _for(rows: Sequence[Waiting], now: float) -> str:
    since = [row.since for row in rows if row.since is not None]
    return _duration(now - min(since)) if since else ""


def _goes_on(rows: Sequence[Waiting], now: float) -> str:
    until = [row.until for row in rows if row.until is not None]
    tries = [row.next_try for row in rows if row.next_try is not None]
    if until:
        return f"in about {_duration(max(until) - now)}"
    if tries:
        return f"tried again in {_duration(max(tries) - now)}"
    return "not known" if rows[0].waits else ""


def _duration(seconds: float) -> str:
    from penstock.cli.status import duration

    return duration(max(0.0, seconds))


def _waiting(task: Mapping[str, Any], one: Mapping[str, Any], url: str) -> Waiting:
    known = {name: one[name] for name in Waiting.__dataclass_fields__ if name in one}
    wait = Waiting(**{**known, "group": task["group"], "worker": url})
    wait.told = words(wait)
    return wait


def _url(worker: str) -> str:
    """`HOST`, `HOST:PORT` or a whole address."""
    try:
        parts = urlsplit(worker if "://" in worker else f"http://{worker}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", 0
    if not host or host.isdigit() or not worker.isprintable() or " " in worker or port == 0:
        raise _no_address(worker)
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _no_address(worker)
    return f"{parts.scheme}://{parts.netloc}" + ("" if port else f":{USUAL_PORT}")


def _no_address(worker: str) -> SettingsError:
    return SettingsError(
        f"--worker {worker!r}: write HOST:PORT of its ops port, for example 127.0.0.1:{USUAL_PORT} (the worker logs it when it starts)"
    )


def _page(url: str) -> dict[str, Any] | str:
    """What it says, or why it does not."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/status", timeout=ASK_SECONDS) as reply:
            page = json.loads(reply.read())
        if page["format"] != 1 or not isinstance(page["tasks"], list) or not page["worker"]["host"]:
            return "it is a worker of another version of Penstock: ask it with that version's `penstock status`"
    except (ValueError, KeyError, TypeError, http.client.HTTPException, urllib.error.HTTPError):
        return "something else than a worker of Penstock has this port: write the ops port, which the worker logs when it starts"
    except OSError as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"{why}; does it run, and is this its ops port? It logs it when it starts"
    found: dict[str, Any] = page
    return found
