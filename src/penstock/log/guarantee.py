"""How a log that is not exactly once is labelled, in the same words wherever somebody looks at it.

log → [guarantee] → run, status, demo
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.log.base import Guarantee

_AT_LEAST_ONCE = "AT LEAST ONCE: a worker that dies may double results (same ids); kafka_log.delivery says so"


def label(delivery: Guarantee) -> str:
    """Empty for exactly once, which is what nobody needs to be told."""
    return _AT_LEAST_ONCE if delivery == "at_least_once" else ""
