"""The simulator as a process: options in, one line out, mistakes told, and an end with its parent."""

import json
import subprocess
import sys

import pytest

from bounded import line_of
from penstock.simulator import OptionError, SimulatorOptions, spawn
from penstock.simulator.__main__ import parser, run
from penstock.simulator.process import _arguments

ODD = SimulatorOptions(
    seed=5,
    latency_ms=1.5,
    usage_tier="scale",
    api_keys=("a", "b"),
    spend_cap_usd=2.5,
    fault_rates={"529": 0.1},
    fault_script=("500", {"kind": "400", "match": "x"}),
)


def test_options_survive_the_command_line():
    """What `spawn` is given is what the process gets; defaults are not sent."""
    assert _arguments(SimulatorOptions()) == []
    given = vars(parser().parse_args(_arguments(ODD)))
    for name in ("seed", "latency_ms", "usage_tier", "spend_cap_usd", "fault_rates"):
        assert given[name] == getattr(ODD, name), name
    assert (tuple(given["api_keys"]), tuple(given["fault_script"])) == (ODD.api_keys, ODD.fault_script)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--answer-book", "/nowhere/book.jsonl"], "answer book /nowhere/book.jsonl: No such file"),
        (["--latency-ms", "-1"], "latency_ms=-1.0: not below 0"),
        (["--fault-rates", '{"teapot": 1}'], "no fault of kind 'teapot'"),
        (["--fault-rates", "[]"], "--fault-rates"),
        (["--fault-script", '["x"]'], "no fault of kind 'x'"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (["--port", "70000"], "port=70000"),
    ],
)
def test_mistakes_are_one_line_and_code_2(arguments, words, capsys):
    """A mistake of the caller's is one line that names it, and exit code 2."""
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--usage-tier", "gold"], ["--fault-rates", "{"], ["--what"]])
def test_arguments_that_cannot_be_read(arguments):
    """argparse refuses what it cannot read, with the same code."""
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    assert caught.value.code == 2


@pytest.mark.slow
def test_spawned_process_serves_and_stops():
    """spawn gives a ready URL, faults and reset work through it, and nothing is left behind."""
    with spawn(ODD) as simulator:
        assert simulator.accounts()["script_left"] == 2
        simulator.set_faults(script=[])
        simulator.reset()
        assert (simulator.accounts()["script_left"], list(simulator.calls())) == (0, [])
    with pytest.raises(OSError):
        simulator.accounts()
    simulator.stop()


@pytest.mark.slow
def test_process_ends_with_its_parent():
    """Whoever holds the other end of standard input dies, and the simulator ends by itself."""
    command = [sys.executable, "-m", "penstock.simulator", "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert json.loads(line_of(process))["url"].startswith("http://127.0.0.1:")
            process.stdin.close()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_spawn_tells_a_failed_start():
    """A process that cannot start is an error, not a hang."""
    with pytest.raises(OptionError, match="exit code 2"):
        spawn(SimulatorOptions(answer_book="/nowhere/book.jsonl"))
