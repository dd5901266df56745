"""The prompt cache: which prefix of a prompt was seen before, for how long, and what that means for the bill.

validation → [cache] → limiter | accounts
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from penstock.simulator.models import Usage

if TYPE_CHECKING:
    from penstock.simulator.clock import Clock
    from penstock.simulator.validation import Ask

TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}
LOOKBACK_BLOCKS = 20
MAX_ENTRIES = 10_000


@dataclass(slots=True)
class CacheUse:
    """What a call reads and writes; `publish` makes its writes readable once the first byte of the reply is out."""

    usage: Usage
    writes: list[tuple[bytes, str]] = field(default_factory=list)


class PromptCache:
    """Entries by digest of everything up to and including a block."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[bytes, tuple[float, str]] = {}

    def look(self, workspace: str, ask: Ask) -> CacheUse:
        """Split the prompt's tokens into read, written and neither. A hit lives on for its time from now."""
        prompt, fixed = ask.prompt, ask.fixed_tokens
        usage = Usage(input=fixed + prompt.tokens)
        use = CacheUse(usage)
        marks = [at for at, block in enumerate(prompt.blocks) if block.ttl]
        if not marks:
            return use
        digests, lengths = self._prefixes(workspace, ask, marks[-1])
        hit = self._find(digests, marks)
        if hit >= 0:
            expires, ttl = self._entries[digests[hit]]
            self._entries[digests[hit]] = (max(expires, self._clock.monotonic() + TTL_SECONDS[ttl]), ttl)
            usage.read = lengths[hit]
        before = usage.read
        for at in marks:
            if at <= hit or lengths[at] < ask.model.cache_floor_tokens:
                continue
            ttl = prompt.blocks[at].ttl
            if ttl == "1h":
                usage.write_1h += lengths[at] - before
            else:
                usage.write_5m += lengths[at] - before
            before = lengths[at]
            use.writes.append((digests[at], ttl))
        usage.input -= before
        return use

    def publish(self, use: CacheUse) -> None:
        """The reply begins: what the call wrote can be read from now on."""
        now = self._clock.monotonic()
        for digest, ttl in use.writes:
            self._entries[digest] = (now + TTL_SECONDS[ttl], ttl)
        if len(self._entries) > MAX_ENTRIES:
            alive = [(digest, entry) for digest, entry in self._entries.items() if entry[0] > now]
            self._entries = dict(alive[-MAX_ENTRIES // 2 :])

    def _find(self, digests: list[bytes], marks: list[int]) -> int:
        """The longest live prefix within the lookback of any breakpoint; -1 where none is."""
        now = self._clock.monotonic()
        for mark in reversed(marks):
            for at in range(mark, max(mark - LOOKBACK_BLOCKS, 0) - 1, -1):
                entry = self._entries.get(digests[at])
                if entry is not None and entry[0] > now:
                    return at
        return -1

    @staticmethod
    def _prefixes(workspace: str, ask: Ask, last: int) -> tuple[list[bytes], list[int]]:
        """Digest and length in tokens of every prefix up to the last breakpoint."""
        running = blake2b(workspace.encode() + b"\0" + ask.scope, digest_size=16)
        tokens = ask.fixed_tokens
        digests, lengths = [], []
        for block in ask.prompt.blocks[: last + 1]:
            content = block.content.encode("utf-8", "surrogatepass")
            running.update(b"%d\0" % len(content))
            running.update(content)
            tokens += block.tokens
            digests.append(running.digest())
            lengths.append(tokens)
        return digests, lengths
