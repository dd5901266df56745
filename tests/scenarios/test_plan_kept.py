"""What `penstock plan` foretells is what a run then costs and takes, within 15 %: workers against a simulated account."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli_calls import cli_in
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import SimulatorProcess, spawn
from review_moderation.samples import day

pytestmark = pytest.mark.slow

WITHIN = 0.15
LONGEST_SECONDS = 300.0
"""Of one run; the longest takes a minute and a half."""
TASKS = """
from dataclasses import replace
from penstock import Route
from review_moderation import moderator

whole = replace(moderator, name="whole", reads="reviews", start_from="earliest")
first = replace(whole, name="first", route=Route("haiku"))
"""
PACE = {"latency_ms": 500.0, "per_item_ms": 8.0, "jitter": 0.1}


def events(count: int) -> list[bytes]:
    """Reviews of a day, on one line each; some of them no reviews at all."""
    made = (event.value for event in day(seed=3, events=2 * count) if event.value and event.key)
    lines = []
    for value in made:
        try:
            json.loads(value)
        except ValueError:
            continue
        lines.append(value.replace(b"\n", b" ") + b"\n")
    random.Random(1).shuffle(lines)  # a day changes from hour to hour: what was is no measure of what comes
    return lines[:count]


def until_idle(task: str, settings: list[str]) -> None:
    """A worker as a user starts it, until everything is answered; bounded, and its last words are told where it is not."""
    command = [sys.executable, "-m", "penstock.cli", "run", f"tasks:{task}", "--yes", "--until-idle", *settings]
    said = Path("worker.log")
    with said.open("wb") as out:
        try:
            code = subprocess.run(command, stdout=out, stderr=out, timeout=LONGEST_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
    words = said.read_text(errors="replace")[-3_000:]
    assert code == 0, f"waited {LONGEST_SECONDS:.0f} s for {task} to answer all events; exit code {code}\n{words}"


def foretold_and_true(
    directory: Path,
    task: str,
    lines: list[bytes],
    simulator: SimulatorProcess,
    *settings: str,
    asks: bool = True,
    before: int = 0,
) -> tuple[dict[str, Any], float, float]:
    """The plan, and then what the simulator billed and how long it was asked for. `before`: so many are answered first."""
    shared = [part for one in (f"claude.base_url={simulator.url}", "claude.api_key=offline", "ops.port=off", *settings) for part in ("-X", one)]  # fmt: skip
    with cli_in(directory) as cli:
        cli.write("tasks.py", TASKS)
        cli.done("topics", "create", "--task", f"tasks:{task}", "--partitions", "4")
        for number, part in enumerate((lines[:before], lines[before:])):
            if not part:
                continue
            if number:
                simulator.reset()
            cli.write("part.jsonl", b"".join(part))
            cli.done("produce", "part.jsonl", "--topic", "reviews", "--key-field", "product_id")
            if not number:
                until_idle(task, shared)
        told = cli.page("plan", f"tasks:{task}", "--json", *(["--ask"] if asks else []), *shared)
        simulator.reset()
        until_idle(task, shared)
    calls = list(simulator.calls())
    seconds = (max(call["ended_ms"] for call in calls) - min(call["started_ms"] for call in calls)) / 1000
    return told, sum(call["nanousd"] for call in calls) / 1e9, seconds


def compare(name: str, told: dict[str, Any], usd: float, seconds: float) -> None:
    """Print both, and hold the plan to its word."""
    expected = told["expected"]
    wrong_usd, wrong_seconds = expected["usd"] / usd - 1, expected["seconds"] / seconds - 1
    print(
        f"\n{name}: ${expected['usd']:.4f} foretold, ${usd:.4f} billed ({wrong_usd:+.1%}); "
        f"{expected['seconds']:.1f} s foretold, {seconds:.1f} s taken ({wrong_seconds:+.1%}); binds: {expected['binds']['told']}"
    )
    assert abs(wrong_usd) < WITHIN
    assert abs(wrong_seconds) < WITHIN


@pytest.mark.parametrize(
    ("binds", "count", "account", "settings"),
    [
        ("input_tokens", 1_500, {"input_tokens_per_minute": 100_000}, ()),
        ("requests", 2_500, {"requests_per_minute": 60}, ()),
        pytest.param("output_tokens", 1_500, {"output_tokens_per_minute": 25_000}, (), marks=pytest.mark.soak),
        pytest.param("calls", 6_000, {"latency_ms": 2_000.0}, ("concurrency.max_calls=8",), marks=pytest.mark.soak),
    ],
)
def test_dollars_and_time_are_as_foretold(tmp_path: Path, binds, count, account, settings):
    """Whichever limit binds, a trial of some calls tells it, the time to drain and the bill."""
    with spawn(SimulatorOptions(**{**PACE, **account})) as simulator:
        told, usd, seconds = foretold_and_true(tmp_path, "first", events(count), simulator, *settings)
    assert told["expected"]["binds"]["what"] == binds
    compare(f"{binds} bind", told, usd, seconds)


@pytest.mark.soak
def test_with_a_mix_measured_on_earlier_results(tmp_path: Path):
    """A route of three models: what each of them answered before tells what the next ones cost, without any call."""
    options = {**PACE, "output_tokens_per_minute": 60_000}
    with spawn(SimulatorOptions(**options)) as simulator:
        told, usd, seconds = foretold_and_true(
            tmp_path,
            "whole",
            events(5_500),
            simulator,
            "limits.default.output_tokens_per_minute=60000",
            asks=False,
            before=2_500,
        )
    assert any("measured on" in text for text in told["assumptions"])
    compare("a route of three models", told, usd, seconds)
