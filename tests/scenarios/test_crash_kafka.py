"""Crash proof on Apache Kafka: kills, zombies, a restarted broker. The reader that judges is Kafka's own console consumer."""

from __future__ import annotations

import pytest

from crash import assert_laws, crash_run
from crash_tasks import in_order
from kafka_console import check_by_console
from kafka_own import own_broker
from review_moderation import analyzer

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


@pytest.fixture
def broker():
    """A broker of this test's own: its topics have fixed names, and it is restarted."""
    broker = own_broker("the crash proof restarts the broker")
    yield broker
    broker.stop()


TASKS = {"crash_tasks:in_order": in_order, "review_moderation:analyzer": analyzer}
"""One group with `order="key"`, whose events often climb to a second and a third tier, and one without."""
CLASSIC = {
    "PENSTOCK_KAFKA_LOG__GROUP_PROTOCOL": "classic",
    "PENSTOCK_KAFKA__SESSION_TIMEOUT_MS": "6000",
    "PENSTOCK_KAFKA__HEARTBEAT_INTERVAL_MS": "500",
}


async def test_kills_zombies_and_a_broker_restart_lose_nothing(tmp_path, broker):
    """Laws 1, 2, 3, 9 on Kafka: one ending for every event whoever dies, in the order of its key where asked, every nanodollar explained."""
    made, found = await crash_run(
        tmp_path, events=2_000, per_second=150, faults=["kill", "broker", "zombie", "kill"], seed=5, tasks=TASKS,
        log_url=f"kafka:{broker.bootstrap}", log_faults={"broker": broker.restart}, check=check_by_console(broker),
    )  # fmt: skip
    assert_laws(made, found, 2_000)


async def test_a_zombie_and_a_kill_under_the_classic_protocol(tmp_path, broker):
    """Laws 1, 2, 3, 9 where the clients assign the partitions: the late commit of a worker that lost them is refused there too."""
    made, found = await crash_run(
        tmp_path, events=800, per_second=150, faults=["zombie", "kill"], seed=17, tasks=TASKS,
        log_url=f"kafka:{broker.bootstrap}", check=check_by_console(broker), **CLASSIC,
    )  # fmt: skip
    assert_laws(made, found, 800)


@pytest.mark.soak
async def test_the_whole_crash_proof_on_kafka(tmp_path, broker):
    """24 faults over 50,000 events that keep coming."""
    faults = ["kill", "kill", "zombie", "kill", "broker", "kill"] * 4
    made, found = await crash_run(
        tmp_path, events=50_000, per_second=250, faults=faults, seed=13, tasks=TASKS,
        log_url=f"kafka:{broker.bootstrap}", log_faults={"broker": broker.restart}, check=check_by_console(broker),
    )  # fmt: skip
    assert_laws(made, found, 50_000)
