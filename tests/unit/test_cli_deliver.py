"""`penstock deliver`, `redeliver` and `db`, as a person types them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cli_calls import call
from penstock.cli.deliver import moment_of
from penstock.errors import SettingsError

MODULE = '''
from pydantic import BaseModel
from penstock import Sink, Task
class Note(BaseModel):
    text: str
class Label(BaseModel):
    good: bool
labeler = Task("labeler", reads="notes", writes="labels", dead_letters="labels-dlq", input=Note, output=Label, instructions="x")
class Shelf(Sink):
    name = "shelf"
    async def deliver(self, batch): pass
shelf = Shelf()
nothing = 1
'''


def test_times_are_read_as_people_write_them() -> None:
    """How long ago, or a moment with or without a zone."""
    assert moment_of("90m", 10_000.0) == 4_600_000
    assert moment_of("2d", 200_000.0) == 27_200_000
    assert moment_of("2026-11-03T14:00", 0) == moment_of("2026-11-03T15:00+01:00", 0) == 1_793_714_400_000
    with pytest.raises(SettingsError, match="yesterday"):
        moment_of("yesterday", 0)
