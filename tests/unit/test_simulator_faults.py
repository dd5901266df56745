"""Faults: by script, by rate and seed, by header; each status with its headers, each defect of a reply."""

import json
from email.utils import parsedate_to_datetime

import pytest

from penstock.simulator.faults import CAPS, KINDS, PAGES, STATUSES, Fault, FaultError, Faults, read_fault, read_rates
from simulator_calls import SONNET, Account, batch, header_of, message

TEXTS = ["a fine lamp", "you idiots", "so so", "gut"]


def kinds_of(faults, calls):
    return [fault.kind if (fault := faults.late("", "")) else "" for _ in range(calls)]


@pytest.mark.parametrize("kind", sorted({*STATUSES, *PAGES, *CAPS, "429", "429_ramp"}))
def test_each_status_has_its_body(kind):
    """An error fault has the status of its name, costs nothing, and is JSON unless an edge proxy answers."""
    account = Account()
    exchange = account.send(message(), x_simulator_fault=kind)
    assert exchange.status == int(kind[:3])
    if kind in PAGES:
        assert exchange.content_type.startswith(b"text/html")
        assert exchange.body.startswith(b"<html>")
    else:
        assert json.loads(exchange.body)["request_id"] == exchange.request_id
    assert (account.totals()["nanousd"], account.totals()["faults"]) == (0, {kind: 1})
    assert account.totals()["calls_by_status"] == {kind[:3]: 1}


def test_headers_of_a_fault():
    """Seconds, milliseconds, an HTTP date and `x-should-retry` stand as asked for; 429 alone brings its own."""
    account = Account()

    def sent(**fault):
        return account.send(message(), x_simulator_fault=json.dumps(fault))

    assert header_of(sent(kind="529"), "retry-after") is None
    assert header_of(sent(kind="529", retry_after=7), "retry-after") == "7"
    assert header_of(sent(kind="429"), "retry-after") == "1"
    assert header_of(sent(kind="429", retry_after=30), "retry-after") == "30"
    assert header_of(sent(kind="429_spend"), "retry-after") is None
    assert header_of(sent(kind="500", retry_after_ms=250), "retry-after-ms") == "250"
    assert header_of(sent(kind="500", should_retry=False), "x-should-retry") == "false"
    named = parsedate_to_datetime(header_of(sent(kind="503", retry_after="date:90"), "retry-after"))
    assert 88 <= named.timestamp() - account.clock.unix() <= 90
    assert b'"error_code":"organization_on_hold"' in sent(kind="400", error_code="organization_on_hold").body


def test_script_is_consumed_in_order():
    """Each entry strikes once, in order, and then the API is well again."""
    account = Account(fault_script=("500", {"kind": "529", "times": 2}, "missing"))
    statuses = [account.send(batch(*TEXTS)).status for _ in range(3)]
    assert statuses == [500, 529, 529]
    assert len(account.entries(batch(*TEXTS))) == len(TEXTS) - 1
    assert len(account.entries(batch(*TEXTS))) == len(TEXTS)
    assert account.totals()["script_left"] == 0


def test_script_may_ask_for_text_or_model():
    """An entry with `match` or `model` strikes those calls only, for ever unless `times` says otherwise."""
    account = Account(fault_script=({"kind": "400", "match": "poison"}, {"kind": "529", "model": SONNET, "times": 1}))
    assert [account.send(batch(text)).status for text in ("fine", "poison here", "fine", "more poison")] == [
        200,
        400,
        200,
        400,
    ]
    assert account.send(message(model=SONNET, thinking=None)).status == 529
    assert account.send(message(model=SONNET, thinking=None)).status == 200


def test_faults_are_set_over_http():
    """The door takes a script and rates, says how many are left, and names what it does not know."""
    account = Account()
    answer = account.send({"script": ["500"], "rates": {"529": 0.0}}, path="/simulator/faults")
    assert json.loads(answer.body) == {"script_left": 1}
    assert account.send(message()).status == 500
    for wrong in (
        {"script": ["501"]},
        {"rates": {"500": 2}},
        {"speed": 1},
        [1],
        {"script": [{"kind": "500", "colour": 1}]},
    ):
        refused = account.send(wrong, path="/simulator/faults")
        assert refused.status == 400, wrong
        assert json.loads(refused.body)["error"]


def test_same_seed_same_faults():
    """Seed, rates and order of calls decide; another seed strikes others; rates are kept on the whole."""
    rates = {"529": 0.2, "500": 0.1}
    drawn = kinds_of(Faults(7, rates), 2000)
    assert kinds_of(Faults(7, rates), 2000) == drawn
    assert kinds_of(Faults(8, rates), 2000) != drawn
    assert 0.17 < drawn.count("529") / 2000 < 0.23
    assert 0.08 < drawn.count("500") / 2000 < 0.12


@pytest.mark.parametrize(
    "wrong",
    [
        "teapot",
        {"kind": 5},
        {"kind": "500", "times": "x"},
        {"kind": "500", "retry_after": "soon"},
        {"kind": "500", "retry_after": "date:x"},
        {"kind": "reset_before", "match": "x"},
        17,
        {},
    ],
)
def test_faults_that_cannot_be(wrong):
    """A fault with a mistake in it is refused in words, not ignored."""
    with pytest.raises(FaultError):
        read_fault(wrong)


@pytest.mark.parametrize(
    "wrong", [{"500": 1.5}, {"500": -1}, {"500": "x"}, {"none": 0.1}, {"500": 0.6, "529": 0.6}, []]
)
def test_rates_that_cannot_be(wrong):
    """Rates are shares of all calls and add up to one at most."""
    with pytest.raises(FaultError):
        read_rates(wrong)


def test_header_with_a_mistake_is_rejected():
    """A per-request override that cannot be is a 400 that names the header."""
    assert "x-simulator-fault" in Account().refusal(message(), x_simulator_fault="teapot")[2]
    assert "x-simulator-fault" in Account().refusal(message(), x_simulator_fault="{")[2]


def defective(kind):
    account = Account()
    reply = account.reply(batch(*TEXTS), x_simulator_fault=kind)
    assert account.totals()["faults"] == {kind: 1}
    return account, reply


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("missing", ["a0", "a1", "a3"]),
        ("duplicate", ["a0", "a1", "a2", "a3", "a2"]),
        ("foreign", ["a0", "a1", "zz!zz", "a3"]),
        ("permuted", ["a3", "a2", "a1", "a0"]),
        ("enum_case", ["a0", "a1", "a2", "a3"]),
    ],
)
def test_defects_of_the_ids(kind, ids):
    """Each defect is what its name says, and the call is billed as it came."""
    account, reply = defective(kind)
    entries = json.loads(reply["content"][0]["text"])["r"]
    assert [entry["i"] for entry in entries] == ids
    assert account.totals()["nanousd"] > 0
    if kind == "enum_case":
        assert {entry["d"] for entry in entries} <= {"P", "H", "R"}
        assert entries[1]["e"] == "you idiots"


def test_defects_of_the_whole():
    """Truncated, empty, refused and invalid replies stop as the API's do."""
    _, cut = defective("truncated")
    assert cut["stop_reason"] == "max_tokens"
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut["content"][0]["text"])
    _, empty = defective("empty")
    assert (empty["stop_reason"], empty["content"]) == ("end_turn", [])
    account, refused = defective("refusal")
    assert (refused["stop_reason"], refused["stop_details"]["type"]) == ("refusal", "refusal")
    assert account.totals()["nanousd"] == 0
    _, invalid = defective("invalid_json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(invalid["content"][0]["text"])
    _, listed = defective("not_an_object")
    assert isinstance(json.loads(listed["content"][0]["text"]), list)


def test_every_kind_is_tested_or_of_the_wire():
    """No kind is known to the script that nothing carries out."""
    wire = {"reset_before", "reset_after", "stall", "drip"}
    defects = {
        "missing",
        "duplicate",
        "foreign",
        "permuted",
        "enum_case",
        "truncated",
        "refusal",
        "empty",
        "invalid_json",
        "not_an_object",
    }
    assert KINDS - wire - defects == {*STATUSES, *PAGES, *CAPS, "429", "429_ramp"}
    for kind in KINDS - wire - defects:
        assert Fault(kind).error(0.0).status == Fault(kind).status
