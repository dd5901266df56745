"""Reviews, moderations and analyses: what is let in, what must agree, and quotes found in texts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock import Erase, Record
from penstock.codecs import Undecodable, decode
from review_moderation import Analysis, Moderation, Review, analyzer, moderator
from review_moderation.schemas import find_quote

FULL = {
    "event_id": "e1", "review_id": "r1", "product_id": "p1", "user_id": "u1", "rating": 4,
    "text": "Works.", "created_at": "2026-11-02T10:00:00Z", "arrival_ms": 12,
}  # fmt: skip


def read(**changes: Any) -> Review:
    event = {name: value for name, value in {**FULL, **changes}.items() if value is not ...}
    return decode(Record("review-events", 0, 0, None, json.dumps(event).encode(), (), 0), Review)


def moderation(**fields: Any) -> Moderation:
    return moderator.output.model_validate(fields)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rating": None},
        {"rating": ..., "product_id": ..., "user_id": ..., "created_at": ..., "arrival_ms": ..., "event_id": ...},
        {"product_id": None, "user_id": None, "title": None, "language": None, "created_at": None},
        {"review_id": 17, "event_id": 18, "product_id": 19, "user_id": 20},
        {"created_at": "the other day"},
        {"created_at": 1_793_700_000_000},
        {"kind": "republished"},
        {"photos": [{"url": "x"}], "verified": True},
        {"text": "\u0000 ok \u202e"},
        {"text": "👍"},
    ],
)
def test_what_can_be_judged_is_let_in(changes: dict[str, Any]) -> None:
    """Only a review id and a text are needed; odd dates and unknown fields decide nothing."""
    review = read(**changes)
    assert review.review_id == str(changes.get("review_id", "r1"))
    assert review.text == changes.get("text", "Works.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": ""}, "text: is empty"),
        ({"text": " \n\t\u3000"}, "text: is empty"),
        ({"text": "\u200b\u0007\ufeff"}, "text: is empty"),
        ({"text": ...}, "text: Field required"),
        ({"text": None}, "text: Input should be a valid string"),
        ({"review_id": ""}, "review_id: String should have at least 1 character"),
        ({"review_id": ...}, "review_id: Field required"),
        ({"rating": 6}, "rating: Input should be less than or equal to 5"),
        ({"rating": "five"}, "rating: Input should be a valid integer"),
    ],
)
def test_what_cannot_be_judged_says_why(changes: dict[str, Any], said: str) -> None:
    """The detail is what stands on the dead letter."""
    with pytest.raises(Undecodable) as refused:
        read(**changes)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("changes", [{}, {"text": ...}, {"text": ""}])
def test_a_deleted_review_wants_no_answer(changes: dict[str, Any]) -> None:
    """With or without its text; what was said of the review is erased, whatever the deletion itself is called."""
    with pytest.raises(Erase, match="deleted") as erase:
        read(kind="deleted", **changes)
    assert erase.value.subject == read().review_id
    assert (moderator.subject, analyzer.subject) == ("review_id", "review_id")


def test_a_deletion_of_no_review_is_told() -> None:
    """A deletion must not get lost: it becomes a dead letter."""
    with pytest.raises(Undecodable, match="review_id"):
        read(kind="deleted", review_id=...)


def test_a_clean_review_says_no_more_than_publish() -> None:
    """Everything else has a default, so that it costs no output."""
    assert moderation(decision="publish").model_dump(exclude_defaults=True) == {"decision": "publish"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"decision": "publish", "violations": ["spam.link"]}, "contradict"),
        ({"decision": "reject"}, "reject needs violations"),
        ({"decision": "hold", "violations": ["fake.paid"]}, "hold needs evidence"),
        ({"decision": "reject", "violations": ["spam.link"], "evidence": "x"}, "reject needs reason"),
        ({"decision": "reject", "violations": ["no.clause"], "evidence": "x", "reason": "y"}, "violations.0"),
        ({"decision": "delete"}, "decision"),
    ],
)
def test_a_moderation_that_contradicts_itself_is_invalid(fields: dict[str, Any], said: str) -> None:
    """Clean and published are one; whatever is held back is backed by clause, quote and reason."""
    with pytest.raises(ValidationError, match=said):
        moderation(**fields)


@given(st.sampled_from(["publish", "hold", "reject"]), st.booleans(), st.booleans(), st.booleans())
def test_violations_stand_exactly_on_what_is_not_published(decision: str, clause: bool, quote: bool, why: bool) -> None:
    """Of all combinations only the consistent ones are models."""
    fields: dict[str, Any] = {"decision": decision}
    fields |= {"violations": ["spam.link"]} if clause else {}
    fields |= {"evidence": "x"} if quote else {}
    fields |= {"reason": "y"} if why else {}
    consistent = not clause if decision == "publish" else clause and quote and why
    try:
        moderation(**fields)
    except ValidationError:
        assert not consistent
    else:
        assert consistent


@pytest.mark.parametrize(
    ("language", "kept"), [("en", "en"), ("EN", "en"), ("pt-br", "pt-BR"), ("zh-Hant-TW", "zh-Hant-TW"), ("und", "und")]
)
def test_a_language_is_a_bcp_47_tag(language: str, kept: str) -> None:
    """Written in one way, so that results can be counted by it."""
    assert Analysis(sentiment="neutral", summary="x", language=language).language == kept


@pytest.mark.parametrize(
    "fields", [{"language": "English, mostly"}, {"language": ""}, {"summary": " \n "}, {"sentiment": "angry"}]
)
def test_an_analysis_out_of_form_is_invalid(fields: dict[str, str]) -> None:
    """A reply that cannot be counted is asked for again."""
    with pytest.raises(ValidationError):
        Analysis.model_validate({"sentiment": "neutral", "summary": "x", "language": "en", **fields})


def test_a_summary_is_one_line() -> None:
    """Line ends of the model are not worth another call."""
    assert Analysis(sentiment="positive", summary=" good \n lamp ", language="en").summary == "good lamp"


TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(TEXT, TEXT, TEXT)
def test_a_quote_is_found_as_it_is_written(before: str, quote: str, after: str) -> None:
    """Every part of a text is its own quote."""
    assert find_quote(quote, before + quote + after) == (quote if before + quote + after else None)


@given(st.lists(st.sampled_from(["not", "a", "Bad", "lamp", "灯", "é"]), min_size=2, max_size=6), st.data())
def test_signs_that_cannot_be_seen_do_not_hide_a_quote(words: list[str], data: st.DataObject) -> None:
    """What the model copied without them is found, and given back with them."""
    seen = " ".join(words)
    blank = st.sampled_from([" ", "  ", "\n", "\t ", "\u00a0"])
    unseen = st.sampled_from(["", "\u0007", "\u200b", "\u202e\u0000"])
    written = data.draw(blank).join(word[:1] + data.draw(unseen) + word[1:] for word in words)
    found = find_quote(seen, f"Hm.\u200b {written} \u0007!")
    assert found is not None
    assert found in f"Hm.\u200b {written} \u0007!"
    assert found.split()[0].replace("\u200b", "").replace("\u0007", "").replace("\u202e\u0000", "") == words[0]


@pytest.mark.parametrize("quote", ["bad lamp", "Bad  lamps", "Badlamp", "lamp.", "\u200b", " \n"])
def test_what_is_not_in_the_text_is_not_found(quote: str) -> None:
    """Case, letters and punctuation must agree, and nothing visible must be left out."""
    assert find_quote(quote, "A Bad lamp, really", None) is None


def test_a_quote_may_stand_in_any_of_the_texts() -> None:
    """Titles are judged too."""
    assert find_quote("Bad", "lamp", None, "Bad") == "Bad"
