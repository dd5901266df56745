"""Keys go where Kafka's Java clients send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.log.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    """The vectors of Kafka's own tests."""
    assert murmur2(key) == expected


def java_murmur2(key: bytes) -> int:
    """Java's loop, operation by operation, on wrapped 32-bit numbers."""

    def wrap(number: int) -> int:
        return number & 0xFFFFFFFF

    h = wrap(0x9747B28C ^ len(key))
    for i in range(len(key) // 4):
        k = sum(key[i * 4 + j] << 8 * j for j in range(4))
        k = wrap(k * 0x5BD1E995)
        k ^= k >> 24
        k = wrap(k * 0x5BD1E995)
        h = wrap(h * 0x5BD1E995) ^ k
    rest = key[len(key) & ~3 :]
    if len(rest) == 3:
        h ^= rest[2] << 16
    if len(rest) >= 2:
        h ^= rest[1] << 8
    if len(rest) >= 1:
        h = wrap((h ^ rest[0]) * 0x5BD1E995)
    h ^= h >> 13
    h = wrap(h * 0x5BD1E995)
    h ^= h >> 15
    return h - (1 << 32) if h & 0x80000000 else h


@given(st.binary(max_size=40))
def test_any_key_as_java_hashes_it(key: bytes) -> None:
    """Every length of the rest and every sign, as a transcript of Java's loop has it."""
    assert murmur2(key) == java_murmur2(key)


@given(st.binary(max_size=20), st.integers(min_value=1, max_value=200))
def test_partitions_are_in_range(key: bytes, partitions: int) -> None:
    """The sign is masked, not negated: always a partition that exists."""
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
