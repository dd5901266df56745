"""The gateway's memory: claims that one can hold, are taken over from the dead, and end with the day."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator

import pytest

from fakes import until
from penstock.errors import SettingsError
from penstock.record import NewRecord, Position
from penstock.web.judge import Event
from penstock.web.ledger import Ledger
from penstock.web.ledger_endings import Ended
from penstock.web.ledger_file import LedgerUnavailable


def event(number: int, *, digest: str = "d") -> Event:
    record = NewRecord("orders", b"k", b"{}")
    return Event(record, f"e-{number}", f"s-{number}", digest, f"claim-{number}")


def ended(number: int, task: str = "t", **settings) -> Ended:
    given = {"kind": "result", "at_ms": 2**41 + number, "content": {"n": number}} | settings
    return Ended(task, Position("orders", 0, number), f"e-{number}", f"s-{number}", "k", **given)


@pytest.fixture
async def ledger(tmp_path) -> AsyncIterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    await made.open()
    yield made
    await made.close()


async def standings(ledger: Ledger, *events: Event) -> list[str]:
    return [claimed.standing for claimed in await ledger.claim(events)]


async def test_one_holds_a_claim_until_it_is_marked(tmp_path, ledger):
    """Of two processes one may write an event; the other hears busy, then written, and never mine."""
    other = Ledger(tmp_path / "ledger.db")
    await other.open()
    assert await standings(ledger, event(1), event(2)) == ["mine", "mine"]
    assert await standings(other, event(1)) == ["busy"]
    assert await standings(ledger, event(1)) == ["busy"]
    assert await standings(other, event(1, digest="x")) == ["other"]
    await ledger.mark([event(1)], [(0, 7)])
    assert await standings(other, event(1), event(2)) == ["written", "busy"]
    await other.close()


async def test_a_claim_is_free_when_its_owner_gave_it_up_or_left(tmp_path, ledger):
    """What was not marked is written again by the next: with the first event id, so that readers see a repeat."""
    other = Ledger(tmp_path / "ledger.db")
    await other.open()
    await standings(ledger, event(1), event(2))
    await ledger.release([event(1)])
    taken = await other.claim([event(1)._replace(id="another"), event(2)])
    assert [(one.standing, one.event_id) for one in taken] == [("mine", "e-1"), ("busy", "e-2")]
    await other.close()
    assert await standings(ledger, event(1)) == ["mine"]


async def test_the_claims_of_a_dead_process_are_free_after_a_while(tmp_path):
    """A process that beats no more is gone: nobody waits for it for ever."""
    dead = Ledger(tmp_path / "ledger.db")
    await dead.open()
    await standings(dead, event(1))
    dead._beating.cancel()  # as kill -9 does: no goodbye
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("UPDATE owners SET until_ms = 1")
    living = Ledger(tmp_path / "ledger.db")
    await living.open()
    assert await standings(living, event(1)) == ["mine"]
    assert living.is_tailing
    await living.close()
    await dead._file.close()


async def test_one_process_reads_the_log_for_all(tmp_path):
    """The tail has one owner; when it leaves, the next beat of another takes it."""
    ledger, other = (Ledger(tmp_path / "ledger.db", beat_seconds=0.02) for _ in range(2))
    await ledger.open()
    await other.open()
    assert (ledger.is_tailing, other.is_tailing) == (True, False)
    await ledger.close()

    async def took_over() -> bool:
        return other.is_tailing

    await until(took_over)
    await other.close()


async def test_a_day_later_a_name_is_new(tmp_path):
    """What is older than the memory may come again, with another content too."""
    ledger = Ledger(tmp_path / "ledger.db", remember_hours=1e-6)
    await ledger.open()
    await standings(ledger, event(1))
    await ledger.mark([event(1)], [(0, 1)])
    await asyncio.sleep(0.02)
    assert await standings(ledger, event(1, digest="new")) == ["mine"]
    await ledger.close()


async def test_the_memory_is_bounded(tmp_path):
    """Endings beyond the ceiling go, the oldest first; positions stay."""
    ledger = Ledger(tmp_path / "ledger.db", max_endings=10, beat_seconds=0.02)
    await ledger.keep([ended(n) for n in range(50)], {("results", 0): 50})
    await ledger.open()

    async def forgot() -> bool:
        return await ledger.endings("orders", "e-39") is None

    await until(forgot)
    assert await ledger.endings("orders", "e-40") is not None
    assert await ledger.positions() == {("results", 0): 50}
    await ledger.close()


async def test_the_newest_ending_of_a_task_holds(ledger):
    """A final result replaces the provisional one, whatever order they are read again in."""
    await ledger.keep([ended(1, kind="provisional"), ended(1, at_ms=2**41 + 9, content={"n": 9})], {})
    await ledger.keep([ended(1, kind="provisional")], {})
    (one,) = await ledger.endings("orders", "e-1")
    assert (one.kind, one.content, one.is_final) == ("result", {"n": 9}, True)


async def test_files_that_cannot_be_are_told(tmp_path):
    """A foreign file is a mistake with the setting's name; a folder that is not there is weather with its path."""
    (tmp_path / "foreign.db").write_bytes(b"no database" * 100)
    foreign = Ledger(tmp_path / "foreign.db")
    with pytest.raises(SettingsError, match=r"gateway\.ledger_file"):
        await foreign.open()
    await foreign._file.close()
    nowhere = Ledger(tmp_path / "no" / "folder.db")
    with pytest.raises(LedgerUnavailable, match=r"gateway\.ledger_file"):
        await nowhere.open()
    await nowhere._file.close()
    newer = Ledger(tmp_path / "newer.db")
    await newer.open()
    await newer.close()
    with sqlite3.connect(tmp_path / "newer.db") as db:
        db.execute("PRAGMA user_version = 99")
    again = Ledger(tmp_path / "newer.db")
    with pytest.raises(SettingsError, match="version 99"):
        await again.open()
    await again._file.close()
