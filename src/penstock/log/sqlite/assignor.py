"""Who should own which partition: even over the members that read a topic, moving as little as possible.

group → [assignor] → leases

Every member computes the same shares from the same rows, so nobody has to lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def shares(
    partitions: Mapping[str, Sequence[int]], members: Mapping[str, frozenset[str]], owners: Mapping[int, str | None]
) -> dict[str, set[int]]:
    """The partitions (row ids by topic) that each member (with the topics it reads) should own, given who owns them now.

    Within a topic the members' counts differ by one at most; where they do, those who own the larger share already
    keep it, then those with the fewest over all topics get it.
    """
    wanted: dict[str, set[int]] = {member: set() for member in members}
    for topic in sorted(partitions):
        readers = sorted(member for member, topics in members.items() if topic in topics)
        if readers:
            _share_topic(partitions[topic], readers, owners, wanted)
    return wanted


def _share_topic(
    rows: Sequence[int], readers: list[str], owners: Mapping[int, str | None], wanted: dict[str, set[int]]
) -> None:
    owned: dict[str, list[int]] = {reader: [] for reader in readers}
    free: list[int] = []
    for row in rows:
        owned.get(owners.get(row) or "", free).append(row)
    floor, extra = divmod(len(rows), len(readers))
    # A larger count than the larger share gives no right to more: the order must not change while surplus is handed over.
    ranked = sorted(readers, key=lambda reader: (-min(len(owned[reader]), floor + 1), len(wanted[reader]), reader))
    quota = {reader: floor + (place < extra) for place, reader in enumerate(ranked)}
    for reader in readers:
        wanted[reader].update(owned[reader][: quota[reader]])
        free += owned[reader][quota[reader] :]
    free.sort()
    for reader in ranked:
        room = quota[reader] - min(len(owned[reader]), quota[reader])
        wanted[reader].update(free[:room])
        del free[:room]
