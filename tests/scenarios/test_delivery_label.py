"""`delivery = "at_least_once"` is labelled wherever somebody looks, and nowhere where it is not set."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

import kafka_broker
from bounded import killed_after

pytestmark = [pytest.mark.slow, pytest.mark.kafka]
ROOT = Path(__file__).resolve().parents[2]
LABEL = re.compile("at.least.once", re.IGNORECASE)
OFFERED = "or go without, at least once"
"""What the doctor says of a cluster that refuses transactions: not a label."""
DELIVERIES = [("at_least_once", True), ("exactly_once", False)]
OWN = """\
from dataclasses import replace
from review_moderation import moderator as shipped

moderator = replace(
    shipped, name="{name}", reads="{name}-events", writes="{name}-out", dead_letters="{name}-dlq", start_from="earliest"
)
"""


class Shop:
    """A directory with a task of its own on the session's broker."""

    def __init__(self, directory: Path, delivery: str) -> None:
        self.bootstrap = kafka_broker.session_broker().bootstrap
        self.name = f"label-{uuid.uuid4().hex[:8]}"
        self._directory = directory
        (directory / "own.py").write_text(OWN.format(name=self.name))
        (directory / "penstock.toml").write_text(
            f'log = "kafka:{self.bootstrap}"\n[kafka_log]\ndelivery = "{delivery}"\n[ops]\nport = 0\n'
        )

    def start(self, *arguments: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """A command whose every word goes into one stream, unless told otherwise."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "ANTHROPIC_"))}
        return subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", *arguments],
            cwd=self._directory, env=clean, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip

    def data(self, *arguments: str) -> Any:
        """What a command prints as JSON; what it remarks of other tests' groups stands on stderr."""
        return json.loads(self.said(*arguments, stderr=subprocess.DEVNULL))

    def said(self, *arguments: str, stderr: int = subprocess.STDOUT) -> str:
        """All that a command says; whether it succeeds is for other tests."""
        process = self.start(*arguments, stderr=stderr)
        with killed_after(240, process):
            said = process.communicate()[0]
        assert process.returncode != -signal.SIGKILL, f"penstock {' '.join(arguments)}: no end within 240 s\n{said}"
        return said


@pytest.fixture(params=DELIVERIES, ids=[delivery for delivery, _ in DELIVERIES])
def shop(request, tmp_path):
    delivery, is_labelled = request.param
    shop = Shop(tmp_path, delivery)
    shop.said("topics", "create", "--task", "own:moderator", "--partitions", "1")
    return shop, is_labelled


def is_labelled_in(text: str) -> bool:
    return bool(LABEL.search(text))


def test_worker_status_and_metrics_say_it(shop):
    """The line with which a worker starts, its metrics, and what `status` shows, as a table and as JSON."""
    shop, is_labelled = shop
    worker = shop.start("run", "own:moderator", "--simulated")
    try:
        assert worker.stdout is not None
        first, url, lines = "", "", list[str]()
        with killed_after(90, worker):  # then its lines end
            for line in iter(worker.stdout.readline, ""):
                lines.append(line)
                first = first or (line if line.startswith("running ") else "")
                url = url or next(iter(re.findall(r"http://127\.0\.0\.1:\d+(?=.*metrics|/metrics)", line)), "")
                if first and url:
                    break
        assert (bool(first), bool(url)) == (True, True), (
            f"the worker did not say where it runs within 90 s:\n{''.join(lines)}"
        )
        assert is_labelled_in(first) is is_labelled, first
        found = re.search(r"penstock_log_info\{[^}]*\} 1", _metrics(url))
        assert found
        assert f'delivery="{"at_least_once" if is_labelled else "exactly_once"}"' in found[0]
        assert is_labelled_in(shop.said("status", "--group", shop.name)) is is_labelled
        page = shop.data("status", "--group", shop.name, "--json")
        assert page["delivery"] == ("at_least_once" if is_labelled else "exactly_once")
    finally:
        worker.terminate()
        with killed_after(60, worker):
            rest, _ = worker.communicate()
    assert worker.returncode == 0, rest


def _metrics(url: str) -> str:
    with contextlib.closing(urllib.request.urlopen(f"{url}/metrics", timeout=10)) as page:
        return page.read().decode()


def test_the_doctor_says_it(shop):
    """A warning with what it means and what to do; with transactions it says that delivery is exactly once."""
    shop, is_labelled = shop
    found = {f["check"]: f for f in shop.data("doctor", "own:moderator", "--json")["findings"]}
    told = json.dumps(found)
    assert is_labelled_in(told.replace(OFFERED, "")) is is_labelled
    if is_labelled:
        assert found["log transactions"]["status"] == "warn"
        assert "doubles" in found["log transactions"]["why"]
    else:
        assert found["log delivery"]["seen"].startswith("exactly once")


def test_the_demo_says_it(shop):
    """Before it begins and where it says that nothing is doubled."""
    shop, is_labelled = shop
    said = shop.said("demo", "--kafka", shop.bootstrap, "--events", "20", "--seconds", "1", "--plain")
    assert "every event has its ending" in said
    before, _, after = said.partition("What was flagged")
    assert (is_labelled_in(before), is_labelled_in(after)) == (is_labelled, is_labelled), said


def test_the_page_of_guarantees_says_it():
    """It stands at the top, where exactly once is promised, and has a section of its own."""
    page = (ROOT / "docs" / "explanation" / "guarantees.md").read_text()
    assert "## At least once, if you must" in page
    assert is_labelled_in(page.partition("\n## ")[0] + page.partition("\n## ")[2].partition("\n## ")[0])
