"""Long waits are told once, with what to do, and so is their end; working at a limit is not news."""

from __future__ import annotations

import logging

import pytest

from fakes import ScriptedTier, make_task
from penstock.engine.batcher import BatchLimits
from penstock.engine.cascade import Cascade
from penstock.engine.retry import RetryOptions
from penstock.engine.waits import Waits


@pytest.fixture
def stage():
    tier = ScriptedTier("haiku")
    return Cascade(make_task(tier), [tier], BatchLimits(), RetryOptions(), lambda: 0.0).stages[0]


def test_a_long_wait_is_told_once_and_so_is_its_end(stage, caplog):
    """An outage of minutes gives two lines in the log, not thousands and not none."""
    waits = Waits("moderator")
    stage.wait_for("outage", 100.0)
    with caplog.at_level(logging.INFO):
        for now in (100.1, 104.9, 105.1, 200.0, 300.0):
            waits.look([stage], now)
        stage.wait_for("", 301.0)
        waits.look([stage], 301.0)
    assert [r.getMessage() for r in caplog.records] == [
        "moderator waits for haiku: the API does not answer as it should; it is tried from time to time. Nothing is lost",
        "moderator: haiku answers again",
    ]


def test_a_wait_that_is_known_to_be_long_is_told_at_once(stage, caplog):
    """A spend ceiling is told when it is met, and names the setting."""
    stage.wait_for("spend", 1.0)
    stage.hold_until = 3_600.0
    Waits("moderator").look([stage], 1.0)
    assert "[spend]" in caplog.text


def test_the_ceiling_that_holds_is_named(stage, caplog):
    """Of several ceilings a person must know which one to raise, and by how much."""
    stage.wait_for("spend", 1.0)
    stage.hold_until, stage.detail = 3_600.0, "spend.hour_usd=0.01 is reached: $0.009 is spent or may be"
    Waits("moderator").look([stage], 1.0)
    assert "moderator waits for haiku: spend.hour_usd=0.01 is reached: $0.009 is spent" in caplog.text


def test_working_at_a_limit_is_no_news(stage, caplog):
    """With a backlog the rate limit always binds: metrics tell it, the log does not."""
    stage.wait_for("output_tokens", 1.0)
    Waits("moderator").look([stage], 1_000.0)
    assert caplog.text == ""
