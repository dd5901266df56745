"""Which partitions are ours at this very moment, and the group metadata that was valid when they became so.

rebalance → [ownership] → committer
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.record import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.log.kafka.admin import Committed
    from penstock.log.offset_map import OffsetMap


class Owned(NamedTuple):
    """A partition of ours: the id of its topic, and what the group has committed for it, as text and as a map."""

    topic_id: str
    committed: Committed
    done: OffsetMap


class Ownership:
    """Whoever holds `lock` can rely on it: a commit holds it from its check to its end, a revoke to take partitions away.

    The metadata is taken on the consumer's thread while a rebalance is served, never fresh at the commit: Kafka checks
    members, not partitions, so fresh metadata would let us commit what is another's by now.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.metadata: Any = None
        self.is_stale = False
        """The broker refused the metadata as old: the consumer's thread has to look what is still ours."""
        self._owned: dict[Partition, Owned] = {}

    def __contains__(self, partition: object) -> bool:
        return partition in self._owned

    def __getitem__(self, partition: Partition) -> Owned:
        return self._owned[partition]

    def partitions(self) -> list[Partition]:
        """All that is ours."""
        with self.lock:
            return sorted(self._owned)

    def renew(self, metadata: Any) -> None:
        """Metadata taken while a rebalance was served."""
        with self.lock:
            self.metadata, self.is_stale = metadata, False

    def add(self, partitions: Mapping[Partition, Owned]) -> None:
        """These are ours from now on."""
        with self.lock:
            self._owned.update(partitions)

    def remove(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Not ours any more, once the commit in progress is through; those that were."""
        with self.lock:
            return [p for p in partitions if self._owned.pop(p, None) is not None]

    def note_committed(self, committed: Mapping[Partition, Owned]) -> None:
        """What a commit of ours has written, where it is still ours."""
        with self.lock:
            self._owned.update({p: owned for p, owned in committed.items() if p in self._owned})
