"""**The demo's own page one.** Starts everything, watches it from outside, and takes it down again.

cli → [run] → place · stretch · offline · receiver · crew · producer · watch → summary → stay
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from penstock.claude.models import Models
from penstock.demo.board import Board
from penstock.demo.burst import account_of, rates_of
from penstock.demo.crew import Crew, roles_of
from penstock.demo.deliveries import DATABASE, SLACK, WEBHOOK, Deliveries
from penstock.demo.ending import Interruption
from penstock.demo.gateway import Entrance, Port, gateway_options
from penstock.demo.guests import Guests
from penstock.demo.judge import Judge
from penstock.demo.kills import Kills
from penstock.demo.manned import is_manned
from penstock.demo.names import PARTITIONS_ON_KAFKA, specs_of, tasks_of
from penstock.demo.offline import LIKE_THE_API, OfflineClaude
from penstock.demo.page import Page
from penstock.demo.place import Place
from penstock.demo.plain import PlainLines, Silence
from penstock.demo.pressure import Pressure
from penstock.demo.producer import Producer
from penstock.demo.receiver import Receiver
from penstock.demo.role_settings import live_settings, offline_settings
from penstock.demo.stay import print_farewell, stay
from penstock.demo.stretch import Stream, open_place, open_stretch, stream_of
from penstock.demo.summary import Ended, print_summary
from penstock.demo.tally import Tally
from penstock.demo.text import ceiling, dollars
from penstock.demo.watch import Picture, Watch
from penstock.log.guarantee import label
from penstock.log.topics import PARTITIONS
from penstock.tree import DELIVER, TAKE, WORK
from penstock.wiring import open_log

if TYPE_CHECKING:
    from penstock.deadletters.letter import Letter
    from penstock.demo.options import DemoOptions
    from penstock.log.base import EventLog
    from penstock.record import Record

DONE, FAILED, CHECK_FAILED, INTERRUPTED = 0, 1, 3, 130
LOOK_SECONDS = 0.5
READY_SECONDS = 60.0
SETTLE_SLACK_SECONDS = 20.0
"""On Kafka, beyond the time-out of a dead worker's transaction: brokers look for those every ten seconds."""
DELIVERY_SECONDS, DIGEST_SECONDS = 15.0, 3.0
"""How long sinks may deliver what is written before the end is told; digests are held for company and may be later."""
STALL_SECONDS = 45.0
"""With the real API: nothing was answered for so long although events wait: the ceiling holds calls back, or there is an outage."""


async def run(options: DemoOptions) -> int:
    """Run it until all is ended, or until somebody stops it; the exit code."""
    place = Place(options.directory, options.kafka)
    try:
        with Interruption() as interruption:
            async with AsyncExitStack() as stack:
                return await _Demo(options, place, interruption).run(stack)
    finally:
        if place.stretch.is_running:
            place.stretch.is_running = False
            place.save()
        place.close()


class _Terminal(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


class _Demo:
    def __init__(self, options: DemoOptions, place: Place, interruption: Interruption) -> None:
        self._options = options
        self._place = place
        self._interruption = interruption
        self._console = _terminal()
        is_live_picture = self._console.is_terminal and not options.is_plain
        self._view: Board | PlainLines | Silence = (
            Silence() if options.is_quiet else Board(self._console) if is_live_picture else PlainLines(self._console)
        )
        self._tasks = tasks_of()
        self._remarks: list[str] = []
        self._kills = 0
        self._watch: Watch | None = None
        self._pressure: Pressure | None = None

    async def run(self, stack: AsyncExitStack) -> int:
        """Everything that is started is stopped in the reverse order, whatever happens."""
        if self._place.stretch.is_running:
            self._remarks.append("The last run was killed: calls of its last second are missing in the API's accounts.")
        log = open_log(self._options.settings.model_copy(update={"log": self._place.log}))
        stack.push_async_callback(log.close)
        await self._prepare(log)
        stream = await stream_of(self._place, log, self._tasks[0].reads, self._options)
        self._remarks += stream.remarks
        receiver = Receiver()
        stack.push_async_callback(receiver.stop)
        port = Port(self._options.settings.gateway.port)
        stack.callback(port.close)
        gateway, self._entrance = gateway_options(self._place, port), Entrance(port, self._place.stretch.number)
        stack.callback(self._view.close)
        self._view.open()
        self._greet(stream, log)
        offline = None if self._options.is_live else self._offline(stream)
        settings = (
            await live_settings(self._options, self._place, log)
            if offline is None
            else offline_settings(self._options, self._place, offline, await offline.start())
        )
        if offline is not None:
            stack.push_async_callback(offline.stop)
        self._deliveries = Deliveries(log, self._tasks, self._place, receiver)
        watch = self._watch = await self._make_watch(log, stream, offline)
        settings = self._deliveries.settings(settings, gateway, self._entrance)
        roles = list(roles_of(settings, self._options.workers, self._place, restarts=offline is not None))
        crew = Crew(roles, self._place.stretch.prefix, self._tell)
        stack.push_async_callback(crew.stop)
        self._interruption.on_second = crew.kill_all
        await crew.start(WORK, TAKE)
        await receiver.start()
        await self._until_ready(log, crew)
        await crew.start(DELIVER)  # now: two processors have enough to do with those that answer
        self._deliveries.has_sinks = True
        is_over = await self._play(watch, crew)
        if is_over and self._options.stays and not self._interruption.happened:
            return await self._stay(watch, crew, stream)
        picture = await self._wind_up(watch, crew)
        return self._end(picture, stream, is_finished=is_over)

    async def _prepare(self, log: EventLog) -> None:
        """Topics, and what this run is about."""
        if elsewhere := await open_place(self._place, log):
            self._remarks.append(f"{elsewhere}.")
        prefix = self._place.stretch.prefix
        self._tasks = tasks_of(prefix)
        partitions = max(PARTITIONS_ON_KAFKA, self._options.workers) if self._place.kafka else PARTITIONS
        specs = specs_of(prefix, partitions)
        await log.create_topics(specs)
        await open_stretch(self._place, log, sorted(spec.name for spec in specs), self._tasks, self._options)

    def _offline(self, stream: Stream) -> OfflineClaude:
        """Its account bears a day and not the burst; the user's own events are held back by nothing."""
        burst, account = stream.burst, LIKE_THE_API
        if burst is not None and burst.stream_seconds:
            account = account_of(stream.total or 0, burst.stream_seconds, account)
            self._pressure = Pressure(rates_of(account), burst)
        see = self._pressure.see if self._pressure is not None else None
        return OfflineClaude(self._place.ledger, self._tell, account, see)

    def _tell(self, text: str) -> None:
        """Something broke by itself: told when it happens and once more at the end."""
        self._remarks.append(f"{text[:1].upper()}{text[1:]}.")
        self._note(text)

    def _note(self, text: str) -> None:
        if self._watch is not None:
            self._watch.note(text)

    async def _make_watch(self, log: EventLog, stream: Stream, offline: OfflineClaude | None) -> Watch:
        options = self._options
        planted = {event.event_id: event.content for event in stream.planted or ()}
        models = Models.load(options.settings.claude.prices_file)
        tally = Tally(self._tasks, models, planted, since_ms=time.time_ns() // 1_000_000)
        self._tally = tally
        ledger = offline.rows if offline is not None else None
        longest_open = options.settings.kafka_log.transaction_timeout_seconds + SETTLE_SLACK_SECONDS
        settle_seconds = longest_open if self._place.kafka else 0.0
        prefix = self._place.stretch.prefix
        deliveries = self._deliveries
        guests = Guests(self._tasks[0].name, deliveries.receiver, deliveries.has_row, self._note, prefix=prefix)

        def see(task: str, record: Record, ending: dict[str, Any] | Letter) -> None:
            tally.see(task, record, ending)
            guests.see_ending(task, ending)

        judge = Judge(
            log,
            self._tasks,
            ledger,
            on_ending=see,
            on_event=guests.see_event,
            start=self._place.stretch.starts(),
            settle_seconds=settle_seconds,
        )
        self._producer = Producer(log, stream.events, self._backlog, total=stream.total, sent_before=stream.sent)
        watch = Watch(
            stream.title, judge, tally, self._producer, offline,
            burst=stream.burst, pressure=self._pressure, ceiling_usd=options.ceiling_usd if options.is_live else None,
            prefix=prefix, gateway=self._entrance.url, deliveries=deliveries, guests=guests,
        )  # fmt: skip
        await watch.look()
        return watch

    def _backlog(self) -> int:
        return self._watch.backlog if self._watch is not None else 0

    async def _until_ready(self, log: EventLog, crew: Crew) -> None:
        """The stream begins when every partition has its owner: what comes earlier would only wait."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._interruption.happened and not crew.failed.done() and time.monotonic() < deadline:
            if await is_manned(log, self._tasks):
                return
            await self._interruption.wait(0.1)

    async def _play(self, watch: Watch, crew: Crew) -> bool:
        """The whole show: until every event of the stream has its ending, or somebody stops it; which of both."""
        producing = asyncio.create_task(self._producer.run(), name="producer")
        kills = Kills(crew)
        watch.begin()
        try:
            while True:
                was_sent = producing.done()
                picture = await watch.look()
                self._view.show(picture)
                if was_sent:
                    producing.result()
                    watch.end_day()
                if self._interruption.happened or watch.is_day_over or self._is_stalled(picture):
                    break
                if crew.failed.done():
                    crew.failed.result()
                if self._options.kills and (struck := kills.look(picture)):
                    watch.note(struck)
                await self._interruption.wait(LOOK_SECONDS)
        finally:
            self._producer.stop()
            await asyncio.gather(producing, return_exceptions=True)
        self._kills = crew.kills
        return self._producer.is_done and watch.is_day_over

    async def _until_delivered(self, watch: Watch, crew: Crew) -> None:
        """Database and webhooks have what is written; Slack too, if it is not long."""
        started = time.monotonic()
        while not (self._interruption.is_urgent or crew.failed.done()):
            self._view.show(await watch.look())
            lasted = time.monotonic() - started
            found, is_patient = self._deliveries.now, lasted < DIGEST_SECONDS
            if lasted > DELIVERY_SECONDS or not found.waits(DATABASE, WEBHOOK, *([SLACK] if is_patient else [])):
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _wind_up(self, watch: Watch, crew: Crew) -> Picture:
        """In order: no new events, then no new results, then what is written is delivered."""
        watch.note("stopping: what is in flight is finished, committed and delivered")
        self._view.show(await watch.look())
        await crew.stop(TAKE)
        await crew.stop(WORK)
        await self._until_delivered(watch, crew)
        await crew.stop()
        picture = await watch.look()
        # Nobody works any more: whatever was billed and stands on no record was paid for in vain.
        picture.findings.paid_again = picture.findings.unaccounted_items
        return picture

    async def _stay(self, watch: Watch, crew: Crew, stream: Stream) -> int:
        """The day is over and told; the system runs on until somebody ends it."""
        watch.note("the day is over: what is written is delivered")
        await self._until_delivered(watch, crew)
        code = self._end(await watch.look(), stream, is_finished=True, is_staying=True)
        self._place.save()
        page, self._view = Page(self._console), Silence()
        await stay(watch, crew, self._interruption, page)
        picture = await self._wind_up(watch, crew)
        print_farewell(page, picture)
        return code if self._ended.is_promised(picture) else CHECK_FAILED

    def _is_stalled(self, picture: Picture) -> bool:
        """Offline nothing stalls: who dies is started again."""
        quiet_seconds = time.time() - self._tally.last_ms / 1000
        if not self._options.is_live or quiet_seconds < STALL_SECONDS:
            return False
        self._remarks += [
            f"Nothing was answered for {quiet_seconds:.0f} s although events wait: no call is sure to fit under",
            f"the ceiling of {ceiling(self._options.ceiling_usd)} ({dollars(picture.spent_nanousd)} is spent), or the API is out of reach.",
            f"The workers' own words: {self._place.path}/*.log",
        ]
        return True

    def _end(self, picture: Picture, stream: Stream, *, is_finished: bool, is_staying: bool = False) -> int:
        self._place.stretch.is_finished = is_finished
        self._view.close()
        if self._options.input is not None and self._options.input.damage:
            self._remarks.append(self._options.input.damage)
        if self._producer.too_large:
            lines = ", ".join(str(number + 1) for number in self._producer.too_large[:5])
            more = ", …" if len(self._producer.too_large) > 5 else ""
            self._remarks.append(f"Left out, because larger than the log takes: line {lines}{more}.")
        delivery = self._options.settings.kafka_log.delivery if self._place.kafka else "exactly_once"
        commands = tuple(self._entrance.commands) if is_staying else ()
        ended = self._ended = Ended(self._place, self._kills, is_finished, tuple(self._remarks), delivery, commands)
        planted = stream.planted[: self._producer.sent] if stream.planted is not None else None
        print_summary(self._console, picture, planted, ended)
        if not ended.is_promised(picture):
            return CHECK_FAILED
        if self._interruption.happened and not is_finished:
            return INTERRUPTED
        return DONE if is_finished else FAILED

    def _greet(self, stream: Stream, log: EventLog) -> None:
        what = f"{stream.title}: goes on after {stream.sent:,} events" if stream.sent else stream.title
        who = f"the real Claude API, at most {ceiling(self._options.ceiling_usd)}"
        if not self._options.is_live:
            who = "an offline stand-in for Claude (its judgement is simulated)"
        workers = 2 * self._options.workers
        self._view.say(f"{what}. Starting {who}, {workers} workers, gateway and sinks …")
        if warning := label(log.delivery):
            self._view.say(warning)
        if self._entrance.remark:
            self._remarks.append(self._entrance.remark)
        told = [*([self._entrance.remark] if self._entrance.remark else []), "Send a review of your own while it runs:"]
        self._view.tell([*told, *(f"  {line}" for line in self._entrance.commands), ""])


def _terminal() -> Console:
    """A pipe has no width: there, as on most terminals, 80 columns."""
    found = _Terminal(highlight=False, emoji=False)
    return found if found.is_terminal else _Terminal(highlight=False, emoji=False, width=80)
