"""`penstock plan`: from a topic or a file, with what is known, assumed and measured told apart."""

from __future__ import annotations

import json

import pytest

from cli_calls import cli_in
from penstock.simulator.options import SimulatorOptions
from penstock.simulator.process import spawn

TASK = """
from typing import Literal
from pydantic import BaseModel
from penstock import Route, Step, Task

class Note(BaseModel):
    id: str
    text: str

class Label(BaseModel):
    label: Literal["good", "bad"]

sorter = Task("sorter", reads="notes", input=Note, output=Label, start_from="earliest", instructions="Say whether it is good.",
              route=Route(Step("haiku", accept="sure"), Step("opus")))

class Rules:
    name = "rules"
    async def answer(self, task, items): ...
    def capacity(self, task): ...
    async def close(self): ...

ruled = Task("ruled", reads="notes", input=Note, output=Label, instructions="Say whether it is good.",
             route=Route(Step(Rules()), Step("fable")))
"""


def lines(count, text="The kettle boils fast and keeps warm."):
    """Events as NDJSON."""
    return "".join(json.dumps({"id": f"n{n}", "text": text}) + "\n" for n in range(count))


@pytest.fixture
def cli(tmp_path):
    with cli_in(tmp_path) as cli:
        cli.write("notes.py", TASK)
        yield cli


@pytest.fixture
def topic(cli):
    cli.done("topics", "create", "--task", "notes:sorter", "--partitions", "3")
    return "notes"


def test_a_file_is_counted_whole_and_sampled(cli):
    """All events of a file are planned for; only so many are looked at, the same ones each time."""
    cli.write("notes.jsonl", lines(900))
    first, second = (cli.page("plan", "notes:sorter", "--file", "notes.jsonl", "-n", "50", "--json") for _ in range(2))
    assert (first["events"], first["sample"]["records"]) == (900, 50)
    assert first == second
    assert first["expected"]["usd"] > 0


def test_a_topic_is_what_waits_for_the_group(cli, topic):
    """The task's own topic, at the place where its group stands; partitions are those of the topic."""
    cli.write("notes.jsonl", lines(60))
    cli.done("produce", "notes.jsonl", "--topic", topic, "--key-field", "id")
    found = cli.page("plan", "notes:sorter", "--json")
    assert (found["events"], found["workers"]["partitions"]) == (60, 3)
    elsewhere = cli.page("plan", "notes:ruled", "--topic", topic, "--json")
    assert elsewhere["events"] == 60


def test_what_waits_for_nobody_is_planned_per_million(cli, topic):
    """`start_from="latest"` leaves what is there: nothing waits, and the price of a million stands all the same."""
    cli.write("notes.jsonl", lines(60))
    cli.done("produce", "notes.jsonl", "--topic", topic)
    found = cli.page("plan", "notes:ruled", "--json", "--rate", "5")
    assert (found["events"], found["expected"]["usd"], found["expected"]["seconds"]) == (0, 0, 0)
    assert found["expected"]["usd_per_million"] > 0
    assert found["arrival"]["keeps_up"]
    assert any(text.startswith("nothing waits in notes") for text in found["assumptions"])


def test_events_that_do_not_fit_are_counted_and_said(cli):
    """They become dead letters without a call: they cost nothing, and a person sees why."""
    cli.write("notes.jsonl", lines(30) + '{"id": 7}\n' * 10 + "no json\n" * 2)
    found = cli.page("plan", "notes:sorter", "--file", "notes.jsonl", "--json")
    assert (found["events"], found["sample"]["asked"]) == (40, 30)
    assert found["sample"]["unasked"] == {"undecodable": 10}
    alone = cli.page("plan", "notes:sorter", "--file", "notes.jsonl", "--json", "--events", "1000000")
    assert alone["expected"]["usd"] == pytest.approx(alone["expected"]["usd_per_million"], rel=0.02)
    said = cli.done("plan", "notes:sorter", "--file", "notes.jsonl")
    assert "no model is asked about 10: 10 undecodable" in said
    assert "2 lines are no JSON and left out (the first is line 41" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "notes.jsonl is empty: write an event on each line"),
        ("\n\n", "notes.jsonl is empty"),
        ("id,text\n1,good\n", "holds no JSON lines: line 1"),
        ('{"name": "x"}\n', "none of the 1 events looked at in notes.jsonl would be asked about"),
    ],
)
def test_a_file_that_gives_no_sample_is_refused(cli, content, said):
    """A plan of nothing would be a guess with figures."""
    cli.write("notes.jsonl", content)
    assert said in cli.refused("plan", "notes:sorter", "--file", "notes.jsonl")


def test_topics_that_give_no_sample_are_refused(cli, topic):
    """Missing or empty: said with what to do."""
    assert "is empty" in cli.refused("plan", "notes:sorter")
    assert "nowhere" in cli.refused("plan", "notes:sorter", "--topic", "nowhere")
    assert "exclude each other" in cli.refused("plan", "notes:sorter", "--topic", topic, "--file", "notes.jsonl")
    assert "cannot be read" in cli.refused("plan", "notes:sorter", "--file", "none.jsonl")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mix", "haiku=1.5"], "a share is 0 to 1"),
        (["--mix", "haiku=often"], "write STEP=SHARE"),
        (["--mix", "sonnet=0.5"], "the route has no step 'sonnet'"),
        (["--mix", "haiku=0.9", "--mix", "opus=0.2"], "more than all"),
        (["--mix", "haiku=0.5", "--mix", "opus=0.2"], "opus answers what is left"),
        (["--account", "tier4"], "write start, build, scale"),
        (["--budget", "0"], "nothing would ever be answered"),
        (["--share", "0"], "nothing would ever be answered"),
        (["--budget", "nan"], "--budget"),
        (["--rate", "nan"], "--rate"),
        (["--ask"], "or leave out --ask"),
    ],
)
def test_absurd_options_are_refused(cli, options, said):
    """The text names the option and what to write."""
    cli.write("notes.jsonl", lines(3))
    assert said in cli.refused("plan", "notes:sorter", "--file", "notes.jsonl", *options)


@pytest.mark.parametrize(
    "options", [["--workers", "0"], ["-n", "0"], ["--events", "9" * 20], ["--rate", "-1"], ["--events", "-1"]]
)
def test_numbers_out_of_range_are_wrong_usage(cli, options):
    """The command line itself refuses them."""
    cli.refused("plan", "notes:sorter", "--file", "notes.jsonl", *options)


def test_limits_come_from_class_settings_or_are_assumed(cli):
    """Each family's limits with their source; where nobody said any, that is the first thing to read."""
    cli.write("notes.jsonl", lines(30))

    def limits(*options):
        return cli.page("plan", "notes:ruled", "--file", "notes.jsonl", "--json", *options)["limits"]["fable-5"]

    assert (limits()["from"], limits()["requests_per_minute"]) == ("assumed", 1_000)
    assert limits("-X", "limits.fable.requests_per_minute=7")["requests_per_minute"] == 7
    assert limits("-X", "limits.haiku.requests_per_minute=7")["from"] == "assumed"
    assert limits("-X", "limits.default.requests_per_minute=7")["where"] == "[limits.default]"
    build = limits("--account", "build", "-X", "limits.fable.requests_per_minute=7")
    assert (build["from"], build["input_tokens_per_minute"]) == ("account", 1_500_000)
    capped = limits(
        "--account", "build", "-X", "limits.fable.requests_per_minute=7", "-X", "limits.fable.is_ceiling=true"
    )
    assert (capped["from"], capped["requests_per_minute"]) == ("account", 7)
    assert capped["where"] == "account class build, not above [limits.fable]"
    assert "limits of fable-5 are not known, assumed" in cli.done("plan", "notes:ruled", "--file", "notes.jsonl")


def test_a_plan_keeps_to_a_ceiling_as_a_worker_does(cli):
    """`is_ceiling`: a plan is not quicker than these numbers, whatever the account grants or has saved up."""
    cli.write("notes.jsonl", lines(30))

    def planned(*options):
        own = ("-X", "limits.haiku.requests_per_minute=10", *options)
        return cli.page("plan", "notes:sorter", "--file", "notes.jsonl", "--events", "100000", "--account", "build", "--json", *own)  # fmt: skip

    kept, raised = planned("-X", "limits.haiku.is_ceiling=true"), planned()
    assert kept["expected"]["account_events_per_second"] * 20 < raised["expected"]["account_events_per_second"]
    assert kept["expected"]["binds"]["what"] == "requests"
    assert not any("saved up" in text for text in kept["assumptions"])
    assert any("saved up" in text for text in raised["assumptions"])


def test_the_mix_is_said_and_rules_are_free(cli):
    """What a step answers changes dollars; where nobody said, the text says what was assumed."""
    cli.write("notes.jsonl", lines(30))

    def page(*options):
        return cli.page("plan", *options, "--file", "notes.jsonl", "--json", "--events", "100000")

    few, many = (page("notes:sorter", "--mix", f"haiku={share}")["expected"] for share in (0.99, 0.5))
    assert few["usd"] < many["usd"] < page("notes:sorter")["worst"]["usd"]
    assert [step["answers"] for step in many["steps"]] == [0.5, 0.5]
    free = page("notes:ruled", "--mix", "rules=1")
    assert free["expected"]["usd"] < 0.01 * page("notes:ruled")["expected"]["usd"]
    assert "haiku answers 90% of what it is asked: assumed" in cli.done("plan", "notes:sorter", "--file", "notes.jsonl")


def test_budgets_and_the_losing_case_are_named(cli):
    """At a glance: what ends first, and what the worst case costs."""
    cli.write("notes.jsonl", lines(30))
    said = cli.done("plan", "notes:sorter", "--file", "notes.jsonl", "--events", "1000000", "--budget", "1")
    assert "never: --budget ($1.00) pays" in said
    assert "binds       the budget: --budget, $1.00" in said
    assert "if every event goes to the end of the route" in said
    capped = cli.page("plan", "notes:sorter", "--file", "notes.jsonl", "--events", "10000000", "--account", "start", "--json")  # fmt: skip
    assert capped["worst"]["budget"]["usd"] == 500


def test_ceilings_of_the_settings_are_caps_and_what_is_left_out_is_said(cli):
    """Those of all and of this task cap the plan, another task's do not; those of single models are named as not looked at."""
    cli.done("init", ".")
    cli.write("notes.jsonl", '{"id": "1", "text": "It broke"}\n')
    ceilings = ("-X", "spend.tasks.feedback-sorter.hour_usd=0.5", "-X", "spend.tasks.other.hour_usd=0.1")
    cheap = ("-X", "spend.models.haiku.day_usd=0.2")
    said = cli.done("plan", "feedback:sorter", "--file", "notes.jsonl", "--events", "1000000", *ceilings, *cheap)
    assert "spend.tasks.feedback-sorter.hour_usd" in said
    assert "spend.tasks.other" not in said
    assert "spend.models.haiku.day_usd is not looked at" in " ".join(said.split())


def test_ask_measures_replies_times_and_limits(cli):
    """A trial costs cents, says so, and takes the place of guesses; the limits are those of the replies' headers."""
    cli.write("notes.jsonl", lines(60))
    with spawn(SimulatorOptions(output_tokens_per_minute=12_000, usage_tier="build")) as simulator:
        settings = ["-X", f"claude.base_url={simulator.url}", "-X", "claude.api_key=offline"]
        found = cli.page("plan", "notes:sorter", "--file", "notes.jsonl", "--json", "--ask", *settings)
        billed = simulator.accounts()["nanousd"] / 1e9
        taken = list(simulator.calls())
    assert found["limits"]["haiku-5.5"] == {
        "requests_per_minute": 5_000,
        "input_tokens_per_minute": 5_000_000,
        "output_tokens_per_minute": 12_000,
        "from": "asked",
        "where": "the API's own headers",
    }
    assert found["expected"]["binds"]["what"] == "output_tokens"
    haiku = [call for call in taken if "haiku" in call["model"]]
    per_item = sum(call["output_tokens"] for call in haiku) / sum(call["items"] for call in haiku)
    assert found["expected"]["account_events_per_second"] == pytest.approx(12_000 / 60 / per_item, rel=0.2)
    assert any(f"asked: 60 events in {len(taken)} calls for ${billed:.4f}, answered by a simulator" in text for text in found["assumptions"])  # fmt: skip


def test_ask_says_what_the_api_refused(cli):
    """A trial that cannot be made ends in words, not in a plan."""
    cli.write("notes.jsonl", lines(3))
    with spawn(SimulatorOptions(fault_rates={"529": 1.0})) as simulator:
        settings = ["-X", f"claude.base_url={simulator.url}", "-X", "claude.api_key=offline"]
        said = cli.refused("plan", "notes:sorter", "--file", "notes.jsonl", "--ask", *settings)
    assert "--ask: haiku could not be asked: 529" in said


def test_earlier_results_tell_the_mix(cli, topic):
    """Where results of the same instructions stand in the results topic, what each step answered is measured on them."""
    cli.write("notes.jsonl", lines(400))
    cli.done("produce", "notes.jsonl", "--topic", topic, "--key-field", "id")
    cli.done("run", "notes:sorter", "--simulated", "--yes", "--until-idle", "-X", "ops.port=off")
    found = cli.page("plan", "notes:sorter", "--json")
    tiers = [record["value"]["tier"] for record in cli.lines("tail", "sorter-results", "--from", "earliest", "--json")]
    share = tiers.count("haiku") / len(tiers)
    assert found["expected"]["steps"][0]["answers"] == pytest.approx(share, abs=1e-4)
    assert any("measured on 400 results" in text for text in found["assumptions"])
    assert any("made up by the simulator" in text for text in found["assumptions"])
    other = (cli.directory / "notes.py").read_text().replace("Say whether it is good.", "Say whether it is bad.")
    cli.write("changed.py", other)
    changed = cli.page("plan", "changed:sorter", "--json")
    assert any("400 of them made with other instructions" in text for text in changed["assumptions"])
