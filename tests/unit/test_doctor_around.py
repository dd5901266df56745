"""The doctor looks around: schema registry, ops port, brokers that are too old."""

from __future__ import annotations

import socket

import pytest

from fakes import ScriptedTier, make_task
from penstock.codecs import from_registry
from penstock.doctor.around import ops_port, registry
from penstock.doctor.version import age, version_of
from penstock.log.kafka.options import KafkaOptions
from penstock.settings import load_settings
from schema_registry import LocalRegistry


def settings(*assignments):
    return load_settings(assignments=assignments).settings


@pytest.fixture
def local():
    made = LocalRegistry()
    yield made
    made.stop()


def asking():
    return make_task(ScriptedTier(), decode=from_registry())


async def test_tasks_without_schemas_need_no_registry():
    """Nobody is nagged about a registry that no task asks."""
    assert await registry(settings(), [make_task(ScriptedTier())]) == []


async def test_a_registry_that_answers_is_well(local):
    """One question, whatever the number of tasks."""
    (found,) = await registry(settings(f"registry.url={local.url}"), [asking(), asking()])
    assert found.status == "ok"
    assert local.url in found.seen
    assert len(local.requests) == 1


async def test_a_registry_that_cannot_be_had_is_told_with_its_setting(local):
    """No address, nobody there, something else there: each says what to mend, and the tasks that need it."""
    (unset,) = await registry(settings(), [asking()])
    assert (unset.status, "registry.url is not set" in unset.seen) == ("fail", True)
    local.answer_all = (404, b"<html>nothing here</html>")
    (other,) = await registry(settings(f"registry.url={local.url}"), [asking()])
    assert (other.status, "no schema registry" in other.seen) == ("fail", True)
    local.stop()
    (gone,) = await registry(settings(f"registry.url={local.url}", "registry.timeout_seconds=1"), [asking()])
    assert gone.status == "fail"
    assert local.url in gone.fix
    assert "labeler" in gone.why
    local.start()


async def test_the_ops_port_is_tried_as_a_worker_would():
    """Free, off, taken by somebody, or on an address that this machine has not: what a worker would meet."""
    (free,) = await ops_port(settings("ops.port=0"))
    (off,) = await ops_port(settings("ops.port=off"))
    assert (free.status, off.status, off.seen[:3]) == ("ok", "ok", "off")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (refused,) = await ops_port(settings(f"ops.port={port}"))
    assert refused.status == "warn"
    assert f"ops.port={port}" in refused.seen
    (ours,) = await ops_port(settings(f"ops.port={port}"))  # what it opened it has closed
    assert ours.status == "ok"
    (elsewhere,) = await ops_port(settings("ops.host=192.0.2.1", "ops.port=0"))
    assert (elsewhere.status, "192.0.2.1" in elsewhere.seen) == ("fail", True)


@pytest.mark.parametrize(
    ("told", "status", "lacks"),
    [
        ("2.4-IV1", "fail", "KIP-447"),
        ("2.7-IV2", "fail", "KIP-516"),
        ("2.8-IV1", "warn", "KIP-734"),
        ("3.0-IV1", "ok", ""),
        ("3.9", "ok", ""),
        ("", "ok", ""),  # not told: nothing is claimed
        ("unknown", "ok", ""),
    ],
)
def test_brokers_too_old_are_told_by_what_they_lack(told, status, lacks):
    """The version that brokers speak among each other against what is asked of them."""
    (found,) = age(told, has_new_protocol=False, options=KafkaOptions())
    assert (found.check, found.status) == ("log version", status)
    assert lacks in found.why
    assert ("or newer" in found.fix) is (status != "ok")
    assert ("Kafka 3" in found.seen) is (told.startswith("3"))


def test_a_group_protocol_that_brokers_lack_is_told():
    """Asked for by name, it must be there; left to us, the older one serves."""
    (found,) = age("3.9", has_new_protocol=False, options=KafkaOptions(group_protocol="consumer"))
    assert found.status == "fail"
    assert "kafka_log.group_protocol" in found.seen
    (well,) = age("", has_new_protocol=True, options=KafkaOptions(group_protocol="consumer"))
    assert (well.status, "4.0 or newer" in well.seen) == ("ok", True)
    assert version_of("3.10-IV0") == (3, 10)
