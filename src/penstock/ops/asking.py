"""Asks the processes of a log what they wait for, and says it in words.

ops port → [asking] → status, console
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from penstock.errors import SettingsError, TopicMissing
from penstock.ops.groups import duration
from penstock.ops.register import noted

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.record import Partition

T = TypeVar("T")
ASK_SECONDS = 3.0
USUAL_PORT = 9464
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
class SinkStanding:
    """A sink in a process that delivers. Fields that an older one does not tell stay as they are here."""

    sink: str
    group: str = ""
    held: str = ""
    """Why it gets nothing now: `stopped`, `paused`, `away`, or nothing."""
    why: str = ""
    since: float | None = None
    lag: int | None = None
    lag_seconds: float | None = None
    delivered: int = 0
    """Since the process started, as are the dead letters."""
    letters: int = 0


@dataclass
class Asked:
    """A process that was asked: one that works on tasks, or delivers to sinks."""

    url: str
    host: str = ""
    pid: int = 0
    error: str = ""
    sinks: list[SinkStanding] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    """Events by task that wanted no answer, since the worker started."""


async def ask_workers(given: Sequence[str], log: str) -> tuple[list[Asked], list[Waiting]]:
    """Those that are named, else those of this machine that work on this log."""
    urls = [_url(worker) for worker in given]
    if not urls:
        urls = [note.url for note in noted() if note.log == log]
    pages = await asyncio.gather(*(asyncio.to_thread(_page, url) for url in urls))
    workers, waits = [], []
    for url, page in zip(urls, pages, strict=True):
        if isinstance(page, str):
            workers.append(Asked(url, error=page))
            continue
        worker = Asked(url, page["worker"]["host"], page["worker"]["pid"])
        worker.sinks = [_known(SinkStanding, one) for one in page.get("sinks", ())]
        worker.skipped = {task["task"]: task["skipped"] for task in page["tasks"] if "skipped" in task}
        workers.append(worker)
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
            try:
                bounds = await log.bounds(topic)
            except TopicMissing:  # deleted since it was listed
                continue
            for partition in sorted(bounds):
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


class Alike(NamedTuple):
    """Partitions of one topic that wait for the same."""

    group: str
    topic: str
    told: str
    rows: Sequence[Waiting]

    @property
    def partitions(self) -> str:
        """Their numbers, as people write them."""
        return spans(row.partition for row in self.rows)

    @property
    def waits(self) -> bool:
        """Whether it keeps them from going on."""
        return self.rows[0].waits

    @property
    def in_flight(self) -> int:
        """Items of all of them."""
        return sum(row.in_flight for row in self.rows)

    @property
    def lag(self) -> int | None:
        """Offsets that are not resolved; None where nobody said."""
        known = [row.lag for row in self.rows if row.lag is not None]
        return sum(known) if known else None

    def lasts(self, now: float) -> str:
        """For how long already."""
        since = [row.since for row in self.rows if row.since is not None]
        return duration(max(0.0, now - min(since))) if since else ""

    def goes_on(self, now: float) -> str:
        """When, as far as anybody knows."""
        until = [row.until for row in self.rows if row.until is not None]
        tries = [row.next_try for row in self.rows if row.next_try is not None]
        if until:
            return f"in about {duration(max(0.0, max(until) - now))}"
        if tries:
            return f"tried again in {duration(max(0.0, max(tries) - now))}"
        return "not known" if self.waits else ""


def alike(waits: Iterable[Waiting]) -> list[Alike]:
    """One for all partitions that wait for the same; retry topics with nothing in them are left out: nearly all are empty."""
    found: dict[tuple[str, str, str, str], list[Waiting]] = {}
    for wait in waits:
        if wait.cause == "nothing_to_read" and wait.topic.endswith(".retry"):
            continue
        found.setdefault((wait.group, wait.topic, wait.told, wait.cause), []).append(wait)
    return [Alike(group, topic, told, rows) for (group, topic, told, _), rows in found.items()]


def spans(numbers: Iterable[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _known(kind: type[T], told: Mapping[str, Any]) -> T:
    """What a newer one tells besides is passed over."""
    return kind(**{one.name: told[one.name] for one in fields(cast("Any", kind)) if one.name in told})


def _waiting(task: Mapping[str, Any], one: Mapping[str, Any], url: str) -> Waiting:
    wait = _known(Waiting, {**one, "group": task["group"], "worker": url})
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
