"""What the latest results of a task tell: which step answers how much, what an event took, how long calls lasted.

results topic → [measured] → known
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from penstock.claude.models import Tokens
from penstock.errors import TopicMissing
from penstock.planning.known import Known, Took, answers_of

if TYPE_CHECKING:
    from penstock.log.base import EventLog
    from penstock.record import Record
    from penstock.task import Task

MOST_RESULTS = 2_000
ENOUGH = 100
"""Fewer say too little about how often each step answers."""
Result = dict[str, Any]


async def measured(log: EventLog, task: Task[Any, Any], prompts: set[str]) -> Known:
    """From the latest final results that were made with these prompts (by their hashes); empty where there are too few."""
    try:
        bounds = await log.bounds(task.writes)
    except TopicMissing:
        return Known()
    records: list[Record] = []
    for partition, kept in bounds.items():
        most = MOST_RESULTS // len(bounds) + 1
        records += await log.read(partition, max(kept.low, kept.high - most), most)
    results = [found for record in records if (found := _result(record, task)) is not None]
    ours = [result for result in results if result["prompt"] in prompts or not result["prompt"]]
    known = Known(answers_from=f"measured on {len(ours):,} results")
    if len(ours) < ENOUGH:
        if results:
            older = len(results) - len(ours)
            known.notes.append(
                f"{len(results):,} results of this task were seen, {older:,} of them made with other instructions: "
                f"too few to measure on (at least {ENOUGH})"
            )
        return known
    steps = [step.name for step in task.route.steps]
    counts = Counter(result["tier"] for result in ours)
    known.answers = answers_of({step: counts[step] / len(ours) for step in steps}, steps)
    known.took = _took(ours, steps)
    known.calls = _calls(ours, steps)
    simulated = sum(bool(result["simulated"]) for result in ours)
    if simulated:
        known.notes.append(f"{simulated:,} of the {len(ours):,} results measured on were made up by the simulator")
    return known


def _result(record: Record, task: Task[Any, Any]) -> Result | None:
    """A final result of this task; what others write into the topic is none."""
    try:
        value = orjson.loads(record.value or b"")
        is_ours = value["task"] == task.name and not value["provisional"]
        return value if is_ours and value["usage"] and value["times"] and value["tier"] is not None else None
    except (ValueError, KeyError, TypeError):
        return None


def _took(results: Sequence[Result], steps: Sequence[str]) -> dict[str, list[Took]]:
    """Usage stands on a result for all its steps together: a later step's is what goes beyond the earlier ones'."""
    took: dict[str, list[Took]] = {}
    before = dict.fromkeys(("input_tokens", "output_tokens"), 0.0)
    for step in steps:
        own = [result for result in results if result["tier"] == step]
        if not own or not own[0]["model"]:
            continue
        means = {name: sum(r["usage"][name] for r in own) / len(own) for name in before}
        cached = sum(r["usage"]["cache_read_tokens"] for r in own)
        more = {name: mean - before[name] for name, mean in means.items()}
        if cached and min(more.values()) > 0:  # uncached prompts would count as events here
            tokens = Tokens(input=round(more["input_tokens"] * 1000), output=round(more["output_tokens"] * 1000))
            took[step] = [Took(1_000, tokens._replace(cache_read=0), is_without_prompt=True)]
        before = means
    return took


def _calls(results: Sequence[Result], steps: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Items and seconds of the first step's calls: of those answered at once, from asked to answered is the call."""
    first = [r for r in results if r["tier"] == steps[0] and r["attempts"] == 1 and len(r["calls"]) == 1]
    if not first or not first[0]["model"]:
        return {}
    sizes = Counter(result["calls"][0][0] for result in results if result["calls"])
    ends = sorted(result["times"]["answered"] for result in first)
    inner = range(ends[len(ends) // 5], ends[-len(ends) // 5] + 1)  # calls at the edges may be seen in part
    seconds: dict[str, list[float]] = defaultdict(list)
    for result in first:
        times = result["times"]
        if times["answered"] in inner:
            seconds[result["calls"][0][0]].append((times["answered"] - times["asked"]) / 1000)
    return {steps[0]: [(sizes[call], sum(each) / len(each)) for call, each in seconds.items()]}
