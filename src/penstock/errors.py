"""Exceptions: our faults, the user's mistakes and the weather. What an *item* ends in is an `Outcome`, never an exception.

PenstockError
  x UserError               the user can mend it; the message says what to write instead (exit code 2, never a traceback)
    + SettingsError         a setting, file or argument
    + TaskError             a `Task` that cannot work as declared
    + TopicMissing          a topic that nobody made
    + LogDamaged            a log that cannot be read or belongs to something else
    + RecordsLost           retention deleted records that a group had not read
    + ProgressLost          the offsets of a group expired or were deleted
  x LogError                the log refused or could not be reached
    + LogUnavailable        weather: ask again with the same `Progress`
    + PartitionsLost        another worker owns them now: leave their part out
    + RecordTooLarge        can never be written: its size was not checked before
  x CodecUnavailable        weather: what decoding needs (a schema) cannot be had now; intake waits
  x SinkAway                weather: a sink cannot be reached now, or wants us to wait; the same deliveries come again
  x TierStopped             no call can succeed until a person acts (wrong key, unknown model)
    + BudgetSpent           a ceiling with `at_ceiling = "stop"` is reached (exit code 4)
Skip                        raised by a user's hook: this event wants no answer; it is counted and passed
  + Erase                   and what was made of its subject before is to be deleted

every layer → [errors] → cli (exit code), the caller
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.log.losses import Loss
    from penstock.record import Partition


class PenstockError(Exception):
    """Anything that Penstock itself raises."""


class UserError(PenstockError):
    """A mistake that the user can mend; the text says how."""


class SettingsError(UserError):
    """A setting, file or argument is wrong; the text names it."""


class TaskError(UserError):
    """A task cannot work as declared; the text says what to write instead."""


class TopicMissing(UserError):
    """A topic does not exist; the text names it and the command that makes it."""


class LogDamaged(UserError):
    """The log's file or metadata cannot be believed; nothing was changed."""


class RecordsLost(UserError):
    """Retention deleted records before a group had read them; the text names the ranges and the option to go on."""

    def __init__(self, text: str, losses: Iterable[Loss] = ()) -> None:
        super().__init__(text)
        self.losses = tuple(losses)


class ProgressLost(UserError):
    """A group's committed offsets are gone; the text names group and partitions and the command that says where to go on."""


class LogError(PenstockError):
    """The log refused or could not be reached."""


class LogUnavailable(LogError):
    """Weather: nothing was written. Commit the same `Progress` again."""


class PartitionsLost(LogError):
    """Another worker owns these partitions: nothing of the `Progress` was written; commit again without them."""

    def __init__(self, partitions: Iterable[Partition]) -> None:
        self.partitions = frozenset(partitions)
        named = ", ".join(f"{p.topic}/{p.number}" for p in sorted(self.partitions))
        super().__init__(f"partitions owned by another worker now: {named}")


class RecordTooLarge(LogError):
    """One record is larger than the log takes; the text names topic, size and limit."""


class CodecUnavailable(PenstockError):
    """Weather: what a codec needs cannot be fetched now. Nothing is wrong with the events; the text names the setting."""


class SinkAway(PenstockError):
    """Weather: a sink takes nothing now. No attempt is used up; the same deliveries are offered again.

    `delivered` names those of the batch that need not be offered again. Without `after_seconds` the loop backs off by itself.
    """

    def __init__(self, reason: str, after_seconds: float | None = None, *, delivered: Iterable[object] = ()) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.delivered = tuple(delivered)


class TierStopped(PenstockError):
    """No call of this tier can succeed until a person acts; the text says what to do."""


class BudgetSpent(TierStopped):
    """A ceiling is reached and the settings say to stop there; the text names it and when its period ends."""


class Skip(Exception):
    """Raise it in a hook of a task: the event wants no answer. It is counted as skipped and never paid for."""


class Erase(Skip):
    """Raise it in a hook of a task: the event deletes its subject, and what the task made of it before must go.

    `Erase("withdrawn by its writer", subject=review_id)`. Without `subject` the event's own is meant, which must have been
    read by then: see `Task.subject`. `why` stands on the tombstone; it must hold no text of the event.
    """

    def __init__(self, why: str = "", *, subject: str = "") -> None:
        super().__init__(why)
        self.subject = subject
