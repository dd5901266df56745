"""What the demo's tasks, groups and topics are called: as they ship, or on a cluster with a prefix of this demo's own.

cli → [names] → run, role_process
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.log.topics import PARTITIONS, topic_specs

if TYPE_CHECKING:
    from penstock.log.base import TopicSpec
    from penstock.task import Task

REFERENCES = {"review-moderator": "review_moderation:moderator", "review-analyzer": "review_moderation:analyzer"}
GATEWAY, SINKS = "gateway", "sinks"
"""Roles beside the workers."""
OURS = "penstock-demo-"
PARTITIONS_ON_KAFKA = 4
"""Somebody's cluster: enough to share the work, and not many."""


def task_of(reference: str, prefix: str = "") -> Task[Any, Any]:
    """`module:name`, from the first event on: the demo's log has no past that could become a bill."""
    module, _, name = reference.partition(":")
    task: Task[Any, Any] = getattr(importlib.import_module(module), name)
    return replace(
        task,
        name=prefix + task.name,
        reads=prefix + task.reads,
        writes=prefix + task.writes,
        dead_letters=prefix + task.dead_letters,
        start_from="earliest",
    )


def tasks_of(prefix: str = "") -> list[Task[Any, Any]]:
    """Both tasks of the demo."""
    return [task_of(reference, prefix) for reference in REFERENCES.values()]


def specs_of(prefix: str = "", partitions: int = PARTITIONS) -> list[TopicSpec]:
    """Every topic that they need, the state topic too; that one has no prefix."""
    return list({spec.name: spec for task in tasks_of(prefix) for spec in topic_specs(task, partitions)}.values())


def fresh_prefix(taken: Iterable[str]) -> str:
    """One that no topic begins with."""
    taken = list(taken)
    while True:
        prefix = f"{OURS}{secrets.token_hex(3)}-"
        if not any(name.startswith(prefix) for name in taken):
            return prefix
