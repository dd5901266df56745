"""What the engine must remember beyond a restart: records of one compacted topic, written through `Progress`.

checkpoint → [state] → log (penstock-state) → workers that start or take over

Key: a JSON array `[task, kind, id]`. Value: a JSON object, or null to forget. Kinds:
  * `start`: a partition that a group has begun; id = topic and partition, value = the topic's id and width then;
  * `waste`: money spent that no result or dead letter carries (a late answer of a lost partition);
    id = the API's request id and the item, value = what was spent and why;
  * `loss`: offsets that retention deleted unread; id = partition and range;
  * `pause`: a person's order that a sink shall wait; task = the sink's group, id empty, value = since when;
  * `redeliver`: a person's order to deliver again; task = the sink's group, id empty, value = its id and from when;
  * `redelivered`: how far that is done; task = the sink's group, id = topic and partition, value = its id, next and end;
  * `alarm`: what a sink has told people on call; task = the sink's group, id = of what, value = how far;
  * `spend`: what one run of a worker has claimed and spent of the budget, by period; id = run and model.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import orjson

from penstock.errors import LogDamaged
from penstock.record import NewRecord, Record

STATE_TOPIC = "penstock-state"

StateKind = Literal["start", "waste", "loss", "spend", "pause", "redeliver", "redelivered", "alarm"]


class State(NamedTuple):
    """One thing remembered; `value` is None where it was forgotten."""

    task: str
    kind: str
    id: str
    value: dict[str, Any] | None


def state_record(task: str, kind: StateKind, id: str, value: dict[str, Any] | None) -> NewRecord:  # noqa: A002 - the key's own word
    """The record that makes it so."""
    if kind not in get_args(StateKind):
        raise ValueError(f"no such kind of state: {kind!r}; known are {', '.join(get_args(StateKind))}")
    return NewRecord(STATE_TOPIC, orjson.dumps([task, kind, id]), None if value is None else orjson.dumps(value))


def read_state(record: Record) -> State:
    """Read it back. A kind that this version does not know is returned as it is: it may be a newer one's."""
    try:
        task, kind, id_ = orjson.loads(record.key or b"")
        value = None if record.value is None else orjson.loads(record.value)
        if not all(isinstance(part, str) for part in (task, kind, id_)) or not isinstance(value, dict | None):
            raise ValueError("key is not [task, kind, id] or value is not an object")
    except (ValueError, TypeError) as error:
        raise LogDamaged(
            f"{record.topic}/{record.partition} offset {record.offset} is no state record ({error}): "
            f"something else writes to {STATE_TOPIC}; stop it and delete that record's key"
        ) from error
    return State(task, kind, id_, value)
