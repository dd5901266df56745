"""The consumer thread's side of a group's member: takes records, serves rebalances, joins again when it was fenced.

Kafka → [membership] → consumer
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from penstock.errors import LogError, PenstockError, UserError
from penstock.log.kafka.connection import Connection, logger
from penstock.log.kafka.faults import FORBIDDEN, MISSING, NAME_TAKEN, UNSUPPORTED, code_of, meaning, no_such_groups
from penstock.log.kafka.leaving import Leaving
from penstock.log.kafka.marks import commit_marks
from penstock.log.kafka.reader import record_of, taken
from penstock.log.kafka.slot import Slot
from penstock.log.kafka.telling import Telling
from penstock.log.kafka.waiting import Waiting
from penstock.record import Partition, Record

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from penstock.log.base import Listener
    from penstock.log.kafka.errands import Errands
    from penstock.log.kafka.held import Held
    from penstock.log.kafka.ownership import Ownership
    from penstock.log.kafka.standing import Standing, Stands
    from penstock.log.losses import Loss

    Callback = Callable[[Any, list[TopicPartition]], None]

MAX_HELD_WITHOUT_ROOM = 64
"""Records that serving rebalances may take while the engine has no room; then all partitions are paused."""
SLICE_SECONDS = 0.5
ERRAND_SLICE_SECONDS = 0.02
"""Where commits come to this thread, they wait at most so long for a call that waits for records."""


class Membership:
    """Every method but `fenced` and `come_back` runs on the consumer's thread; rebalance callbacks come out of `consume` there too."""

    def __init__(
        self,
        connection: Connection,
        settings: Mapping[str, Any],
        topics: Sequence[str],
        stands: Stands,
        ownership: Ownership,
        held: Held,
        listener: Listener,
        loop: AbstractEventLoop,
        thread: Executor,
        errands: Errands,
    ) -> None:
        self._connection, self._settings, self._topics = connection, settings, list(topics)
        self._stands, self._ownership, self._held = stands, ownership, held
        name = str(settings.get("group.instance.id", ""))
        self._slot = Slot(stands.admin, stands.group, name)
        self._waiting = Waiting(stands)
        self._leaving = Leaving(keeps_place=bool(name) and settings.get("group.protocol") != "consumer")
        self._telling, self._thread, self._errands = Telling(listener, loop, errands), thread, errands
        self._commits_here = connection.options.delivery == "at_least_once"
        self._slice_seconds = ERRAND_SLICE_SECONDS if self._commits_here else SLICE_SECONDS
        self.paused: set[Partition] = set()
        """What the engine has paused; changed on the event loop, and here when a partition goes."""
        self._consumer: Any = None
        self._failure: Exception | None = None
        """What a callback could not raise: told by every call from then on."""
        self._must_rejoin = ""
        self._is_wanted_back = False
        self._is_held_back = False
        self._rebalances = 0

    @property
    def is_telling(self) -> bool:
        """The listener is at work; no call on the consumer's thread is served until it returns."""
        return self._telling.is_going_on

    def join(self) -> None:
        """Become a member; partitions come with later calls of `take` or `serve`."""
        self._consumer = self._connection.consumer(self._settings)
        assign, revoke, lose = map(self._if_member, (self._assign, self._revoke, self._lose))
        self._consumer.subscribe(self._topics, on_assign=assign, on_revoke=revoke, on_lost=lose)

    def take(self, room: int, timeout_seconds: float) -> None:
        """Up to `room` more records into what is held, waiting for the first only."""
        self._before()
        if self._is_held_back:
            self._is_held_back = False
            self._resume(self._ownership.partitions())
        end = time.monotonic() + timeout_seconds
        while not self._keep(taken(self._consumer, room, self._slice(end))):
            self._errands.serve()
            if time.monotonic() >= end or self._is_wanted_back or self._ownership.is_stale:
                break
        self._after()

    def serve(self, timeout_seconds: float) -> None:
        """Rebalances only. librdkafka serves them where it hands out records, so a few may be taken and held."""
        self._before()
        end = time.monotonic() + timeout_seconds
        while True:
            if len(self._held) >= MAX_HELD_WITHOUT_ROOM and not self._is_held_back:
                self._is_held_back = True
                self._pause(self._ownership.partitions())
            self._keep(self._consumer.consume(1, self._slice(end)))
            self._errands.serve()
            if time.monotonic() >= end or self._is_wanted_back:
                break
        self._after()

    def look_again(self) -> None:
        """A commit waits for metadata that the broker takes."""
        if self._ownership.is_stale and self._consumer is not None:
            self._guarded(self._look_again)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Fetch nothing of these."""
        self._guarded(self._pause, partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Fetch them again."""
        if not self._is_held_back:
            self._guarded(self._resume, partitions)

    def leave(self) -> None:
        """Hand over all that is ours, then leave the group."""
        if self._commits_here and self._consumer is not None and self._is_another():
            self._ownership.is_stale = True  # inside `revoked` nobody could look again
            self._guarded(self._look_again)
        consumer = self._consumer
        self._hand_over(self._ownership.partitions())
        self._consumer = None
        if consumer is not None:
            self._leaving.leave(consumer)

    def come_back(self) -> None:
        """From any thread: a call that waits for records returns soon, because the consumer is to be closed."""
        self._is_wanted_back = True

    def fenced(self, reason: str) -> None:
        """From the committer, which holds the ownership's lock: nothing is ours any more; join again."""
        lost = self._ownership.remove(self._ownership.partitions())
        self._thread.submit(self._guarded, self._rejoin, lost, reason)

    def commit_marks(self, marks: Sequence[TopicPartition]) -> None:
        """Progress without a transaction. The coordinator checks the member; that it is still the one to whom these
        partitions were given, we check: to a member that left an empty group it would say yes.
        """
        if self._consumer is None or self._is_another():
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
        commit_marks(self._consumer, marks)

    def _is_another(self) -> bool:
        """The group has moved on since our metadata was taken."""
        return bool(self._consumer.consumer_group_metadata() != self._ownership.metadata)

    def _slice(self, end: float) -> float:
        return max(0.0, min(self._slice_seconds, end - time.monotonic()))

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        """For calls whose result nobody waits for: what they raise, the next call raises."""
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001
            self._failure = error

    def _before(self) -> None:
        if self._consumer is None:
            raise LogError("this consumer is closed")
        self._raise_failure()
        self._take_up()

    def _take_up(self) -> None:
        """Partitions that waited for a transaction of a dead worker begin where it left them."""
        try:
            standings = self._waiting.settled()
            self._persist(self._consumer, standings)
            for standing in standings:
                partition, done = standing.assignment.partition, standing.assignment.done
                self._consumer.seek(TopicPartition(partition.topic, partition.number, done.base))
        except UserError as error:
            self._failure = error
            return
        except (PenstockError, KafkaException) as error:
            self._must_rejoin = f"where the group stands could not be read: {error}"
            return
        self._ownership.add({s.assignment.partition: s.owned for s in standings})
        self._telling.passed([s.loss for s in standings if s.loss])
        self._telling.assigned([s.assignment for s in standings])
        if not self._is_held_back:
            self._resume([s.assignment.partition for s in standings])

    def _after(self) -> None:
        if self._ownership.is_stale:
            self._look_again()
        if self._must_rejoin and not self._slot.is_resting:
            reason, self._must_rejoin = self._must_rejoin, ""
            self._rejoin([], reason)
        self._raise_failure()

    def _raise_failure(self) -> None:
        failure = self._failure or self._telling.failure
        if failure is not None:
            raise failure

    def _keep(self, messages: list[Any]) -> int:
        records: list[Record] = []
        owned = self._ownership
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(error, message)
            elif (message.topic(), message.partition()) in owned:
                records.append(record_of(message))
        if records:
            self._held.add(records)
        return len(records)

    def _note(self, error: KafkaError, message: Any) -> None:
        where = f"reading {message.topic()}/{message.partition()}" if message.topic() else "reading"
        code = code_of(error)
        if code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            self._out_of_range(Partition(message.topic(), message.partition()), error)
        elif code in UNSUPPORTED and self._settings.get("group.protocol") == "consumer":
            self._failure = no_such_groups(self._connection)
        elif code in MISSING or code in FORBIDDEN or code in UNSUPPORTED:
            self._failure = meaning(error, where, self._connection)
        elif code in NAME_TAKEN:
            self._failure = self._slot.refused(code)
            self._must_rejoin = error.str()
        elif error.fatal() or code == KafkaError._FATAL:  # noqa: SLF001
            self._must_rejoin = error.str()
        else:
            logger.warning("%s: %s", where, self._connection.redacted(error.str()))

    def _out_of_range(self, partition: Partition, error: KafkaError) -> None:
        """Retention has passed where we read: what we had not read is lost, what we are asking about is not."""
        if partition not in self._ownership:
            return
        place = TopicPartition(partition.topic, partition.number)
        try:
            read_to = max(self._consumer.position([place])[0].offset, self._ownership[partition].done.base)
            low, loss = self._stands.loss(partition, self._ownership[partition].done.from_offset(read_to))
            if low <= read_to:  # the topic is shorter than where we read: made again, or its newest records lost
                self._stands.of([partition])
                self._must_rejoin = error.str()
                return
            self._pass([loss] if loss else [])
            self._begin_at(TopicPartition(partition.topic, partition.number, low))
        except UserError as told:
            self._failure = told
        except (PenstockError, KafkaException) as weather:
            self._must_rejoin = (
                f"{error.str()}; where {partition.topic}/{partition.number} begins could not be read: {weather}"
            )

    def _begin_at(self, place: TopicPartition) -> None:
        """librdkafka has stopped fetching it, and seeks only in what it fetches. The group hears nothing of this."""
        self._consumer.incremental_unassign([place])
        self._consumer.incremental_assign([place])
        if self._is_held_back or (place.topic, place.partition) in self.paused:
            self._consumer.pause([place])

    def _pass(self, losses: Sequence[Loss]) -> None:
        self._stands.judge(losses)
        self._telling.passed(losses)

    def _if_member(self, call: Callback) -> Callback:
        def served(consumer: Any, partitions: list[TopicPartition]) -> None:
            if consumer is self._consumer:
                self._rebalances += 1
                call(consumer, partitions)
            else:
                self._leaving.serve()

        return served

    def _assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        names = [Partition(tp.topic, tp.partition) for tp in partitions]
        try:
            held = self._stands.unsettled(names)
            standings = self._stands.of([p for p in names if p not in held])
            self._persist(consumer, standings)
        except UserError as error:
            self._failure = error
            return
        except (PenstockError, KafkaException) as error:
            self._must_rejoin = f"where the group stands could not be read: {error}"
            return
        self._ownership.add({s.assignment.partition: s.owned for s in standings})
        self._ownership.renew(consumer.consumer_group_metadata())
        assigned = [s.assignment for s in standings]
        places = [TopicPartition(a.partition.topic, a.partition.number, a.done.base) for a in assigned]
        consumer.incremental_assign(places + [TopicPartition(p.topic, p.number, 0) for p in held])
        if held:
            consumer.pause([TopicPartition(p.topic, p.number) for p in held])
            self._waiting.add(held)
        if self._is_held_back:
            self._pause(names)
        self._telling.passed([s.loss for s in standings if s.loss])
        self._telling.assigned(assigned)

    def _revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._ownership.renew(consumer.consumer_group_metadata())
        names = [Partition(tp.topic, tp.partition) for tp in partitions]
        self._waiting.drop(names)
        self._hand_over(names)
        consumer.incremental_unassign(partitions)

    def _lose(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        names = [Partition(tp.topic, tp.partition) for tp in partitions]
        self._waiting.drop(names)
        lost = self._ownership.remove(names)
        self._forget(lost)
        consumer.incremental_unassign(partitions)

    def _persist(self, consumer: Any, standings: list[Standing]) -> None:
        """Starts are committed at once: a crash before the first result must not skip what came meanwhile."""
        new = {s.assignment.partition: s.begins for s in standings if s.begins}
        if new:
            marks = [TopicPartition(*s.assignment.partition, *s.owned.committed) for s in standings if s.begins]
            commit_marks(consumer, marks)
        self._stands.starts.remember(new)

    def _hand_over(self, partitions: list[Partition]) -> None:
        """The engine may finish and commit until its deadline; then they are gone."""
        ours = [p for p in partitions if p in self._ownership]
        self._telling.revoked(ours, self._connection.options.revoke_seconds)
        self._ownership.remove(ours)
        self._held.drop(frozenset(ours))
        self.paused.difference_update(ours)

    def _forget(self, partitions: list[Partition]) -> None:
        self._held.drop(frozenset(partitions))
        self.paused.difference_update(partitions)
        self._telling.lost(partitions)

    def _rejoin(self, lost: list[Partition], reason: str) -> None:
        """A new member instead of this one, which the group or the coordinator does not accept any more."""
        if self._consumer is None:
            return
        level = logging.DEBUG if self._slot.is_contested else logging.WARNING
        logger.log(level, "joining group %s again: %s", self._stands.group, self._connection.redacted(reason))
        old, self._consumer = self._consumer, None
        self._waiting.clear()
        self._forget(lost + self._ownership.remove(self._ownership.partitions()))
        self._leaving.leave(old)
        self._is_held_back = False
        self.join()

    def _look_again(self) -> None:
        """Fresh metadata, believed only where no rebalance was waiting to be served when it was taken.

        With everything paused, what is left in librdkafka's queue are rebalances: those of before the metadata are
        served first and those that came with it right after.
        """
        mine = self._ownership.partitions()
        self._pause(mine)
        self._keep(self._consumer.consume(1, 0.05))
        before, metadata = self._rebalances, self._consumer.consumer_group_metadata()
        self._keep(self._consumer.consume(1, 0.05))
        if self._rebalances == before and self._consumer.memberid() and self._ownership.is_stale:
            self._ownership.renew(metadata)
        if not self._is_held_back:
            self._resume(self._ownership.partitions())

    def _pause(self, partitions: Sequence[Partition]) -> None:
        ours = [TopicPartition(p.topic, p.number) for p in partitions if p in self._ownership]
        if ours and self._consumer is not None:
            self._consumer.pause(ours)

    def _resume(self, partitions: Sequence[Partition]) -> None:
        ours = [TopicPartition(p.topic, p.number) for p in partitions if p in self._ownership and p not in self.paused]
        if ours and self._consumer is not None:
            self._consumer.resume(ours)
