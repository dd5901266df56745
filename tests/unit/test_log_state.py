"""Records of the state topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import LogDamaged
from penstock.log.state import STATE_TOPIC, State, read_state, state_record
from penstock.record import NewRecord, Record

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def as_read(new: NewRecord) -> Record:
    return Record(new.topic, 0, 7, new.key, new.value, new.headers, 0)


@given(texts, texts, st.none() | st.dictionaries(texts, st.integers(-(2**53), 2**53) | texts, max_size=5))
def test_state_is_read_back(task: str, id_: str, value: dict | None) -> None:
    """Whatever the names hold, the same state comes back; None is a tombstone."""
    record = state_record(task, "waste", id_, value)
    assert record.topic == STATE_TOPIC
    assert (record.value is None) == (value is None)
    assert read_state(as_read(record)) == State(task, "waste", id_, value)


@given(texts, texts, texts, texts)
def test_different_names_have_different_keys(task: str, id_: str, other_task: str, other_id: str) -> None:
    """No two states share a key, however their names are put together."""
    same = state_record(task, "waste", id_, None).key == state_record(other_task, "waste", other_id, None).key
    assert same == ((task, id_) == (other_task, other_id))


def test_an_unknown_kind_is_not_written() -> None:
    """A misspelt kind is an error where it is written."""
    with pytest.raises(ValueError, match="waste"):
        state_record("t", "wast", "1", {})


def test_a_newer_kind_is_read() -> None:
    """What a newer version wrote is returned as it is."""
    assert read_state(Record(STATE_TOPIC, 0, 0, b'["t","newer","1"]', b"{}", (), 0)).kind == "newer"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"x", b"{}"),
        (b'["t","waste"]', b"{}"),
        (b'["t","waste",1]', b"{}"),
        (b'["t","waste","1"]', b"[]"),
    ],
)
def test_foreign_records_are_told(key: bytes | None, value: bytes) -> None:
    """What is no state says where it stands and what to do."""
    with pytest.raises(LogDamaged, match=f"{STATE_TOPIC}/0 offset 3"):
        read_state(Record(STATE_TOPIC, 0, 3, key, value, (), 0))
