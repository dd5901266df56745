"""What a model may be shown of a text."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from penstock.codecs.text import clean, estimate_tokens

ANY_TEXT = st.text(st.characters())  # surrogates included


@given(ANY_TEXT)
def test_cleaned_text_can_be_sent_and_holds_nothing_invisible(text: str) -> None:
    """Cleaned text is UTF-8, free of controls and bidi marks, and cleaning it again changes nothing."""
    cleaned = clean(text)
    cleaned.encode()
    assert not {c for c in cleaned if unicodedata.category(c) in {"Cc", "Cs"}} - {"\t", "\n"}
    assert not {c for c in cleaned if unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI"}}
    assert clean(cleaned) == cleaned


@given(st.text(st.characters(categories=["L", "N", "P", "S"], max_codepoint=0x2FFFF)))
def test_visible_text_stays_as_it_is(text: str) -> None:
    """Letters, digits and signs of any script pass unchanged."""
    assert clean(text) == text


def test_joiners_and_line_ends() -> None:
    """Joiners that scripts and emoji need stay; every line end becomes a newline; hidden tag text goes."""
    joined = "\N{WOMAN}\u200d\N{PERSONAL COMPUTER} \u0645\u06cc\u200c\u062e"
    assert clean(joined) == joined
    assert clean("a\r\nb\rc\u2028d\x85e") == "a\nb\nc\nd\ne"
    assert clean("ok\U000e0049\U000e0067\u202eevil\x00\ufeff\ud800") == "okevil"


@given(ANY_TEXT, ANY_TEXT)
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    """The estimate is at least 1, grows with the text and never crashes."""
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + more)


def test_scripts_of_many_bytes_cost_more() -> None:
    """A hundred Chinese characters are read as more tokens than a hundred Latin ones."""
    assert estimate_tokens("好" * 100) > 2 * estimate_tokens("x" * 100)
