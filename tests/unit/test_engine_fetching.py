"""What is held while a codec fetches: order, weather, partitions that go, and faults that stop."""

from __future__ import annotations

import asyncio

import pytest

from fakes import ScriptedTier, make_task
from penstock import Partition, Record
from penstock.engine.fetching import Fetches
from penstock.errors import CodecUnavailable, SettingsError


class Lending:
    """A codec that decodes only values whose first letter it has fetched; each fetch waits for the test's word."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.fetches: list[int] = []
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()

    def lacks(self, records):
        return any(record.value[:1] not in self.known for record in records)

    async def fetch(self, records):
        self.fetches.append(len(records))
        if (error := await self.answers.get()) is not None:
            raise error
        self.known |= {record.value[:1] for record in records}

    def __call__(self, record, model):
        return model(text=record.value.decode())


def records(*values: bytes, partition: int = 0) -> list[Record]:
    return [Record("notes", partition, n, None, value, (), 0) for n, value in enumerate(values)]


async def until_released(fetches: Fetches) -> list[Record]:
    """As the intake loop does: it asks again with nothing new."""
    async with asyncio.timeout(5):
        while fetches.is_holding:
            if ready := fetches.admit([]):
                return list(ready)
            await asyncio.sleep(0.01)
    return []


@pytest.fixture
async def codec():
    return Lending()


@pytest.fixture
async def fetches(codec):
    fetches = Fetches(make_task(ScriptedTier(), decode=codec))
    yield fetches
    await fetches.close()


async def test_a_task_without_such_a_codec_is_never_held():
    """Everything passes as it came."""
    given = records(b"a", b"b")
    fetches = Fetches(make_task(ScriptedTier()))
    assert fetches.admit(given) is given


async def test_a_batch_is_held_whole_and_in_order(codec, fetches):
    """Also what could be decoded already: nothing behind an unfetched record may be tracked before it (law 4)."""
    codec.known.add(b"a")
    given = records(b"a1", b"b1", b"a2")
    assert not fetches.admit(given)
    assert fetches.is_holding
    codec.answers.put_nowait(None)
    assert await until_released(fetches) == given
    assert not fetches.is_holding
    again = records(b"b2")
    assert fetches.admit(again) is again
    assert codec.fetches == [3]


async def test_weather_is_waited_out(codec, fetches):
    """Law 5: the fetch is tried again until it succeeds; the batch is neither lost nor given up."""
    given = records(b"a")
    fetches.admit(given)
    codec.answers.put_nowait(CodecUnavailable("down"))
    codec.answers.put_nowait(CodecUnavailable("still down"))
    codec.answers.put_nowait(None)
    assert await until_released(fetches) == given
    assert codec.fetches == [1, 1, 1]


async def test_records_of_a_lost_partition_are_let_go(codec, fetches):
    """Law 3: whoever owns it reads them again; the rest of the batch stays."""
    mine, lost = records(b"a"), records(b"b", partition=1)
    fetches.admit([*mine, *lost])
    fetches.forget({Partition("notes", 1)})
    codec.answers.put_nowait(None)
    assert await until_released(fetches) == mine


async def test_what_cannot_be_mended_by_waiting_is_raised(codec, fetches):
    """A mistake of the settings goes up to the pipeline, and what was held is never given out."""
    fetches.admit(records(b"a"))
    codec.answers.put_nowait(SettingsError("registry.basic_auth"))
    with pytest.raises(SettingsError, match=r"registry\.basic_auth"):
        await until_released(fetches)
    assert fetches.is_holding


async def test_closing_ends_a_fetch_that_waits(codec, fetches):
    """A stopping worker does not wait for a registry that is down."""
    fetches.admit(records(b"a"))
    await asyncio.sleep(0)
    await fetches.close()
    assert not fetches.is_holding
