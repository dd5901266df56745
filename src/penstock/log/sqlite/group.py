"""The acts of a group member, each one transaction: join, beat, take, give back, commit, leave.

consumer → [group] → leases and members in the file

A partition has one lease: owner, epoch, and how far the group is. Taking it raises the epoch; a commit compares owner
and epoch inside its own transaction, so a worker that was stopped and resumed writes nothing (law 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import orjson

from penstock.errors import LogDamaged, PartitionsLost, SettingsError
from penstock.log.base import Assignment
from penstock.log.losses import Loss, unread_loss
from penstock.log.offset_map import OffsetMap
from penstock.log.sqlite import losses, records
from penstock.log.sqlite.assignor import shares
from penstock.log.sqlite.catalogue import Catalogue, Topic, offset_at
from penstock.log.sqlite.liveness import Liveness
from penstock.record import NewRecord, Partition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from penstock.task import StartFrom


@dataclass(frozen=True, slots=True)
class Seat:
    """A member of a group: who it is and what it reads."""

    group: str
    member: str
    slot: str
    topics: tuple[str, ...]
    start_from: StartFrom
    goes_on_after_loss: bool


class Lease(NamedTuple):
    """A partition taken: proof for every commit, and where reading starts."""

    row: int
    epoch: int
    topic_id: str
    assignment: Assignment


class PartWrite(NamedTuple):
    """One partition's part of a commit, with the proof that it is ours."""

    partition: Partition
    row: int
    epoch: int
    base: int
    map_text: str


@dataclass(slots=True)
class Beat:
    """What a heartbeat saw and did."""

    is_expelled: bool = False
    is_replaced: bool = False
    """Another worker joined under the same slot."""
    lost: list[int] = field(default_factory=list)
    """Rows of ours that others hold now."""
    surplus: list[int] = field(default_factory=list)
    """Rows to give back."""
    taken: list[Lease] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    """Unread records that retention deleted, in partitions that were to be taken."""
    has_share: bool = True
    """Whether there is a partition for this member at all."""
    groups_version: int = 0


def join(connection: sqlite3.Connection, catalogue: Catalogue, seat: Seat, now_ms: int) -> None:
    """Enter the group. A worker that comes back under its slot takes the place of the one it was."""
    catalogue.refresh(connection)
    for name in seat.topics:
        catalogue.topic(name)
    if seat.slot:
        _remove(
            connection,
            seat.group,
            [
                member
                for (member,) in connection.execute(
                    "SELECT member FROM members WHERE group_name = ? AND slot = ?", (seat.group, seat.slot)
                ).fetchall()
            ],
        )
    connection.execute(
        "INSERT INTO members VALUES (?, ?, ?, ?, 1, ?)",
        (seat.group, seat.member, seat.slot, orjson.dumps(seat.topics).decode(), now_ms),
    )
    _announce(connection)


def leave(connection: sqlite3.Connection, seat: Seat) -> None:
    """Give everything back and go: neighbours take over at once."""
    _remove(connection, seat.group, [seat.member])


def give_back(connection: sqlite3.Connection, seat: Seat, rows: Sequence[int]) -> None:
    """End the ownership of these partitions."""
    connection.execute(
        f"UPDATE leases SET owner = NULL WHERE group_name = ? AND owner = ? AND partition IN ({','.join(map(str, rows))})",
        (seat.group, seat.member),
    )
    _announce(connection)


def beat(
    connection: sqlite3.Connection,
    catalogue: Catalogue,
    seat: Seat,
    liveness: Liveness,
    held: Mapping[int, int],
    now_ms: int,
    *,
    settles: bool,
) -> Beat:
    """Show that we live, see who does not, and (if `settles`) move towards an even spread. `held`: epoch by row."""
    seen = Beat()
    updated = connection.execute(
        "UPDATE members SET beat = beat + 1, beat_ms = ? WHERE group_name = ? AND member = ?",
        (now_ms, seat.group, seat.member),
    )
    if not updated.rowcount:
        seen.is_expelled = True
        seen.is_replaced = bool(seat.slot) and _has_slot(connection, seat)
        return seen
    members = _living(connection, seat, liveness)
    leases = _leases(connection, seat.group)
    seen.lost = [row for row, epoch in held.items() if leases.get(row) != (seat.member, epoch)]
    if settles:
        _settle(connection, catalogue, seat, members, leases, seen, now_ms)
    seen.groups_version = groups_version(connection)
    return seen


def groups_version(connection: sqlite3.Connection) -> int:
    """Grows with every change of members or leases, of any group."""
    version: int = connection.execute("SELECT groups FROM counters").fetchone()[0]
    return version


def commit(
    connection: sqlite3.Connection,
    catalogue: Catalogue,
    seat: Seat,
    parts: Sequence[PartWrite],
    appends: Sequence[NewRecord],
    now_ms: int,
) -> None:
    """Results, dead letters, state and progress in one act, or nothing (law 2)."""
    catalogue.refresh(connection)
    leases = _leases(connection, seat.group) if parts else {}
    lost = [part.partition for part in parts if leases.get(part.row) != (seat.member, part.epoch)]
    if lost:
        raise PartitionsLost(lost)
    if appends:
        records.append(connection, catalogue, appends, now_ms)
    if parts:
        cells: list[object] = []
        for part in parts:
            cells += (seat.group, part.row, part.epoch, part.base, part.map_text)
        connection.execute(
            f"INSERT INTO leases (group_name, partition, epoch, base, map) VALUES {','.join(['(?,?,?,?,?)'] * len(parts))}"
            " ON CONFLICT (group_name, partition) DO UPDATE SET base = excluded.base, map = excluded.map",
            cells,
        )


def _living(connection: sqlite3.Connection, seat: Seat, liveness: Liveness) -> dict[str, frozenset[str]]:
    (text,) = connection.execute(
        "SELECT json_group_array(json_array(member, beat, topics)) FROM members WHERE group_name = ?", (seat.group,)
    ).fetchone()
    members = {member: (counter, frozenset(orjson.loads(topics))) for member, counter, topics in orjson.loads(text)}
    dead = liveness.dead({member: counter for member, (counter, _) in members.items() if member != seat.member})
    if dead:
        _remove(connection, seat.group, dead)
    return {member: topics for member, (_, topics) in members.items() if member not in dead}


def _settle(
    connection: sqlite3.Connection,
    catalogue: Catalogue,
    seat: Seat,
    members: Mapping[str, frozenset[str]],
    leases: Mapping[int, tuple[str | None, int]],
    seen: Beat,
    now_ms: int,
) -> None:
    topics = catalogue.refresh(connection)
    read = {name: topics[name].rows for name in set().union(*members.values()) if name in topics}
    owners = {row: owner if owner in members else None for row, (owner, _) in leases.items()}
    mine = shares(read, members, owners)[seat.member]
    seen.has_share = bool(mine)
    seen.surplus = [
        row for row, owner in owners.items() if owner == seat.member and row not in mine and row not in seen.lost
    ]
    for name in seat.topics:
        if name not in topics:
            continue
        for number, row in enumerate(topics[name].rows):
            if row in mine and owners.get(row) is None:
                _take(connection, seat, topics[name], number, seen, now_ms)
    if seen.taken:
        _announce(connection)


def _take(connection: sqlite3.Connection, seat: Seat, topic: Topic, number: int, seen: Beat, now_ms: int) -> None:
    """Own a partition from now on; where the group was never here, its starting point is written in the same act."""
    row, partition = topic.rows[number], Partition(topic.name, number)
    stored = connection.execute(
        "SELECT epoch, base, map FROM leases WHERE group_name = ? AND partition = ?", (seat.group, row)
    ).fetchone()
    low, high = connection.execute("SELECT low, high FROM partitions WHERE partition = ?", (row,)).fetchone()
    if stored is None:
        epoch, done = 1, OffsetMap(_start(connection, seat, row, low, high))
    else:
        epoch, done = stored[0] + 1, OffsetMap.decode(stored[2], base=stored[1], topic_id=topic.info.id)
        if done.end > high:
            raise LogDamaged(
                f"group {seat.group!r} has read {partition.topic}/{partition.number} up to offset {done.end}, but the log "
                f"ends at {high}: the file is an older copy; move the group back or bring back the newer one"
            )
        loss = unread_loss(seat.group, partition, done, low)
        if loss is not None:
            losses.record(connection, loss, now_ms)
            seen.losses.append(loss)
            if not seat.goes_on_after_loss:
                return
        done = done.from_offset(low)
    connection.execute(
        "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (group_name, partition) DO UPDATE SET"
        " owner = excluded.owner, epoch = excluded.epoch, base = excluded.base, map = excluded.map",
        (seat.group, row, seat.member, epoch, done.base, done.encode(topic.info.id)),
    )
    seen.taken.append(Lease(row, epoch, topic.info.id, Assignment(partition, done, is_new=stored is None)))


def _start(connection: sqlite3.Connection, seat: Seat, row: int, low: int, high: int) -> int:
    if seat.start_from == "latest":
        return high
    if seat.start_from == "earliest":
        return low
    return offset_at(connection, row, int(seat.start_from.timestamp() * 1000))


def _leases(connection: sqlite3.Connection, group: str) -> dict[int, tuple[str | None, int]]:
    (text,) = connection.execute(
        "SELECT json_group_array(json_array(partition, owner, epoch)) FROM leases WHERE group_name = ?", (group,)
    ).fetchone()
    return {row: (owner, epoch) for row, owner, epoch in orjson.loads(text)}


def _has_slot(connection: sqlite3.Connection, seat: Seat) -> bool:
    found = connection.execute(
        "SELECT 1 FROM members WHERE group_name = ? AND slot = ?", (seat.group, seat.slot)
    ).fetchone()
    return found is not None


def _remove(connection: sqlite3.Connection, group: str, members: Sequence[str]) -> None:
    for member in members:
        connection.execute("UPDATE leases SET owner = NULL WHERE group_name = ? AND owner = ?", (group, member))
        connection.execute("DELETE FROM members WHERE group_name = ? AND member = ?", (group, member))
    if members:
        _announce(connection)


def _announce(connection: sqlite3.Connection) -> None:
    """Let the members look before their next heartbeat."""
    connection.execute("UPDATE counters SET groups = groups + 1")


def replaced(seat: Seat) -> SettingsError:
    """Two workers under one slot would throw each other out for ever; the older one stops."""
    return SettingsError(
        f"another worker joined group {seat.group!r} under slot {seat.slot!r}: give every worker a slot of its own"
    )
