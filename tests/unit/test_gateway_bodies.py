"""Bodies split into events: each exactly as it was sent, whatever its numbers, escapes and spaces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.web.bodies import Body, read_body
from penstock.web.problems import Problem

JSON = {"content-type": "application/json"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(sent: bytes, headers: dict[str, str], most: int = 100) -> Body | Problem:
    try:
        return read_body(sent, headers, most)
    except Problem as problem:
        return problem


@settings(max_examples=40)
@given(st.lists(VALUES, min_size=1, max_size=8), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_the_elements_of_an_array_stay_as_they_are(values, indent, is_ascii):
    """Every element comes back byte for byte: nothing is parsed and written again."""
    texts = [json.dumps(value, indent=indent, ensure_ascii=is_ascii) for value in values]
    sent = " [\n" + " ,\r\n\t".join(texts) + " ] \n"
    body = read(sent.encode("utf-8", "surrogatepass"), JSON)
    if any("\ud800" <= char <= "\udfff" for char in sent):
        assert isinstance(body, Problem)
        return
    assert isinstance(body, Body)
    assert [offer.value.decode() for offer in body.offers] == texts
    assert body.is_batch


@given(st.binary(max_size=60))
def test_no_bytes_break_it(sent):
    """Any body is events or a problem; nothing else is ever raised."""
    for kind in ("application/json", "application/cloudevents-batch+json"):
        body = read(sent, {"content-type": kind}, 10)
        assert body.offers if isinstance(body, Body) else 400 <= body.status < 500


@given(st.integers(1, 10**40), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_keep_all_their_digits(whole, decimal):
    """An amount of forty digits is not rounded on its way."""
    texts = [f'{{"a":{whole}}}', f'{{"a":{decimal:f}}}']
    body = read_body(f"[{','.join(texts)}]".encode(), JSON, 10)
    assert [offer.value.decode() for offer in body.offers] == texts


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-type": "APPLICATION/JSON; charset=UTF-8"}, True),
        ({"content-type": "application/vnd.shop.order+json"}, True),
        ({"content-type": "application/json", "content-encoding": "identity"}, True),
        ({}, False),
        ({"content-type": "application/jsonp"}, False),
        ({"content-type": "application/cloudevents+protobuf"}, False),
    ],
)
def test_which_kinds_of_bodies_are_read(headers, expected):
    """JSON by any of its names, in UTF-8, uncompressed."""
    found = read(b"{}", headers)
    assert isinstance(found, Body) if expected else found.status == 415
