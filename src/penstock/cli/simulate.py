"""`penstock simulate`: the offline Claude API in the foreground.

terminal → [simulate] → simulator
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from penstock.cli.command import Invocation, command
from penstock.cli.console import tell
from penstock.errors import SettingsError

PORT = 8787
LIMITS = "Limits"
FAULTS = "Faults"
SCRIPT_EXAMPLE = '["500", "stall"]'
_Limit = Annotated[int | None, typer.Option(min=1, rich_help_panel=LIMITS)]
_MaxInFlight = Annotated[
    int, typer.Option(help="More calls at once are answered 529; 0 no limit.", min=0, rich_help_panel=LIMITS)
]
_SpendCap = Annotated[
    float | None, typer.Option(help="Calls are turned away beyond this.", min=0, rich_help_panel=LIMITS)
]
_FaultRates = Annotated[
    list[str] | None,
    typer.Option("--fault", metavar="KIND=SHARE", help="e.g. --fault 529=0.01. Repeatable.", rich_help_panel=FAULTS),
]
_FaultScript = Annotated[
    str,
    typer.Option(
        metavar="JSON", help=f"The next calls' faults in order, e.g. {SCRIPT_EXAMPLE}.", rich_help_panel=FAULTS
    ),
]


@command
def simulate(
    invocation: Invocation,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for a free one.", min=0, max=65535)] = PORT,
    seed: Annotated[int, typer.Option(help="Verdicts, latencies and faults follow from it.")] = 0,
    answer_book: Annotated[str, typer.Option("--answers", metavar="FILE", help="Recorded answers (JSON lines).")] = "",
    api_keys: Annotated[
        list[str] | None, typer.Option("--api-key", help="Accept only this key. Repeatable; any key unless given.")
    ] = None,
    latency_ms: Annotated[float, typer.Option(help="Time before a reply.", min=0)] = 300.0,
    per_item_ms: Annotated[float, typer.Option(help="Time added per event of a call.", min=0)] = 8.0,
    jitter: Annotated[float, typer.Option(help="Spread of the latency, e.g. 0.15.", min=0)] = 0.0,
    usage_tier: Annotated[
        str, typer.Option(help="start, build, scale or unlimited.", rich_help_panel=LIMITS)
    ] = "unlimited",
    requests_per_minute: _Limit = None,
    input_tokens_per_minute: _Limit = None,
    output_tokens_per_minute: _Limit = None,
    max_in_flight: _MaxInFlight = 0,
    spend_cap_usd: _SpendCap = None,
    fault_rates: _FaultRates = None,
    fault_script: _FaultScript = "",
    refusal_marker: Annotated[
        str, typer.Option(help="A call whose text contains this is refused.", rich_help_panel=FAULTS)
    ] = "",
) -> None:
    """Serve a stand-in for the Claude API, for work without network, key or cost, until Ctrl-C."""
    from penstock.simulator import OptionError, SimulatorOptions, main

    try:
        options = SimulatorOptions(
            host=host,
            port=port,
            seed=seed,
            answer_book=answer_book,
            api_keys=tuple(api_keys or ()),
            latency_ms=latency_ms,
            per_item_ms=per_item_ms,
            jitter=jitter,
            usage_tier=usage_tier,
            requests_per_minute=requests_per_minute,
            input_tokens_per_minute=input_tokens_per_minute,
            output_tokens_per_minute=output_tokens_per_minute,
            max_in_flight=max_in_flight,
            spend_cap_usd=spend_cap_usd,
            fault_rates=_rates(fault_rates or []),
            fault_script=_script(fault_script),
            refusal_marker=refusal_marker,
        )
        if not invocation.is_quiet:
            _hint(options.host, options.port)
        main(options)
    except OptionError as error:
        raise SettingsError(str(error)) from None


def _hint(host: str, port: int) -> None:
    where = f"http://{host}:{port}" if port else "the URL below"
    tell(f"An offline stand-in for the Claude API: its answers are made up. Point workers at it:\n"
         f"  export PENSTOCK_CLAUDE__BASE_URL={where} PENSTOCK_CLAUDE__API_KEY=offline")  # fmt: skip


def _rates(given: list[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for text in given:
        kind, _, share = text.partition("=")
        try:
            rates[kind] = float(share)
        except ValueError:
            raise SettingsError(f"--fault {text}: write KIND=SHARE, for example 529=0.01") from None
    return rates


def _script(given: str) -> tuple[Any, ...]:
    if not given:
        return ()
    try:
        script = json.loads(given)
    except ValueError as error:
        raise SettingsError(f"--fault-script is no JSON: {error}") from None
    return tuple(script) if isinstance(script, list) else (script,)
