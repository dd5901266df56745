"""What librdkafka says, as log lines: a broker that is away is told once in a while, not ten times a second.

librdkafka → [client lines] → log
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

logger = logging.getLogger("penstock.log.kafka.client")
aside = logging.getLogger("penstock.log.kafka.client.admin")
"""For clients whose every trouble is an exception too: their lines are for debugging."""

REPEAT_SECONDS = 30.0
VARYING = re.compile(r"\d+ms|#[a-z]+-\d+|\(after [^)]*\)|\[thrd:[^\]]*\]")
MAX_KINDS = 1_000


class Sparse(logging.Filter):
    """Lets a line pass when it was not said lately; how often it was held back is told with the next that passes.

    What librdkafka repeats by itself anyway is for debugging.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        # Weather that librdkafka deals with itself, and what is told elsewhere.
        if record.name == aside.name or record.getMessage().endswith("retrying"):
            if not logger.isEnabledFor(logging.DEBUG):
                return False
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        kind = VARYING.sub("", record.getMessage())
        now = self._clock()
        said_at, held_back = self._said.get(kind, (-REPEAT_SECONDS, 0))
        if now - said_at < REPEAT_SECONDS:
            self._said[kind] = (said_at, held_back + 1)
            return False
        if len(self._said) > MAX_KINDS:
            self._said.clear()
        self._said[kind] = (now, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} ({held_back} like it before)", ()
        return True


for heard in (logger, aside):
    heard.addFilter(Sparse())
