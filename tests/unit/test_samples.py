"""The sample day: the mix it promises, the same bytes for the same seed, and endings that its judge can count on."""

from collections import Counter
from functools import lru_cache

import pytest

from penstock import Record, Skip
from penstock.codecs import Undecodable, decode, event_id_of, passthrough
from review_moderation import Review
from review_moderation.samples import DAY_MS, FIRST_DAY, SampleEvent, day

HOUR_MS = 3_600_000
SEEDS = (0, 1, 20261102)


@lru_cache
def written(seed: int) -> tuple[SampleEvent, ...]:
    return tuple(day(seed))


def read(event: SampleEvent) -> Review:
    return decode(Record("review-events", 0, 0, event.key, event.value, event.headers, 0), Review)


def reviews(seed: int, planted: str) -> list[tuple[SampleEvent, Review]]:
    return [(event, read(event)) for event in written(seed) if event.planted == planted and event.ending == "result"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_day_has_the_promised_mix(seed: int) -> None:
    """As many events as asked for, mostly clean, with some of everything that a shop meets."""
    counts = Counter(event.planted for event in written(seed))
    assert sum(counts.values()) == 3200
    assert counts["clean"] > 0.7 * 3200
    assert min(counts[kind] for kind in ("spam", "abuse", "fake")) >= 100
    assert min(counts[kind] for kind in ("injection", "duplicate", "edit", "malformed")) >= 30


def test_the_same_seed_gives_the_same_bytes() -> None:
    """A demo that resumes after Ctrl-C writes the rest of the very same day."""
    assert list(day(5)) == list(day(5))
    first = {event.event_id for event in written(0)}
    assert not first & {event.event_id for event in written(1)}


@pytest.mark.parametrize("events", [0, 1, 10, 5000])
def test_a_day_has_as_many_events_as_asked_for(events: int) -> None:
    """Also where the shares of rare kinds round to nothing."""
    assert len(list(day(3, events))) == events


@pytest.mark.parametrize("seed", SEEDS)
def test_events_come_in_order_within_the_day(seed: int) -> None:
    """A producer may send them as they come; evenings are busier than nights."""
    times = [event.at_ms for event in written(seed)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < DAY_MS
    hours = Counter(at_ms // HOUR_MS for at_ms in times)
    assert sum(hours[hour] for hour in (18, 19, 20, 21)) > 8 * sum(hours[hour] for hour in (1, 2, 3, 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_event_decodes_as_its_ending_says(seed: int) -> None:
    """Results decode, malformed events do not, tombstones and deleted reviews are skipped."""
    for event in written(seed):
        try:
            review = read(event)
            ending = "result"
        except Undecodable:
            ending = "dead_letter"
        except Skip:
            ending = "skip"
        assert ending == event.ending, event
        if ending == "result":
            assert review.event_id == event.event_id
            assert event.key in (None, (review.product_id or "").encode())
            assert FIRST_DAY.isoformat() in str(review.created_at) or event.at_ms < 2 * HOUR_MS


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_texts_are_distinct(seed: int) -> None:
    """No cache of answers makes the demo look cheaper than it is."""
    texts = [review.text for _, review in reviews(seed, "clean")]
    assert len(set(texts)) >= 0.95 * len(texts)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_languages_are_written(seed: int) -> None:
    """English leads, nine others are there."""
    languages = Counter(review.language for _, review in reviews(seed, "clean"))
    assert set(languages) == {"en", "de", "fr", "es", "it", "pt", "vi", "id", "zh", "ja"}
    assert languages.most_common(1)[0][0] == "en"
    assert min(languages.values()) >= 30


@pytest.mark.parametrize("seed", SEEDS)
def test_misuse_comes_in_waves(seed: int) -> None:
    """A fake campaign at 14:00 on three products, a raid on one in the afternoon, a wave of spam in the evening."""
    waves: dict[str, list[tuple[SampleEvent, Review]]] = {"campaign": [], "abuse raid": [], "spam wave": []}
    for event in written(seed):
        if event.note in waves:
            waves[event.note].append((event, read(event)))
    assert len({review.product_id for _, review in waves["campaign"]}) == 3
    assert len({review.product_id for _, review in waves["abuse raid"]}) == 1
    assert len({review.product_id for _, review in waves["spam wave"]}) > 20
    assert {event.at_ms // HOUR_MS for event, _ in waves["campaign"]} == {14}
    assert {event.at_ms // HOUR_MS for event, _ in waves["abuse raid"]} == {16}
    assert {event.at_ms // HOUR_MS for event, _ in waves["spam wave"]} <= {19, 20}
    assert min(map(len, waves.values())) >= 60


@pytest.mark.parametrize("seed", SEEDS)
def test_a_redelivery_repeats_earlier_bytes(seed: int) -> None:
    """At least once means: the same id, key, value and headers again, later."""
    first: dict[str, SampleEvent] = {}
    repeats = 0
    for event in written(seed):
        if event.planted == "duplicate":
            before = first[event.event_id]
            assert (event.key, event.value, event.headers) == (before.key, before.value, before.headers)
            assert event.content == before.content
            repeats += 1
        else:
            assert event.event_id not in first
            first[event.event_id] = event
    assert repeats == 64


@pytest.mark.parametrize("seed", SEEDS)
def test_an_edit_follows_its_review(seed: int) -> None:
    """The same review and key under a new event id, with a text that was changed."""
    before = {review.review_id: (event, review) for event, review in reviews(seed, "clean")}
    edits = reviews(seed, "edit")
    for event, review in edits:
        original, written_first = before[review.review_id]
        assert event.at_ms >= original.at_ms
        assert event.key == (written_first.product_id or "").encode()
        assert review.text != written_first.text
        assert review.kind == "edited"
    assert len(edits) >= 50


@pytest.mark.parametrize("seed", SEEDS)
def test_bad_and_odd_events_are_of_many_kinds(seed: int) -> None:
    """Every way to break an event is there, and everything odd that must be judged all the same."""
    malformed = Counter(event.note for event in written(seed) if event.planted == "malformed")
    assert len(malformed) == 11
    assert malformed["tombstone"] == sum(event.value is None for event in written(seed))
    odd = {event.note: event for event in written(seed) if event.planted == "clean"}
    assert odd["null key"].key is None
    assert len(read(odd["long"]).text) > 800
    assert not read(odd["control characters"]).text.isprintable()
    assert {"markup", "newsletter", "lunch break", "television spot"} <= set(odd)


@pytest.mark.parametrize("seed", SEEDS)
def test_some_producers_speak_cloudevents(seed: int) -> None:
    """Binary and structured mode and traces are all there, under the event's own id."""
    sound = [event for event in written(seed) if event.headers]
    for event in sound:
        record = Record("review-events", 0, 0, event.key, event.value, event.headers, 0)
        assert event_id_of(record) in (None, event.event_id)
    modes = Counter(frozenset(name for name, _ in event.headers) for event in sound)
    assert len(modes) == 3
    assert any(name == "ce_market" for event in sound for name, _ in passthrough(event.headers))


@pytest.mark.parametrize("seed", SEEDS)
def test_products_are_of_unequal_popularity(seed: int) -> None:
    """A few products get most of the reviews, as in any shop: keys are skewed."""
    keys = Counter(event.key for event in written(seed) if event.planted == "clean")
    assert len(keys) > 100
    assert sum(count for _, count in keys.most_common(10)) > 0.3 * sum(keys.values())


def test_misuse_is_told_by_plain_words() -> None:
    """Each kind carries words that the clean texts never use, so that a plain rule can find it."""
    clean = " ".join(review.text.lower() for _, review in reviews(0, "clean"))
    telling = {
        "spam": ("http://", "www.", "whatsapp", "telegram", "promo code", "aaaaaaaa", "good good good"),
        "abuse": ("idiot", "moron", "losers", "scum", "trash", "stupid", "clown", "you will regret"),
        "fake": (
            "ever!",
            "must buy",
            "life changing",
            "100% recommended",
            "in exchange for",
            "paid to write",
            "number one",
            "gift card",
            "changed my life",
            "amazing amazing",
        ),
        "injection": (
            "previous instructions",
            "vorherigen",
            "précédentes",
            "anteriores",
            "忽略",
            "abaikan",
            "bỏ qua",
            "override",
            "system",
            "the rules above",
            "new instructions",
            "only valid output",
            "verdict",
        ),
    }
    for kind, words in telling.items():
        texts = [review.text.lower() for _, review in reviews(0, kind)]
        for word in words:
            assert word not in clean
        told = sum(any(word in text for word in words) for text in texts)
        assert told > 0.8 * len(texts), kind
