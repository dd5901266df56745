"""Metrics: declared once, named as Prometheus wants them, and true: they add up to what the log holds."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fakes import GatedTier, ScriptedTier, make_task, note
from penstock import Again, Failure, Partition, Step
from penstock.engine.batcher import BatchLimits
from penstock.engine.pipeline import Pipeline, PipelineOptions
from penstock.engine.retry import RetryOptions
from penstock.flow.base import Estimate, Usage, Wait
from penstock.flow.ceilings import SpendOptions
from penstock.flow.gate import Gate, Permit
from penstock.flow.limits import LimitOptions
from penstock.flow.readings import gate_samples, spend_samples
from penstock.flow.spend import Spend
from penstock.log.base import TopicSpec
from penstock.log.sqlite import SqliteLog
from penstock.log.state import STATE_TOPIC
from penstock.ops.ops import Ops, OpsOptions
from penstock.telemetry.counts import Counts, Histogram
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.metrics import ALL, EVENT_AGE, PARTITION_WAITING, RESULTS
from penstock.telemetry.reference import metrics_page
from penstock.telemetry.sample import Sample

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "examples" / "alerts.yaml"
LABELS = {
    "task", "tier", "sink", "model", "reason", "kind", "cause", "class", "confidence", "change", "operation", "version", "delivery",
    "header", "family", "scope", "name", "period", "part",
}  # fmt: skip
ENDS = ("", "_bucket", "_count", "_sum")
USD = 1_000_000_000
NOT_BASE = re.compile(
    r"_(ms|millis\w*|micros\w*|nanos\w*|minutes|hours|days|kb|mb|kilobytes|megabytes|percent|dollars)(_|$)"
)
QUICK = PipelineOptions(
    commit_interval_seconds=0.01,
    drain_seconds=5.0,
    batch=BatchLimits(max_wait_seconds=0.01),
    retry=RetryOptions(first_seconds=0.01, most_seconds=0.05, hand_over_after_seconds=1.0),
)


@pytest.fixture
async def log(tmp_path):
    log = SqliteLog(tmp_path / "events.db")
    await log.create_topics(
        [TopicSpec(name, partitions=3) for name in ("notes", "labeler-results", "labeler-dlq", "labeler.retry")]
        + [TopicSpec(STATE_TOPIC, partitions=1, is_compacted=True)]
    )
    yield log
    await log.close()


def served(exposition: Exposition) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample of the page: by name, then by labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    page, _ = exposition.page()
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def until(condition):
    """Wait for it; the caller's time-out is a bound against hanging."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def used_gate() -> Gate:
    """A gate after one call that was answered and one that has to wait, with the level that the reply showed."""
    gate = Gate(LimitOptions(requests_per_minute=12, burst_seconds=5.0), clock=lambda: 100.0)
    gate.note_share("labeler", 3, 12)
    permit = gate.admit(Estimate("haiku", 100, 20, 0, "labeler"))
    assert isinstance(permit, Permit)
    permit.hear(
        {f"anthropic-ratelimit-requests-{name}": value for name, value in (("limit", "12"), ("remaining", "6"))}
    )
    permit.succeeded(Usage(90, 25, 0))
    assert isinstance(gate.admit(Estimate("haiku", 100, 20, 0, "labeler")), Wait)
    return gate


async def run_over(log, task, events):
    """A task over events until all have ended; its ops, still readable, and the pipeline."""
    tiers = [step.tier for step in task.route.steps]
    pipeline = Pipeline(task, tiers, log, QUICK)
    spend = Spend(SpendOptions(day_usd=5.0))
    spend.settle(spend.reserve("t", "m", 4 * USD), 4 * USD, 3 * USD)
    spend.reserve("t", "m", USD // 2)
    gate = used_gate()
    sources = [lambda: spend_samples(spend), lambda: gate_samples(gate)]
    ops = Ops(OpsOptions(port=0), [pipeline], log, sources)
    await log.append(events)
    stop, counts = asyncio.Event(), pipeline.counts
    async with asyncio.timeout(20), ops:
        run = asyncio.create_task(pipeline.run(stop))
        await until(lambda: counts.done + counts.hand_overs >= len(events))
        await ops.look()
        page = served(ops.exposition)
        stop.set()
        await run
    return page


def total(page, name, **labels):
    """The sum over the samples that have these labels."""
    return sum(value for found, value in page[name].items() if labels.items() <= dict(found).items())


# --- the names


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric):
    """One prefix, base units, `_total` for counters and only for them, a help text, bounded labels, rising buckets."""
    assert re.fullmatch(r"penstock_[a-z]+(_[a-z]+)*", metric.name)
    assert not NOT_BASE.search(metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.help.endswith(".")
    own = {"topic", "partition"} if metric is PARTITION_WAITING else set()
    assert set(metric.labels) <= LABELS | own
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    words = metric.name.removesuffix("_total").split("_")
    assert not set(words[:-1]) & {"bytes", "usd"} or words[-1] == "flight", "the unit stands at the end"


def test_every_metric_is_declared_once():
    """Two declarations of one name would be two meanings."""
    assert len({metric.name for metric in ALL}) == len(ALL) > 30


def test_names_in_code_and_documentation_are_declared():
    """Whoever writes a metric's name means one that exists."""
    declared = {metric.name + end for metric in ALL for end in ENDS}
    kinds = r"(?:total|seconds|records|in_flight|waiting|held|usd|info|ready|items|owned|paused|ratio|per_second|calls|outage|disabled)"
    name = re.compile(rf"\bpenstock_[a-z_]*{kinds}(?:_bucket|_count|_sum)?\b")
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ALERTS]
    assert len(name.findall(ALERTS.read_text())) > 10
    used = {(found, file.name) for file in files for found in name.findall(file.read_text())}
    assert {found for found, _ in used} >= {metric.name for metric in ALL}
    assert not [place for place in used if place[0] not in declared]


@pytest.mark.parametrize("rule", ["check rules", "check metrics"])
def test_the_tool_of_prometheus_agrees(rule):
    """promtool, where this machine has it, accepts the alerts and the page; the tests above hold without it."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on this machine (Debian: apt-get install prometheus)")
    counts = Counts()
    counts.results = 3
    sources = [lambda: [Sample(RESULTS, ("t",), counts.results), Sample(EVENT_AGE, ("t",), counts.event_age_seconds)]]
    page, _ = Exposition(sources).page()
    command = [promtool, *rule.split(), *([str(ALERTS)] if rule == "check rules" else [])]
    done = subprocess.run(command, input=page, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_the_documentation_is_made_of_the_declarations():
    """docs/reference/metrics.md is what `python -m penstock.telemetry.reference` prints."""
    assert (ROOT / "docs" / "reference" / "metrics.md").read_text() == metrics_page()


def test_the_engine_knows_no_metrics_library():
    """Counting is adding to integers: importing the engine brings no prometheus_client."""
    code = "import sys, penstock.engine.pipeline; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "penstock.telemetry.counts" in done.stdout
    assert "prometheus_client" not in done.stdout


# --- the numbers


@given(st.lists(st.floats(0, 1e5) | st.sampled_from(EVENT_AGE.buckets)))
def test_a_histogram_counts_each_value_once_and_under_its_bound(values):
    """A bound belongs to the values that equal it; many at once and one at a time are the same."""
    one, many = Histogram(EVENT_AGE), Histogram(EVENT_AGE)
    for value in values:
        one.observe(value)
    many.observe_all(values)
    assert one.counts == many.counts
    assert one.sum == many.sum
    assert one.count == len(values)
    for number, bound in enumerate(EVENT_AGE.buckets):
        assert sum(one.counts[: number + 1]) == sum(value <= bound for value in values)
    assert bisect_left(EVENT_AGE.buckets, EVENT_AGE.buckets[0]) == 0


def test_buckets_are_served_cumulative_and_end_in_infinity():
    """Prometheus reads at most so many, not so many in between."""
    counts = Counts()
    counts.event_age_seconds.observe_all([0.1, 0.7, 0.7, 1e9])
    page = served(Exposition([lambda: [Sample(EVENT_AGE, ("t",), counts.event_age_seconds)]]))
    found = {dict(labels)["le"]: value for labels, value in page["penstock_event_age_seconds_bucket"].items()}
    assert found["0.5"] == 1
    assert found["1.0"] == 3
    assert found["+Inf"] == 4
    assert page["penstock_event_age_seconds_count"] == {(("task", "t"),): 4}


def test_labels_with_any_text_do_not_break_the_page():
    """A user's tier may have any name."""
    name = 'a"b\\c\nd{}'
    page = served(Exposition([lambda: [Sample(RESULTS, (name,), 3)]]))
    assert page["penstock_results_total"] == {(("task", name),): 3}


async def test_what_is_served_adds_up_to_what_was_done(log):
    """Results, letters, hand-overs, outcomes, escalations and money agree with each other and with the tiers' own books."""

    def first(tier, items):
        by = {"n0": lambda i: tier.answer_of(i, "unsure"), "n1": lambda _: Failure("rejected", "no"),
              "n2": lambda _: Again("server_error", after_seconds=60.0, charge=tier.charge())}  # fmt: skip
        return [by.get(item.event_id, tier.answer_of)(item) for item in items]

    cheap, dear = ScriptedTier("cheap", first), ScriptedTier("dear")
    task = make_task(Step(cheap, accept="sure"), Step(dear), max_batch_items=5)
    page = await run_over(log, task, [note(n) for n in range(40)])
    came_back = total(page, "penstock_records_read_total") - 40
    assert came_back in {0, 1}, "the hand-over may have been read from the retry topic already"
    assert total(page, "penstock_results_total") == 38
    assert (
        total(page, "penstock_dead_letters_total") == total(page, "penstock_dead_letters_total", reason="rejected") == 1
    )
    assert total(page, "penstock_hand_overs_total", reason="server_error") == 1
    assert total(page, "penstock_event_age_seconds_count") == 39
    assert total(page, "penstock_escalations_total", tier="cheap") == 1
    assert total(page, "penstock_answers_total", tier="cheap", confidence="unsure") == 1
    assert total(page, "penstock_outcomes_total", tier="cheap", kind="answer") == 38
    assert total(page, "penstock_outcomes_total", tier="dear", kind="answer") == 1
    assert total(page, "penstock_outcomes_total", kind="again", reason="server_error") == 1
    called = total(page, "penstock_calls_total", tier="cheap")
    assert 8 <= called <= len(cheap.calls)
    assert total(page, "penstock_batch_items_sum", tier="cheap") == 40
    assert total(page, "penstock_call_seconds_count", tier="cheap") == called
    billed = 40 * 7e-9  # 38 answers and one again of the cheap tier, one answer of the dear one
    assert total(page, "penstock_spend_usd_total", model="model") == pytest.approx(billed)
    assert total(page, "penstock_committed_usd_total") == pytest.approx(billed)
    assert total(page, "penstock_tokens_total", **{"class": "input"}) == 40 * 10
    assert total(page, "penstock_items_in_flight") == came_back
    assert bool(total(page, "penstock_bytes_in_flight")) == bool(came_back)
    assert total(page, "penstock_partitions_owned") == 6
    of = {"scope": "all", "period": "day"}
    assert total(page, "penstock_spend_ceiling_usd", **of) == 5.0
    assert total(page, "penstock_spend_period_usd", **of) == 3.0
    assert total(page, "penstock_spend_margin_usd", **of) == 0.5
    assert total(page, "penstock_spend_reserve_usd", **of) == 0.0
    assert total(page, "penstock_spend_warnings_total", part="0.5") == 1
    assert total(page, "penstock_spend_warnings_total", part="0.8") == 0


async def test_limits_are_told_as_they_are(log):
    """The account's limit, how full it was shown, what this worker may use of it and did, and what it waited for."""
    page = await run_over(log, make_task(ScriptedTier()), [note(1)])
    of = {"family": "haiku", "kind": "requests"}
    assert total(page, "penstock_limit_per_second", **of) == pytest.approx(0.2)
    assert total(page, "penstock_limit_level_ratio", **of) == pytest.approx(0.5)
    assert total(page, "penstock_limit_base_ratio", task="labeler") == pytest.approx(0.25)
    assert total(page, "penstock_limit_granted_ratio", task="labeler", **of) == pytest.approx(0.25 / 8)
    assert total(page, "penstock_limit_borrowed_ratio", task="labeler", **of) == pytest.approx(0.0, abs=0.01)
    assert total(page, "penstock_limit_used_total", task="labeler", family="haiku", kind="output_tokens") == 25
    assert total(page, "penstock_limit_waits_total", family="haiku", cause="requests") == 1
    assert total(page, "penstock_limit_refusals_total", family="haiku") == 0
    assert total(page, "penstock_limit_calls", family="haiku") >= 8
    assert total(page, "penstock_outage", family="haiku") == 0


async def test_everything_served_is_declared_and_almost_all_is_always_served(log):
    """No sample comes from anywhere but the declarations; alerts find their metrics from the first scrape on."""
    page = await run_over(log, make_task(ScriptedTier()), [note(1)])
    declared = {metric.name + end for metric in ALL for end in ENDS}
    ours = {name for name in page if name.startswith("penstock_")}
    assert ours <= declared
    only_when_it_happened = {
        "penstock_hand_overs_total",
        "penstock_partition_waiting_seconds",
        "penstock_tier_held",
        "penstock_tier_wait_seconds_total",
    }
    missing = {m.name for m in ALL if "sink" not in m.labels and not any(m.name + end in ours for end in ENDS)}
    assert missing <= only_when_it_happened
    assert "process_cpu_seconds_total" in page or sys.platform != "linux"


async def test_waiting_is_counted_by_its_cause(log):
    """With one call at a time the others wait, and the metric says for what."""
    tier = ScriptedTier(seconds=0.02, max_calls=1)
    page = await run_over(log, make_task(tier, max_batch_items=5), [note(n) for n in range(50)])
    assert total(page, "penstock_tier_wait_seconds_total", cause="concurrency") > 0
    assert total(page, "penstock_tier_held", cause="concurrency") == 0


async def test_waste_is_part_of_the_spend(log):
    """Law 9 in metrics: what was billed is committed or wasted."""
    tier = GatedTier()
    pipeline = Pipeline(make_task(tier), [tier], log, QUICK)
    await log.append([note(n) for n in range(4)])
    stop = asyncio.Event()
    run = asyncio.create_task(pipeline.run(stop))
    async with asyncio.timeout(10):
        await until(lambda: pipeline.counts.calls)
        await pipeline.lost([Partition("notes", n) for n in range(3)])
        tier.gate.set()
        await until(lambda: pipeline.counts.late)
        stop.set()
        await run
    counts = pipeline.counts
    assert sum(counts.billed_nanousd.values()) == tier.billed_nanousd > 0
    assert counts.waste_nanousd + counts.nanousd == tier.billed_nanousd
    assert counts.partitions_lost == 3
    assert counts.rebalances["lost"] == 1
