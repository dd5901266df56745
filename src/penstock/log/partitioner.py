"""Which partition a key belongs to: bit for bit what Kafka's Java clients compute, so that one key has one home.

producers → [partitioner] → log
"""

from __future__ import annotations

from functools import lru_cache

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """MurmurHash2 of 32 bits with Kafka's seed, as a signed number like Java's.

    >>> murmur2(b"21")
    -973932308
    """
    length = len(key)
    mixed = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _MIX & _WORD
        word = (word ^ word >> 24) * _MIX & _WORD
        mixed = (mixed * _MIX & _WORD) ^ word
    if length > whole:
        mixed = (mixed ^ int.from_bytes(key[whole:], "little")) * _MIX & _WORD
    mixed = (mixed ^ mixed >> 13) * _MIX & _WORD
    mixed ^= mixed >> 15
    return mixed - (1 << 32) if mixed >> 31 else mixed


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key in a topic with so many partitions. Keys repeat, hence the cache."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
