"""What the demo shows: every line fits its terminal, whatever the numbers, and says that the judgement is simulated."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from penstock.claude.models import Models
from penstock.demo.board import render
from penstock.demo.deliveries import Delivered
from penstock.demo.findings import Findings, TaskFindings
from penstock.demo.gateway import Entrance, Port
from penstock.demo.place import Place
from penstock.demo.plain import line
from penstock.demo.pressure import Absorbed, Use
from penstock.demo.summary import Ended, print_summary
from penstock.demo.tally import Tally
from penstock.demo.text import ceiling, dollars, saving, seconds
from penstock.demo.watch import Picture, TaskRow
from review_moderation import analyzer, moderator


def picture(scale=1, **changes):
    tasks = [moderator, analyzer]
    tally = Tally(tasks, Models.load(), {}, since_ms=0)
    tally.decisions = Counter(publish=2_000 * scale, hold=90 * scale, reject=150 * scale)
    tally.violations = Counter(spam=200 * scale, abuse=10 * scale, fake=90 * scale, manipulation=40 * scale)
    tally.sentiments = Counter(positive=900 * scale, negative=300 * scale, mixed=20 * scale, neutral=7 * scale)
    found = [TaskFindings(ended=2_240 * scale, results=2_200 * scale, dead_letters=40 * scale) for _ in tasks]
    findings = Findings(2_300 * scale, {t.name: f for t, f in zip(tasks, found, strict=True)}, billed_calls=300 * scale)
    rows = [TaskRow(t.name, t.name, 50.0 * scale, 60 * scale, f) for t, f in zip(tasks, found, strict=True)]
    shown = {
        "title": "Day 1 of a shop's reviews",
        "seconds": 42.0,
        "sent": 2_300 * scale,
        "total": 3_000 * scale,
        "day_time": "16:10",
        "rows": rows,
        "tally": tally,
        "findings": findings,
        "calls_in_flight": 12,
        "spent_nanousd": 12_345_678 * scale,
        "ceiling_usd": None,
        "gateway": "http://127.0.0.1:65535",
    }
    return Picture(**shown | changes)


def drawn(shown, width, height=24):
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(render(shown))
    return console.export_text().splitlines()


@pytest.mark.parametrize("scale", [1, 100])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"total": None, "day_time": ""},
        {"calls_in_flight": None, "ceiling_usd": 1.0},
        {"notes": ["  12 s  " + "a worker ended by itself " * 9] * 3},
        {"title": "Your events from …" + "x" * 39},
        {"limit": "output tokens of haiku bind: 103% used, 12,345 answered 429", "notes": ["n" * 80] * 3},
        {
            "delivered": Delivered(rows=581_000, webhooks=290_500, digests=4_100, delays_ms=[9_870] * 9),
            "guests": 12_345,
        },
        {"delivered": Delivered(rows=581_000, webhooks=290_500, digests=4_100, refused=17)},
    ],
)
def test_the_board_fits_a_terminal_of_80_by_24(scale, changes):
    """Nothing is cut off or wrapped, also where numbers are large."""
    lines = drawn(picture(scale, **changes), 80)
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(line.replace("from …", "") for line in lines)
    text = "\n".join(lines)
    assert "0 lost" in text
    assert "injection" in text


def test_the_board_says_who_judges():
    """A stand-in's verdicts are called simulated; a live run shows its ceiling."""
    assert "simulated judgement" in "\n".join(drawn(picture(), 80))
    live = "\n".join(drawn(picture(calls_in_flight=None, ceiling_usd=1.0), 80))
    assert "live, at most $1.00" in live
    assert "simulated" not in live
    assert "paid again" not in live


def test_loss_is_shown_as_what_it_is():
    """The picture does not hide what the judge found."""
    shown = picture()
    shown.findings.tasks["review-moderator"].lost = 3
    shown.findings.tasks["review-analyzer"].doubled = 2
    assert "3 lost   2 doubled" in "\n".join(drawn(shown, 80))
    assert "3 lost, 2 doubled" in line(shown)


def test_a_plain_line_holds_everything_that_the_board_shows():
    """A pipe's reader learns the same: rate, lag, calls, dead letters, dollars, and the counts from outside."""
    said = line(picture())
    for part in ("2,300/3,000 events", "lag 60", "50/s", "12 calls in flight", "80 dead letters", "$0.0123"):
        assert part in said
    assert "one call per event" in said
    assert "0 lost, 0 doubled, 0 paid again" in said


def test_the_limit_that_binds_is_on_the_board_and_in_the_lines():
    """Which one, how much of it is used, and how many calls were turned away for it."""
    said = "output tokens of haiku bind: 98% used, 0 answered 429"
    assert said in "\n".join(drawn(picture(limit=said), 80))
    assert said in line(picture(limit=said))
    assert "429" not in "\n".join(drawn(picture(), 80)) + line(picture())


def test_the_summary_tells_what_became_of_the_burst(tmp_path):
    """How many waited, how long they took, which limit bound, and the 429s; nothing where there was none."""
    use = Use("haiku", "output tokens", 0.98)
    told = summary(tmp_path, picture(absorbed=Absorbed(1_036, 3.0, 10.2, 763, 14.2, use, 146, 0)))
    assert "The burst   1,036 events in 3.0 s, 10 times as many as before" in told
    assert "763 waited in the log at most; 14 s after its begin they were answered" in told
    assert "output tokens of haiku bound: 98% of the limit used" in told
    assert "0 of 146 calls answered 429" in told
    open_end = summary(tmp_path, picture(absorbed=Absorbed(1_036, 3.0, 10.2, 763, None, use, 146, 2)))
    assert "763 waited in the log at most, and some still do" in open_end
    assert "The burst" not in summary(tmp_path, picture())


def test_the_end_tells_what_arrived_and_what_did_not(tmp_path):
    """Rows, verified webhooks, an excerpt of a digest that stays text; what was refused or waits is told, too."""
    found = {
        "rows": 5_750, "webhooks": 2_949, "erasures": 10, "simulated": 2_939, "digests": 41, "delays_ms": [440] * 99 + [7_610],
        "last_digest": ("5 of hold · [red]fake.paid", "decision: hold", "evt-1 · sure, simulated\n" + "x" * 200),
    }  # fmt: skip
    told = summary(tmp_path, picture(delivered=Delivered(**found), guests=3))
    assert "5,750 rows of verdicts in" in told
    assert "2,949 webhooks verified: 2,939 verdicts (2,939 simulated), 10 erasures" in told
    assert "half came within 0.44 s of the commit, 99 % within 7.61 s" in told
    assert "5 of hold · [red]fake.paid" in told
    assert "came over HTTP, besides the demo's own events: 3" in told
    assert max(map(len, told[: told.index("Where to look")].replace(str(tmp_path), "").splitlines())) <= 80
    assert "waiting" not in told
    late = Delivered(**found, refused=2, repeats=4, waiting={"database": 7, "webhook.demo": 0, "slack.demo": 30})
    told = summary(tmp_path, picture(delivered=late))
    assert "still waiting in the log: 7 for the database" in told
    assert "still held for a digest" in told
    assert "2 messages without a right signature or form were refused" in told
    assert "4 came twice" in told


def test_commands_to_try_fit_a_line_and_stand_at_the_end_while_the_system_runs(tmp_path):
    """A user can copy them: no line is broken, also with a long port and a later day."""
    port = Port(65_535)
    port.close()
    port.number, port.wanted = 65_535, 8_080
    entrance = Entrance(port, 99)
    assert max(map(len, entrance.commands)) <= 78
    assert entrance.remark == "Port 8080 is taken: the gateway listens at http://127.0.0.1:65535."
    port.wanted = 65_535
    assert not Entrance(port, 1).remark
    told = summary(tmp_path, picture(), tuple(entrance.commands))
    assert all(f"  {command}\n" in told for command in entrance.commands)
    assert "--stay" not in told
    assert "--stay" in summary(tmp_path, picture())


def summary(directory, shown, commands=()):
    console = Console(width=80, record=True, file=io.StringIO())
    place = Place(directory / "demo", "")
    try:
        print_summary(console, shown, None, Ended(place, 0, is_finished=True, commands=commands))
    finally:
        place.close()
    return console.export_text()


def test_numbers_as_people_write_them():
    """Dollars, seconds, savings."""
    assert dollars(1_234_567_890) == "$1.2346"
    assert (ceiling(1), ceiling(0.002), ceiling(1_000)) == ("$1.00", "$0.002", "$1,000.00")
    assert (seconds(950), seconds(61_000)) == ("0.95 s", "61 s")
    assert saving(25, 100) == "-75 %"
    assert saving(100, 100) == saving(0, 0) == ""


@pytest.mark.parametrize(
    ("found", "delivery", "title", "is_promised"),
    [
        ({}, "exactly_once", "Nothing lost, nothing doubled", True),
        ({"doubled": 1}, "exactly_once", "SOMETHING WENT WRONG", False),
        ({"doubled": 1}, "at_least_once", "Nothing lost; doubled as the delivery allows", True),
        ({"lost": 1}, "at_least_once", "SOMETHING WENT WRONG", False),
        ({"unproduced": 2}, "exactly_once", "SOMETHING WENT WRONG", False),
    ],
)
def test_the_summary_holds_the_log_to_its_promise(tmp_path, found, delivery, title, is_promised):
    """A double is an error, except where the log says that it may double; what nobody produced is one everywhere."""
    shown = picture()
    for name, count in found.items():
        setattr(shown.rows[0].found, name, count)
    place = Place(tmp_path / "demo")
    ended = Ended(place, 0, is_finished=True, delivery=delivery)
    console = Console(width=100, record=True, file=io.StringIO())
    print_summary(console, shown, None, ended)
    place.close()
    text = console.export_text()
    assert title in text
    assert ended.is_promised(shown) is is_promised
    assert ("AT LEAST ONCE" in text) is (delivery == "at_least_once")
    assert ("2 results or dead letters are of events that nobody produced" in text) is ("unproduced" in found)
