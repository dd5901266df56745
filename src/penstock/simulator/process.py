"""The simulator as a process of its own, for whoever starts it from Python.

demo | tests → [process] → __main__
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from penstock.simulator.options import OptionError, SimulatorOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SimulatorProcess:
    """A running `python -m penstock.simulator`. It ends when it is stopped or its parent dies."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process = process
        self.url = url

    @property
    def pid(self) -> int:
        """For whoever watches its CPU."""
        return self._process.pid

    def accounts(self) -> dict[str, Any]:
        """The true bill so far."""
        found: dict[str, Any] = json.loads(self._ask("accounts"))
        return found

    def calls(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Ledger rows after a `seq`, in the order in which the calls ended."""
        while rows := self._ask(f"calls?after={after}").splitlines():
            for line in rows:
                row: dict[str, Any] = json.loads(line)
                after = row["seq"]
                yield row

    def set_faults(self, *, rates: dict[str, float] | None = None, script: list[Any] | None = None) -> None:
        """Replace rates, script or both."""
        given = {"rates": rates, "script": script}
        self._ask("faults", {name: value for name, value in given.items() if value is not None})

    def reset(self) -> None:
        """Empty accounts, cache and buckets; faults stay."""
        self._ask("reset", {})

    def stop(self) -> None:
        """End it and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, name: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/simulator/{name}", data=data)  # noqa: S310 — always our own URL
        with _direct.open(request, timeout=30) as reply:
            found: bytes = reply.read()
        return found


def spawn(options: SimulatorOptions | None = None) -> SimulatorProcess:
    """Start a simulator in a process of its own and wait until it is ready."""
    command = [
        sys.executable,
        "-m",
        "penstock.simulator",
        "--exit-with-parent",
        *_arguments(options or SimulatorOptions()),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        SimulatorProcess(process, "").stop()
        raise OptionError(f"the simulator did not start (exit code {process.returncode}); its own words stand above")
    return SimulatorProcess(process, json.loads(line)["url"])


def _arguments(options: SimulatorOptions) -> list[str]:
    """The options that are not at their defaults, as arguments."""
    arguments: list[str] = []
    for field, default in ((field, getattr(SimulatorOptions(), field.name)) for field in fields(options)):
        value = getattr(options, field.name)
        if value == default or field.name == "exit_with_parent":
            continue
        name = "--" + field.name.replace("_", "-")
        if field.name == "api_keys":
            arguments += [part for key in value for part in ("--api-key", key)]
        elif field.name in ("fault_rates", "fault_script"):
            arguments += [name, json.dumps(dict(value) if field.name == "fault_rates" else list(value))]
        else:
            arguments += [name, str(value)]
    return arguments
