"""Reads records as items of one task, and only as many as there is room for.

log → [intake] → batcher → cascade
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import PydanticSerializationError

from penstock.codecs.base import decode as decode_by_content_type
from penstock.codecs.base import event_id_of
from penstock.codecs.text import clean, estimate_tokens
from penstock.engine.cascade import Ending, Skipped
from penstock.engine.isolation import looks_like_instructions
from penstock.engine.publish import remember, unwrap
from penstock.errors import Skip
from penstock.outcome import Failure
from penstock.record import Partition, Record
from penstock.tier import Item

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from penstock.engine.checkpoint import Checkpoint
    from penstock.log.base import Consumer
    from penstock.task import Task


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much may be in flight in one worker for one task; Kafka is the buffer for the rest (law 10)."""

    max_items: int = 15_000
    max_bytes: int = 64 * 1024 * 1024
    max_poll_records: int = 2_000
    max_per_key: int = 1_000
    """With `order="key"`: offsets of one key in flight before its partition is paused."""


class Intake:
    """Turns records into items and tracks them; says how many more may be read."""

    def __init__(self, task: Task[Any, Any], checkpoint: Checkpoint[Ending], limits: IntakeLimits) -> None:
        self._task = task
        self._checkpoint = checkpoint
        self._limits = limits
        self._decode = task.decode or decode_by_content_type
        self._suspicious = task.suspicious or looks_like_instructions
        self._items_of: Counter[Partition] = Counter()
        self._bytes = 0
        self._mean_bytes = 500.0
        self._paused: dict[Partition, str] = {}
        self._shown = {name for name in task.input.model_fields if task.show is None or name in task.show}

    def room(self) -> int:
        """How many records may be read now."""
        items = self._limits.max_items - self._checkpoint.in_flight()
        by_bytes = (self._limits.max_bytes - self._bytes) / self._mean_bytes
        # One record is always let in, however large: nothing is too big to move.
        least = 1 if self._checkpoint.in_flight() == 0 else 0
        return max(least, min(items, int(by_bytes), self._limits.max_poll_records))

    def read(self, records: Iterable[Record], leaving: Container[Partition] = ()) -> tuple[list[Item], list[Ending]]:
        """The items to be asked, and the endings of records that need no asking."""
        items: list[Item] = []
        endings: list[Ending] = []
        now_ms = time.time_ns() // 1_000_000
        for record in records:
            partition = Partition(record.topic, record.partition)
            if partition in leaving or not self._checkpoint.track(partition, record.offset, record.key):
                continue
            size = record.size
            self._bytes += size
            self._mean_bytes += (size - self._mean_bytes) * 0.01
            item, outcome = self._item(record, partition)
            item.taken_ms = now_ms
            item.epoch = self._checkpoint.epoch(partition)
            if outcome is None:
                items.append(item)
            else:
                endings.append(Ending(item, outcome))
        return items, endings

    def release(self, item: Item) -> None:
        """The item is no longer in memory."""
        self._bytes -= item.record.size

    def hold_back(self, consumer: Consumer) -> None:
        """Pause partitions whose map or whose keys have no room, resume those that have it again."""
        for partition in self._checkpoint.partitions():
            why = self._why_full(partition, consumer.max_metadata_bytes)
            if why and partition not in self._paused:
                consumer.pause([partition])
                self._paused[partition] = why
            elif not why and partition in self._paused:
                consumer.resume([partition])
                del self._paused[partition]

    def forget(self, partitions: Iterable[Partition]) -> None:
        """They are no longer ours."""
        for partition in partitions:
            self._paused.pop(partition, None)

    @property
    def paused(self) -> dict[Partition, str]:
        """Partitions that are not read now, and why: `offset_map` or `key_order`."""
        return dict(self._paused)

    def _why_full(self, partition: Partition, max_metadata_bytes: int) -> str:
        # Base64 of the plain bits is the longest that the map can get; one more poll may land in this partition whole.
        if (self._checkpoint.span(partition) + self._limits.max_poll_records) // 6 + 100 > max_metadata_bytes:
            return "offset_map"
        if self._task.order == "key" and self._checkpoint.longest_key(partition) >= self._limits.max_per_key:
            return "key_order"
        return ""

    def _item(self, record: Record, partition: Partition) -> tuple[Item, Failure | Skipped | None]:
        """Decode one record; what stops it is told as its outcome."""
        event = record
        memory: dict[str, str] = {}
        if record.topic == self._task.retry_topic:
            try:
                event, memory = unwrap(record)
            except (KeyError, ValueError) as error:
                return Item(record, partition, "", None, "", 0), Failure(
                    "undecodable", f"no hand-over of Penstock: {error!r}"
                )
        item = Item(event, partition, _position_id(event), None, "", 0)
        item.offset = record.offset
        outcome = self._fill(item, event)
        if memory:
            remember(item, memory, len(self._task.route.steps))
            item.not_before_ms = int(memory["not-before"])
        return item, outcome

    def _fill(self, item: Item, event: Record) -> Failure | Skipped | None:
        if event.value is None:
            return Skipped("tombstone")
        try:
            item.event_id = event_id_of(event) or item.event_id
            item.input = self._decode(event, self._task.input)
            item.event_id = self._event_id(item.input, event) or item.event_id
        except Skip as skip:
            return Skipped(str(skip) or "skipped by decode")
        except ValueError as error:
            return Failure("undecodable", str(error))
        except Exception as error:  # noqa: BLE001 - a user's hook may raise anything; the partition goes on
            return Failure("hook_failed", f"decode or event_id raised {type(error).__name__}")
        return self._show(item)

    def _show(self, item: Item) -> Failure | Skipped | None:
        """What the model will see: one JSON value on one line."""
        try:
            # Line ends of other scripts become newlines: in the wire format an event is one line.
            item.text = clean(self._render(item.input)).replace("\n", " ")
        except Skip as skip:
            return Skipped(str(skip) or "skipped by render")
        except (TypeError, ValueError, PydanticSerializationError, orjson.JSONEncodeError) as error:
            return Failure("hook_failed", f"render gave no JSON value: {type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - likewise
            return Failure("hook_failed", f"render raised {type(error).__name__}")
        item.tokens = estimate_tokens(item.text)
        if item.tokens > self._task.max_event_tokens:
            return Failure(
                "too_large",
                f"about {item.tokens} tokens, the task takes {self._task.max_event_tokens} (max_event_tokens)",
            )
        item.suspicious = self._suspicious(item.text)
        return None

    def _render(self, value: Any) -> str:
        if self._task.render is not None:
            return orjson.dumps(self._task.render(value)).decode()
        serializer = value.__pydantic_serializer__
        return str(serializer.to_json(value, include=self._shown, exclude_none=True), "utf-8")

    def _event_id(self, value: Any, event: Record) -> str:
        wanted = self._task.event_id
        if callable(wanted):
            return str(wanted(value, event))
        if wanted:
            return str(getattr(value, wanted) or "")
        return str(getattr(value, "event_id", None) or getattr(value, "id", None) or "")


def _position_id(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
