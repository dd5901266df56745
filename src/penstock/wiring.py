"""The only page that names concrete choices: which log, which tiers, which limits, for these settings.

settings → [wiring] → worker, delivery
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
import uuid
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
from penstock.flow.base import Clock
from penstock.flow.ceilings import Ceilings, SpendOptions
from penstock.flow.gate import Gate
from penstock.flow.readings import gate_samples, spend_samples
from penstock.flow.spend import Spend
from penstock.flow.tail import SpendTail
from penstock.log.base import EventLog, TopicInfo, TopicSpec
from penstock.log.state import STATE_TOPIC
from penstock.log.topics import PARTITIONS, Fault, Home, faults, topic_specs, uses_of
from penstock.ops.deliveries import DeliveryOps
from penstock.ops.ops import Ops
from penstock.ops.server import OpsOptions
from penstock.ops.standby import Standby
from penstock.outcome import Answer, Failure, Outcome
from penstock.record import Partition, Record
from penstock.settings import KafkaAddress, Settings
from penstock.sinks.base import Sink
from penstock.sinks.delivery import DeliveryLoop
from penstock.sinks.reading import feeds_of
from penstock.task import Step, Task
from penstock.tier import Item, Tier
from penstock.worker import Worker

if TYPE_CHECKING:
    from penstock.claude.client import ClaudeClient

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


def home_of(settings: Settings, brokers: int = 0, *, has_new_protocol: bool = True) -> Home:
    """The log of these settings, for who judges its topics. Who has not asked the brokers takes them for new ones."""
    address = settings.log_address
    if isinstance(address, KafkaAddress):
        asked = settings.kafka_log.protocol_asked(settings.kafka)
        is_classic = asked == "classic" or (not asked and not has_new_protocol)
        return Home(address.brokers, brokers, settings.kafka_log.max_message_bytes, is_classic)
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


_ALL_OF_A_TASK = " (or --task MODULE:TASK for all topics of a task)"


async def _complete_topics(
    settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog, known: Mapping[str, TopicInfo]
) -> None:
    for task in tasks:
        if task.reads not in known:
            await _ask_by_name(log, [task.reads])
            raise TopicMissing(
                f"{task.name} reads topic {task.reads!r}, which {settings.log} does not have: "
                f"penstock topics create {task.reads}{_ALL_OF_A_TASK}"
            )
    partitions = {task.name: known[task.reads].partitions for task in tasks}
    missing = [spec for task in tasks for spec in topic_specs(task, partitions[task.name]) if spec.name not in known]
    if not missing:
        return
    if isinstance(settings.log_address, KafkaAddress):
        await _ask_by_name(log, [spec.name for spec in missing])
        names = " ".join(dict.fromkeys(spec.name for spec in missing))
        raise TopicMissing(
            f"{settings.log} lacks topics that the tasks write: penstock topics create {names}{_ALL_OF_A_TASK}"
        )
    await log.create_topics(list({spec.name: spec for spec in missing}.values()))


async def _ask_by_name(log: EventLog, names: Sequence[str]) -> None:
    """A topic that is there but not for us is not listed: asked for by its name, the log says who may not do what."""
    for name in names:
        with contextlib.suppress(TopicMissing):
            await log.bounds(name)


def spend_options(settings: Settings, models: Models | None = None) -> SpendOptions:
    """`[spend.models.haiku]` names a model by alias or id; the guard knows ids."""
    models = models or Models.load(settings.claude.prices_file)
    by_id: dict[str, Ceilings] = {}
    for name, ceilings in settings.spend.models.items():
        try:
            model = models.resolve(name).id
        except SettingsError as error:
            raise SettingsError(f"spend.models.{name}: {error}") from None
        if model in by_id:
            raise SettingsError(f"spend.models.{name}: {model} has ceilings under another name already; keep one")
        by_id[model] = ceilings
    return replace(settings.spend, models=by_id)


class Claude:
    """The API as one process uses it: one client, one gate, one table of models, tiers by name."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: ClaudeClient | None = None,
        tasks: Sequence[Task[Any, Any]] = (),
        run: str = "",
        unix: Clock = time.time,
    ) -> None:
        self._settings = settings
        self._models = Models.load(settings.claude.prices_file)
        self._client = client
        by_family = {self._family(name): limits for name, limits in settings.limits.items() if name != "default"}
        self.gate = Gate(
            settings.limits.get("default"),
            Spend(
                spend_options(settings, self._models), unix=unix, run=run, call_seconds=settings.claude.timeout_seconds
            ),
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
    settings: Settings,
    tasks: Sequence[Task[Any, Any]],
    log: EventLog,
    *,
    slot: str = "",
    ops: OpsOptions | None = None,
    unix: Clock = time.time,
) -> Worker[Pipeline]:
    """A worker for these tasks, with a port for metrics and health where `ops` is given; `unix` says which period it is.

    Raises `UserError` where it could not work; nothing is connected or asked yet.
    """
    claude = Claude(settings, tasks=tasks, run=uuid.uuid4().hex[:16], unix=unix)
    spend = claude.gate.spend
    options = pipeline_options(settings)
    tasks = [with_codec(settings, task) for task in tasks]
    pipelines = [Pipeline(task, claude.tiers(task), log, options, shares=claude.gate, spend=spend) for task in tasks]

    async def prepare() -> None:
        for fault in await prepare_topics(settings, tasks, log):
            logger.warning("%s", fault)
        for idle in (*settings.spend.idle(), *settings.spend.strangers({task.name for task in tasks})):
            logger.warning("%s", idle)

    sources = [lambda: spend_samples(spend), lambda: gate_samples(claude.gate)]
    told = Ops(ops, pipelines, log, sources, place=settings.log_place) if ops else None
    return Worker(
        pipelines,
        log,
        slot=_slot(settings, slot),
        prepare=prepare,
        close=lambda: _close(claude, tasks),
        ops=_watched(told, Standby(log, pipelines), SpendTail(log, spend)),
    )


def build_delivery(
    settings: Settings,
    sinks: Sequence[Sink],
    tasks: Sequence[Task[Any, Any]],
    log: EventLog,
    *,
    ops: OpsOptions | None = None,
) -> Worker[DeliveryLoop]:
    """A process that feeds these sinks with what these tasks write; nothing is connected yet."""
    names = [sink.name for sink in sinks]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two of these sinks have the name {name!r}, and the name is the consumer group")
    loops = [DeliveryLoop(sink, feeds_of(tasks), log, settings.deliver) for sink in sinks]
    told = DeliveryOps(ops, loops, log, place=settings.log_place) if ops else None
    prepare = functools.partial(prepare_delivery, settings, tasks, log)
    return Worker(loops, log, slot=_slot(settings, ""), goes_on_alone=True, prepare=prepare, ops=told)


async def prepare_delivery(settings: Settings, tasks: Sequence[Task[Any, Any]], log: EventLog) -> None:
    """See that the topics are there that sinks read; the embedded log makes them."""
    known = await log.topics()
    specs: dict[str, TopicSpec] = {}
    for task in tasks:
        partitions = known[task.reads].partitions if task.reads in known else PARTITIONS
        specs |= {spec.name: spec for spec in topic_specs(task, partitions) if spec.name not in known}
    wanted = {name for task in tasks for name in (task.writes, task.dead_letters)} | {STATE_TOPIC}
    missing = [spec for name, spec in specs.items() if name in wanted]
    if missing and isinstance(settings.log_address, KafkaAddress):
        names = " ".join(spec.name for spec in missing)
        raise TopicMissing(f"{settings.log} lacks topics that sinks read: penstock topics create {names}")
    await log.create_topics(missing)


@asynccontextmanager
async def _watched(told: Ops | None, standby: Standby, tail: SpendTail) -> AsyncIterator[None]:
    async with told or nullcontext(), standby, tail:
        yield


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
