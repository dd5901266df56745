"""What the next call will take, learned from the last ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.claude.expectation import Expectation
from penstock.claude.models import Models, Tokens
from penstock.claude.schema import Size

HAIKU = Models.load().resolve("haiku")


def expectation(prefix_tokens: int = 2_000, *, thinks: bool = False) -> Expectation:
    return Expectation(HAIKU, Size(50, 400), prefix_tokens, thinks=thinks)


replies = st.lists(
    st.tuples(
        st.integers(1, 50),
        st.integers(1, 90_000),
        st.builds(
            Tokens,
            input=st.integers(0, 10**6),
            cache_write_5m=st.integers(0, 5_000),
            cache_write_1h=st.integers(0, 5_000),
            cache_read=st.integers(0, 5),
            output=st.integers(0, 128_000),
        ),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(replies, st.integers(1, 50))
def test_whatever_was_seen_the_next_call_is_possible(seen: list[tuple[int, int, Tokens, bool]], items: int) -> None:
    """Estimates stay positive, the room within what the model may write, and a call holds at least one item."""
    expected = expectation()
    for count, events_tokens, tokens, cut in seen:
        expected.learn(count, events_tokens, tokens, cut=cut)
    assert 1 <= expected.max_tokens(items) <= HAIKU.max_output_tokens
    assert expected.input_tokens(100) >= 1
    assert expected.output_tokens(items) >= 1
    assert expected.most_items() >= 1
    assert expected.most_event_tokens(2_000) >= 1


def test_estimates_move_to_what_replies_take() -> None:
    """After many alike replies the estimate is what they took, with a multiple of it as room."""
    expected = expectation()
    for _ in range(200):
        expected.learn(50, 5_000, Tokens(input=6_000, cache_read=2_000, output=1_000), cut=False)
    assert expected.output_tokens(50) == pytest.approx(1_000, rel=0.02)
    assert expected.input_tokens(5_000) == pytest.approx(6_000, rel=0.02)
    assert expected.max_tokens(50) >= 4 * 1_000


def test_a_prompt_too_short_for_the_cache_is_learned_as_a_whole() -> None:
    """Without cache reads or writes the estimate of the whole call moves to what calls took, for any length of events."""
    expected = expectation(1_000)
    for events_tokens in (1_000, 3_000) * 50:
        expected.learn(10, events_tokens, Tokens(input=int(1.3 * (1_000 + events_tokens)), output=100), cut=False)
    assert expected.input_tokens(2_000) == pytest.approx(3_900, rel=0.02)


def test_a_cache_that_is_lost_counts_again() -> None:
    """Where the prompt is written anew with every call, its tokens are expected with every call."""
    expected = expectation(2_000)
    for _ in range(60):
        expected.learn(10, 1_000, Tokens(input=1_000, cache_read=2_000, output=100), cut=False)
    assert expected.input_tokens(1_000) == pytest.approx(1_000, rel=0.02)
    for _ in range(60):
        expected.learn(10, 1_000, Tokens(input=1_000, cache_write_5m=2_000, output=100), cut=False)
    assert expected.input_tokens(1_000) == pytest.approx(3_000, rel=0.02)


def test_a_wrong_guess_is_soon_forgotten() -> None:
    """The first replies count for more than later ones: after three the estimate is near what they took."""
    expected = expectation()
    for _ in range(3):
        expected.learn(50, 5_000, Tokens(input=5_000, cache_read=2_000, output=500), cut=False)
    assert expected.output_tokens(50) < 1_200  # the guess was 2,500


def test_a_cut_reply_doubles_the_room_and_teaches_nothing_else() -> None:
    """What a cut reply took says nothing about what it needed."""
    expected = expectation()
    room, output = expected.max_tokens(10), expected.output_tokens(10)
    expected.learn(10, 1_000, Tokens(input=1, output=1), cut=True)
    assert expected.max_tokens(10) == 2 * room
    assert expected.output_tokens(10) == output


def test_thinking_gets_room_of_its_own() -> None:
    """A model that thinks before it writes is given tokens for both."""
    assert expectation(thinks=True).max_tokens(1) > expectation().max_tokens(1) + 4_000


def test_a_call_stays_in_the_cheapest_price_band() -> None:
    """Events offered to one call leave its prompt below the band where every token costs more."""
    bound = HAIKU.prices[0].up_to_prompt_tokens
    assert bound is not None
    assert expectation().most_event_tokens(2_000) + 2_000 < bound
