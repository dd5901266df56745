"""The only page that names concrete choices: which log, which tiers, which limits, for these settings.

settings → [wiring] → worker
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.claude.models import Models
from penstock.claude.tier import ClaudeTier
from penstock.codecs.registry import RegistryCodec
from penstock.engine.cascade import ANOTHER_MAY_ANSWER, Erased, Skipped
from penstock.engine.hooks import through_hooks
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.reader import Reader
from penstock.errors import SettingsError, TopicMissing
from penstock.flow.gate import Gate
from penstock.flow.readings import gate_samples
from penstock.log.base import EventLog, TopicInfo
from penstock.log.topics import Fault, Home, faults, topic_specs, uses_of
from penstock.ops.ops import Ops, spend_samples
from penstock.ops.server import OpsOptions
from penstock.ops.standby import Standby
from penstock.outcome import Answer, Failure, Outcome
from penstock.record import Partition, Record
from penstock.settings import KafkaAddress, Settings
from penstock.task import Step, Task
from penstock.tier import Item, Tier
from penstock.worker import Worker

if TYPE_CHECKING:
    from penstock.claude.client import ClaudeClient
    from penstock.web.server import WebServer

logger = logging.getLogger("penstock.wiring")


def open_log(settings: Settings) -> EventLog:
    """The log that `settings.log` names."""
    address = settings.log_address
    if isinstance(address, KafkaAddress):
        from penstock.log.kafka import KafkaLog  # noqa: PLC0415 - only who uses Kafka pays for its client

        return KafkaLog(address.brokers, properties=settings.kafka_properties(), options=settings.kafka_log)
    from penstock.log.sqlite import SqliteLog  # noqa: PLC0415

    return SqliteLog(address.path, options=settings.sqlite)


def with_codec(settings: Settings, task: Task[Any, Any]) -> Task[Any, Any]:
    """The task with its codec connected, where that needs an address and credentials."""
    if not isinstance(task.decode, RegistryCodec):
        return task
    return replace(task, decode=task.decode.connected(settings.registry))


async def check_codecs(tasks: Sequence[Task[Any, Any]]) -> None:
    """Raise where a codec cannot reach what it needs (`CodecUnavailable`) or never will (`SettingsError`)."""
    for task in tasks:
        if isinstance(task.decode, RegistryCodec):
            await task.decode.reach()


async def _close(claude: Claude, tasks: Sequence[Task[Any, Any]]) -> None:
    await claude.close()
    for task in tasks:
        if isinstance(task.decode, RegistryCodec):
            await task.decode.close()


def home_of(settings: Settings, brokers: int = 0) -> Home:
    """The log of these settings, for who judges its topics."""
    address = settings.log_address
    if isinstance(address, KafkaAddress):
        return Home(address.brokers, brokers, settings.kafka_log.max_message_bytes)
    return Home()


async def prepare_topics(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> list[Fault]:
    """See that every topic is there and as it must be; what is unwise comes back.

    The input must exist; the embedded log makes the others by itself.
    """
    known = await log.topics()
    await _complete_topics(settings, tasks, log, known)
    found = faults(uses_of(tasks), known, home_of(settings))
    fatal = [fault for fault in found if fault.is_fatal]
    if fatal:
        raise SettingsError("\n".join(map(str, fatal)))
    return found


async def _complete_topics(
    settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog, known: Mapping[str, TopicInfo]
) -> None:
    for task in tasks:
        if task.reads not in known:
            await _ask_by_name(log, [task.reads])
            raise TopicMissing(
                f"{task.name} reads topic {task.reads!r}, which {settings.log} does not have: penstock topics create {task.reads}"
            )
    partitions = {task.name: known[task.reads].partitions for task in tasks}
    missing = [spec for task in tasks for spec in topic_specs(task, partitions[task.name]) if spec.name not in known]
    if not missing:
        return
    if isinstance(settings.log_address, KafkaAddress):
        await _ask_by_name(log, [spec.name for spec in missing])
        names = " ".join(dict.fromkeys(spec.name for spec in missing))
        raise TopicMissing(f"{settings.log} lacks topics that the tasks write: penstock topics create {names}")
    await log.create_topics(list({spec.name: spec for spec in missing}.values()))


async def _ask_by_name(log: EventLog, names: Sequence[str]) -> None:
    """A topic that is there but not for us is not listed: asked for by its name, the log says who may not do what."""
    for name in names:
        with contextlib.suppress(TopicMissing):
            await log.bounds(name)


class Claude:
    """The API as one process uses it: one client, one gate, one table of models, tiers by name."""

    def __init__(
        self, settings: Settings, *, client: ClaudeClient | None = None, tasks: Sequence[Task[Any, Any]] = ()
    ) -> None:
        self._settings = settings
        self._models = Models.load(settings.claude.prices_file)
        self._client = client
        by_family = {self._family(name): limits for name, limits in settings.limits.items() if name != "default"}
        self.gate = Gate(
            settings.limits.get("default"),
            settings.spend,
            settings.concurrency,
            breaker=settings.breaker,
            ramp=settings.ramp,
            fleet=settings.fleet,
            by_family=by_family,
            weights={task.name: task.weight for task in tasks},
        )
        self._tiers: dict[str, ClaudeTier] = {}

    def tiers(self, task: Task[Any, Any]) -> list[Tier]:
        """Who answers each step of a route. A model that nobody knows, or an output it cannot give, is told now."""
        found: list[Tier] = []
        for step in task.route.steps:
            tier = self._tier(step.tier) if isinstance(step.tier, str) else step.tier
            if isinstance(tier, ClaudeTier):
                tier.prepare(task)
            found.append(tier)
        return found

    async def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            await self._client.close()

    def _tier(self, name: str) -> ClaudeTier:
        tier = self._tiers.get(name)
        if tier is None:
            model = self._models.resolve(name)
            if self._client is None:
                from penstock.claude.client import ClaudeClient  # noqa: PLC0415 - the SDK takes seconds

                self._client = ClaudeClient(self._settings.claude)
            tier = self._tiers[name] = ClaudeTier(name, model, self._client, self.gate, self._settings.claude)
        return tier

    def _family(self, name: str) -> str:
        """`[limits.haiku]` may name a model or a family."""
        try:
            return self._models.resolve(name).family
        except Exception:  # noqa: BLE001 - not a model: then it is the family's own name
            return name


def pipeline_options(settings: Settings) -> PipelineOptions:
    """The engine's numbers."""
    return PipelineOptions(
        commit_interval_seconds=settings.commit_interval_seconds,
        drain_seconds=settings.drain_seconds,
        intake=settings.intake,
        batch=settings.batch,
        guard=settings.guard,
        retry=settings.retry,
    )


def build_worker(
    settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog, *, slot: str = "", ops: OpsOptions | None = None
) -> Worker:
    """A worker for these tasks, with a port for metrics and health where `ops` is given.

    Raises `UserError` where it could not work; nothing is connected or asked yet.
    """
    claude = Claude(settings, tasks=tasks)
    options = pipeline_options(settings)
    tasks = [with_codec(settings, task) for task in tasks]
    pipelines = [Pipeline(task, claude.tiers(task), log, options, shares=claude.gate) for task in tasks]

    async def prepare() -> None:
        for fault in await prepare_topics(settings, tasks, log):
            logger.warning("%s", fault)

    sources = [lambda: spend_samples(claude.gate.spend, settings.spend), lambda: gate_samples(claude.gate)]
    told = Ops(ops, pipelines, log, sources) if ops else None
    return Worker(
        pipelines,
        log,
        slot=_slot(settings, slot),
        prepare=prepare,
        close=lambda: _close(claude, tasks),
        ops=_watched(told, Standby(log, pipelines)),
    )


@asynccontextmanager
async def _watched(told: Ops | None, standby: Standby) -> AsyncIterator[None]:
    async with told or nullcontext(), standby:
        yield


def build_gateway(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> WebServer:
    """A server that takes these tasks' events over HTTP. It closes the log when it ends."""
    from penstock.web.build import build_server  # noqa: PLC0415 - the framework is heavy

    async def prepare() -> None:
        for fault in await prepare_topics(settings, tasks, log):
            logger.warning("%s", fault)

    return build_server([with_codec(settings, task) for task in tasks], log, settings.gateway, prepare=prepare)


def _slot(settings: Settings, given: str) -> str:
    slot = given or settings.slot
    if isinstance(settings.log_address, KafkaAddress) and settings.kafka_log.static_membership and not slot:
        raise SettingsError(
            "kafka_log.static_membership needs slot, a name of this worker that stays the same over restarts: "
            "set PENSTOCK_SLOT, its own for each worker"
        )
    return slot


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt of a trial."""

    tier: str
    request: Mapping[str, Any]
    """What was sent; empty where no model was asked."""
    reply: str
    """The reply's text as it came."""
    outcome: Outcome
    seconds: float


@dataclass(slots=True)
class Trial:
    """One event's way through a task, for a person to read."""

    item: Item
    outcome: Outcome | Skipped | Erased
    asked: list[Asked] = field(default_factory=list)


class _Recorder:
    """A client that remembers what went through it."""

    def __init__(self, client: ClaudeClient) -> None:
        self._client = client
        self.request: Mapping[str, Any] = {}
        self.reply = ""

    async def send(self, parameters: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Any:
        self.request = parameters
        reply = await self._client.send(parameters, timeout_seconds=timeout_seconds)
        self.reply = getattr(reply, "text", "") or str(reply)
        return reply

    async def close(self) -> None:
        await self._client.close()


def _goes_on(step: Step, outcome: Outcome) -> bool:
    """Whether the engine would ask the next step."""
    if isinstance(outcome, Answer):
        return not step.accepts(outcome.output, outcome.confidence)
    return isinstance(outcome, Failure) and outcome.reason in ANOTHER_MAY_ANSWER


async def ask_once(settings: Settings, task: Task[Any, Any], value: bytes) -> Trial:
    """Put one event through a task's route, outside any log: one attempt a step."""
    from penstock.claude.client import ClaudeClient  # noqa: PLC0415 - the SDK takes seconds

    now_ms = time.time_ns() // 1_000_000
    if isinstance(task.decode, RegistryCodec):  # what a person types is JSON, whatever the topic holds
        task = replace(task, decode=None)
    record = Record(task.reads, 0, 0, None, value, (), now_ms)
    item, ended = Reader(task).read(record, Partition(task.reads, 0))
    if ended is not None:
        return Trial(item, ended)
    needs_client = any(isinstance(step.tier, str) for step in task.route.steps)
    recorder: Any = _Recorder(ClaudeClient(settings.claude)) if needs_client else None
    claude = Claude(settings, client=recorder)
    trial = Trial(item, Failure("invalid_output", "nobody was asked"))
    try:
        for step, tier in zip(task.route.steps, claude.tiers(task), strict=True):
            started = time.monotonic()
            if recorder is not None:
                recorder.request, recorder.reply = {}, ""
            (given,) = await tier.answer(task, [item])
            outcome = through_hooks(task, item, given) if isinstance(given, Answer) else given
            request, reply = (recorder.request, recorder.reply) if recorder is not None else ({}, "")
            trial.asked.append(Asked(step.name, request, reply, outcome, time.monotonic() - started))
            trial.outcome = outcome
            if not _goes_on(step, outcome):
                break
    finally:
        await claude.close()
    return trial
