"""A cold prompt is written to the API's cache by one call, not by all that start together."""

from __future__ import annotations

from penstock.claude.warmth import Warmth
from penstock.flow.base import Wait


class VirtualClock:
    """Seconds that pass only when a test says so."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_call_goes_alone_and_then_all_go() -> None:
    """While the cache is being written nobody else starts; with the reply everybody may."""
    warmth = Warmth(VirtualClock(), lives_seconds=300, is_cached=True)
    assert warmth.check() is None
    warmth.begin()
    assert warmth.check() == Wait("cold_cache")
    warmth.end(answered=True)
    assert warmth.check() is None
    warmth.begin()
    assert warmth.check() is None


def test_a_first_call_that_fails_leaves_the_cache_cold() -> None:
    """Nothing was written: the next call goes alone as well."""
    warmth = Warmth(VirtualClock(), lives_seconds=300, is_cached=True)
    warmth.begin()
    warmth.end(answered=False)
    assert warmth.check() is None
    warmth.begin()
    assert warmth.check() == Wait("cold_cache")


def test_a_first_call_that_hangs_holds_nobody_back_for_long() -> None:
    """A cache write is saved at the price of some seconds, not of a time-out."""
    clock = VirtualClock()
    warmth = Warmth(clock, lives_seconds=300, is_cached=True)
    warmth.begin()
    clock.now += 10.0
    assert warmth.check() is None


def test_a_cache_grows_cold_without_reads() -> None:
    """Each reply prolongs its life; after its time to live one call goes alone again."""
    clock = VirtualClock()
    warmth = Warmth(clock, lives_seconds=300, is_cached=True)
    for _ in range(3):
        warmth.begin()
        warmth.end(answered=True)
        clock.now += 200.0
        assert warmth.check() is None
    warmth.begin()
    assert warmth.check() is None
    clock.now += 200.0
    warmth.begin()
    assert warmth.check() == Wait("cold_cache")


def test_a_prompt_too_short_for_the_cache_never_waits() -> None:
    """What is not cached cannot be cold."""
    warmth = Warmth(VirtualClock(), lives_seconds=300, is_cached=False)
    warmth.begin()
    assert warmth.check() is None
