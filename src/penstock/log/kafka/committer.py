"""Writes results and progress in one Kafka transaction, on its own thread; finds out what became of a commit that broke off.

checkpoint → [committer] → Kafka
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from penstock.errors import LogError, LogUnavailable, PartitionsLost, PenstockError, SettingsError, TopicMissing
from penstock.log.kafka import faults
from penstock.log.kafka.act import Act, check_sizes, composed, records_of
from penstock.log.kafka.connection import Connection, logger
from penstock.log.kafka.hanging import STUCK_SECONDS, Hanging, metadata_of_nobody, taken_back, undo
from penstock.log.kafka.writing import Report, produce
from penstock.record import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from penstock.log.base import Progress
    from penstock.log.kafka.admin import Admin
    from penstock.log.kafka.ownership import Owned, Ownership
    from penstock.log.kafka.reader import Reader
    from penstock.record import NewRecord, Position

RETRY_WAIT_SECONDS = 0.05
STABLE_SLACK_SECONDS = 20.0
"""Beyond the transaction's time-out: the coordinator looks for transactions to abort every ten seconds."""

OFFSETS_SECONDS = 5.0
"""librdkafka may wait in vain for a group coordinator whose broker is gone (its issue 5511): then a new producer looks for it.
Doubled while it does not help, up to the commit's time-out: a slow cluster gets its time."""


class OldGeneration(LogUnavailable):
    """The group has moved on since our metadata was taken; once a poll has looked what is ours, the same commit may pass."""


class Committer:
    """One transactional producer. Every method but `stop` runs on the committer's thread."""

    def __init__(
        self,
        connection: Connection,
        admin: Admin,
        reader: Reader,
        ownership: Ownership,
        *,
        group: str,
        transactional_id: str,
        on_fenced: Callable[[str], None],
    ) -> None:
        self._connection, self._admin, self._reader, self._ownership = connection, admin, reader, ownership
        self._group, self._transactional_id, self._on_fenced = group, transactional_id, on_fenced
        self._options = connection.options
        self._hanging = Hanging(admin, group)
        self._producer: Any = None
        self._report = Report()
        self._latest: list[tuple[Act, Report]] = []
        """The act that was written last, and those before it since trouble began: commits are answered before their marks are there."""
        self._owed: list[NewRecord] = []
        """Records of acts that are committed, which the cluster has taken back all the same: they go with the next act."""
        self._owed_progress: dict[Partition, Owned] = {}
        self._troubles = 0
        """How many there had been when it was looked whether the latest acts stand."""
        self._tidy: set[str] = set()
        """Topics in which this producer's predecessors left nothing open."""
        self._unseen: set[str] = set()
        """Topics that we may not read; told once."""
        self._is_stopping = False
        self._offsets_seconds = OFFSETS_SECONDS

    def start(self) -> None:
        """Take over our transactional id: whoever had it can write no more, and progress that it left open is undone."""
        self._begin()
        self._undo_open(())

    def _begin(self) -> None:
        """A producer of our transactional id: what a predecessor left open is finished, and it can write no more."""
        producer = self._connection.producer(
            {
                "transactional.id": self._transactional_id,
                "transaction.timeout.ms": int(self._options.transaction_timeout_seconds * 1000),
                "linger.ms": 0,
            }
        )
        try:
            self._insist(producer.init_transactions)
        except KafkaException as error:
            raise self._meaning(error.args[0], "starting a transactional producer") from error
        self._producer = producer
        self._tidy.clear()
        self._troubles = -1

    def commit(self, progress: Progress) -> None:
        """All of it in one act, or an exception and nothing of it."""
        records = records_of(progress)
        check_sizes(records, self._options.max_record_bytes)
        self._admin.require_topics({record.topic for record in records})
        with self._ownership.lock:
            act = composed(progress, self._ownership)
            if not act.records and not act.progress:
                return
            self._write(act)
            self._ownership.note_committed(act.progress)

    def stop(self) -> None:
        """From any thread: a look-up of an unknown outcome is given up."""
        self._is_stopping = True

    def close(self) -> None:
        """Give back the producer."""
        if self._owed:
            logger.error("%d records that the cluster took back could not be written again", len(self._owed))
        self._discard()

    def _write(self, act: Act) -> None:
        if self._producer is None:
            self._begin()
        else:
            self._serve_reports()  # also renews a token that ended while nothing was written
        self._tidy_up(act)
        if self._owed or self._owed_progress:
            progress = self._still_ours(self._owed_progress) | act.progress
            act = act._replace(records=self._owed + act.records, progress=progress)
        self._report = report = Report()
        try:
            self._producer.begin_transaction()
            produce(self._producer, act.records, report, self._options.transaction_timeout_seconds)
            if act.progress:
                metadata, offsets = self._ownership.metadata, act.offsets
                self._insist(
                    lambda seconds: self._producer.send_offsets_to_transaction(offsets, metadata, seconds),
                    self._offsets_seconds,
                )
                self._offsets_seconds = OFFSETS_SECONDS
        except (KafkaException, BufferError) as error:
            self._give_up(error_of(error), act)
        try:
            self._insist(self._producer.commit_transaction)
        except KafkaException as error:
            self._settle(error.args[0], act)
        if self._producer is not None:
            self._serve_reports()
        self._owed, self._owed_progress = [], {}
        if self._troubles == self._connection.troubles:
            self._latest.clear()
        self._latest.append((act, report))
        self._reader.expect(report.positions)

    def _tidy_up(self, act: Act) -> None:
        """After trouble: what was written before stands, and nothing else of ours is open where this act will write."""
        if self._troubles != (troubles := self._connection.troubles):
            stand = True
            while self._latest:
                stand = self._stands(*self._latest[0]) and stand
                del self._latest[0]
            if not stand:
                self._on_fenced("the cluster took back what it had said was committed")
                mine = list(act.progress)
                raise (
                    PartitionsLost(mine)
                    if mine
                    else LogUnavailable(f"commit ({self._transactional_id}): joining again")
                )
            self._troubles = troubles
        if act.progress and (topics := {record.topic for record in act.records} - self._tidy):
            self._undo_open(topics)
            self._tidy |= topics

    def _stands(self, act: Act, report: Report) -> bool:
        """Whether an act whose commit was answered is there, or will be with the next one; not, where none of it is.

        A broker that dies just then has marked all of its partitions, some or none. What it has not marked cannot be told from what
        is another's while both are open: so ours is undone first, and then looked at.
        """
        stuck = self._undo_open({record.topic for record in act.records})
        seen = self._seen(report)
        gone = [place for place, is_visible in seen.items() if is_visible is False]
        unknown = [place[:2] for place, is_visible in seen.items() if is_visible is None and place[:2] in stuck]
        is_behind = bool(act.changed) and not self._stands_where(act, STUCK_SECONDS)
        behind = self._still_ours(act.progress) if is_behind else {}
        if unknown and (gone or behind):
            where = ", ".join(f"{topic}/{number}" for topic, number in unknown)
            raise LogUnavailable(
                f"a commit was taken back; by how much will be seen when nobody's transaction is open in {where}"
            )
        if is_behind and True not in seen.values():
            return not behind  # where others have its partitions by now, they answer its events
        if gone:
            self._owed += taken_back(self._connection, act.records, report, gone)
            logger.warning(
                "%d records of a commit were taken back by the cluster: they are written again", len(self._owed)
            )
        self._owed_progress |= behind
        return True

    def _seen(self, report: Report) -> dict[Position, bool | None]:
        """Whether readers see an act in each partition that it wrote to, once they get so far; None where they do not in time."""
        give_up = time.monotonic() + self._options.transaction_timeout_seconds + STABLE_SLACK_SECONDS
        return {
            place: self._is_visible([place], max(0.0, give_up - time.monotonic()))
            for place in report.one_of_each_partition
        }

    def _still_ours(self, progress: Mapping[Partition, Owned]) -> dict[Partition, Owned]:
        """What of an earlier act's progress is ours and has not moved on since."""
        owned = self._ownership
        return {p: mark for p, mark in progress.items() if p in owned and owned[p].committed == mark.committed}

    def _undo_open(self, topics: Iterable[str]) -> list[Partition]:
        """Undo what transactions of our id left open in these topics and on our progress, though they are said to be over.

        Returns the partitions of these topics where anything was open, anybody's.
        """
        if self._producer is None:
            self._begin()
        records, progress = self._hanging.records(topics), self._hanging.progress()
        if not records and not progress:
            return []
        logger.warning(
            "a transaction is open in %s: what of it is ours is undone",
            ", ".join(f"{p.topic}/{p.number}" for p in sorted({*records, *progress})),
        )
        metadata = self._ownership.metadata or metadata_of_nobody(self._connection, self._group)
        try:
            undo(self._producer, records, progress, metadata, self._insist, self._options.commit_timeout_seconds)
        except (KafkaException, BufferError) as error:
            self._discard()
            raise self._meaning_of_weather(error_of(error)) from error
        return records

    def _give_up(self, error: KafkaError, act: Act) -> None:
        """It broke before the commit was asked for: nothing of it can become visible. Always raises."""
        if error.code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - a new producer of this id undoes it, with fresh eyes
            self._offsets_seconds = min(2 * self._offsets_seconds, self._options.commit_timeout_seconds)
            self._discard()
        else:
            self._abort(error)
        raise self._consequence(error, act)

    def _settle(self, error: KafkaError, act: Act) -> None:
        """The commit was asked for and broke: returns where it happened nevertheless, raises where it did not."""
        if (refused := self._report.error) is not None:  # a record was not written, so the commit was never sent
            # What librdkafka threw away itself it did for the transaction's own fault.
            self._give_up(error if refused.code() in faults.THROWN_AWAY else refused, act)
        logger.warning("commit of %s broke off (%s): looking what is committed", self._transactional_id, error)
        if error.code() in faults.FENCED:
            self._discard()
        else:
            self._take_over()
        if not self._was_written(act, self._report):
            raise self._consequence(error, act)
        if error.code() in faults.FENCED:
            self._on_fenced(error.str())

    def _take_over(self) -> None:
        """A new producer of the same id: once it has started, the open transaction is either done or undone."""
        self._discard()
        while self._producer is None:
            try:
                self._begin()
            except LogUnavailable as error:
                if self._is_stopping:
                    raise LogError(f"closed while the outcome of a commit was unknown: {error}") from error
                time.sleep(RETRY_WAIT_SECONDS)

    def _was_written(self, act: Act, report: Report) -> bool:
        """Its records tell it, whoever owns its partitions by now. Only where they cannot does the group's progress.

        A worker may sleep between its commit and this look. The next owner has moved the group on meanwhile, or has stopped
        at the very place where we wanted to be, with answers of its own: by progress alone what happened would seem not to
        have, and what did not would seem to. Both would break law 9.
        """
        wait = self._options.transaction_timeout_seconds + STABLE_SLACK_SECONDS
        while True:
            try:
                return self._is_written(act, report, wait)
            except LogUnavailable as error:
                if self._is_stopping:
                    raise LogError(f"closed while the outcome of a commit was unknown: {error}") from error
                time.sleep(RETRY_WAIT_SECONDS)

    def _is_written(self, act: Act, report: Report, wait: float) -> bool:
        if not act.records:  # nothing was paid for, and the same again does no harm
            self._undo_open(())
            return self._stands_where(act, wait)
        if report.last is None:  # then the commit was never sent
            return False
        if self._is_visible(report.one_of_each_topic, STUCK_SECONDS):
            return True
        # Where anything of ours hangs it is undone; where a part of the act is marked all of it counts, and the rest is written again.
        self._undo_open({record.topic for record in act.records})
        seen = self._seen(report).values()
        return True in seen or (False not in seen and self._stands_where(act, wait))

    def _is_visible(self, positions: Sequence[Position], wait: float) -> bool | None:
        """Whether committed readers see an act's records; None where not one of these can tell.

        Not only one topic's: results may be closed to us or deleted by now, and compaction may have taken what another replaced.
        """
        is_visible = None
        for position in positions:
            try:
                seen = self._reader.has_committed(position, wait)
            except (SettingsError, TopicMissing) as error:
                level = logging.DEBUG if position.topic in self._unseen else logging.WARNING
                logger.log(level, "what became of a commit cannot be seen in topic %s: %s", position.topic, error)
                self._unseen.add(position.topic)
                continue
            if seen:
                return True
            is_visible = is_visible if seen is None else False
        return is_visible

    def _stands_where(self, act: Act, wait: float) -> bool:
        """Whether the group's progress is the act's own, in any partition that it moves."""
        found = self._admin.committed(self._group, sorted(act.changed), wait)
        return any(found.get(p) == act.progress[p].committed for p in act.changed)

    def _consequence(self, error: KafkaError, act: Act) -> PenstockError:
        """What the engine is told when nothing was written."""
        code = error.code()
        if code in faults.FENCED or code in faults.NOT_A_MEMBER:
            mine = list(act.progress) or self._ownership.partitions()
            self._on_fenced(error.str())
            return PartitionsLost(mine) if act.progress else self._meaning_of_weather(error)
        if code in faults.OLD_GENERATION:
            self._ownership.is_stale = True
            return OldGeneration(f"commit ({self._transactional_id}): the group is rebalancing ({error.str()})")
        if code in faults.LOGIN:  # this producer was let in when it started
            return self._meaning_of_weather(error)
        return self._meaning(error, "commit")

    def _meaning(self, error: KafkaError, doing: str) -> PenstockError:
        return faults.meaning(error, f"{doing} ({self._transactional_id})", self._connection)

    def _meaning_of_weather(self, error: KafkaError) -> PenstockError:
        return LogUnavailable(f"commit ({self._transactional_id}): {self._connection.redacted(error.str())}")

    def _abort(self, error: KafkaError) -> None:
        """Undo it now, so that readers need not wait; then a new producer, except where the group alone said no."""
        if not error.fatal() and error.code() not in faults.FENCED:
            try:
                self._insist(self._producer.abort_transaction)
                self._serve_reports()
            except KafkaException as refused:
                logger.info("abort of %s failed (%s): a new producer will do it", self._transactional_id, refused)
                self._discard()
        if error.code() not in faults.OLD_GENERATION:
            self._discard()

    def _discard(self) -> None:
        """Let it go. Its own `close` would try to abort and warn; a successor of its id has to clear up anyway."""
        self._producer = None

    def _serve_reports(self) -> None:
        try:
            self._producer.poll(0)
        except KafkaException as error:  # fatal, and told again by the next transaction
            logger.info("producer of %s: %s", self._transactional_id, error)

    def _insist(self, call: Callable[[float], Any], within_seconds: float | None = None) -> None:
        """Repeat what librdkafka says may be repeated, up to the commit's time-out."""
        end = time.monotonic() + (within_seconds or self._options.commit_timeout_seconds)
        while True:
            try:
                call(max(0.1, end - time.monotonic()))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > end:
                    raise
                time.sleep(RETRY_WAIT_SECONDS)
            else:
                return


def error_of(error: KafkaException | BufferError) -> KafkaError:
    """What a client raised, as Kafka's own error."""
    return error.args[0] if isinstance(error, KafkaException) else KafkaError(KafkaError._QUEUE_FULL)  # noqa: SLF001
