"""`penstock try`: one event, with everything that happens to it shown.

terminal → [try_one] → wiring
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import Invocation, command, run_async
from penstock.cli.completion import complete_tasks
from penstock.cli.console import emit_page, out, tell
from penstock.cli.failures import CHECK_FAILED, FAILED, OK
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.outcome import Charge, Outcome
    from penstock.wiring import Asked, Trial


RULE_COLUMNS = 70


@command
def try_one(
    invocation: Invocation,
    reference: Annotated[
        str, typer.Argument(metavar="MODULE:TASK", help="module:name, file.py:name.", autocompletion=complete_tasks)
    ],
    event: Annotated[str, typer.Argument(metavar="TEXT|FILE|-", help="Plain words, JSON, a file, or - for stdin.")],
    *,
    is_live: Annotated[bool, typer.Option("--live", help="Ask the real API; refuse without a key.")] = False,
    is_simulated: Annotated[bool, typer.Option("--simulated", help="Made-up answer, even with a key.")] = False,
    number: Annotated[int, typer.Option("--line", help="Which event of a file with many.", min=1)] = 1,
    is_brief: Annotated[bool, typer.Option("--brief", help="Leave out the prompt.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Ask about one event and show prompt, reply, outcome, tokens and cost. Nothing is written to the log."""
    from penstock.cli.answering import answering, has_credentials, need_credentials
    from penstock.cli.loading import load_tasks
    from penstock.cli.one_event import one_event
    from penstock.wiring import ask_once

    if is_live and is_simulated:
        raise SettingsError("--live and --simulated exclude each other")
    settings = invocation.settings
    (task,) = load_tasks([reference], policy=settings.policy)
    given = one_event(event, task.input, line=number)
    if given.hint and not invocation.is_quiet:
        tell(given.hint)
    if is_live:
        need_credentials(settings)
    simulates = is_simulated or not (is_live or has_credentials(settings))
    if simulates and not invocation.is_quiet:
        tell("SIMULATED: no model is asked, the answer is made up" + ("" if is_simulated else " (no API key is set)"))
    with answering(settings, is_simulated=simulates) as answers:
        trial = run_async(ask_once(answers.settings, task, given.value))
    simulates = simulates or _says_simulated(trial)
    if as_json:
        emit_page(as_object(trial, is_simulated=simulates))
    else:
        _print(out(), trial, is_brief=is_brief, is_simulated=simulates)
    raise typer.Exit(_code(trial))


def _says_simulated(trial: Trial) -> bool:
    """An address of the user's own may be a simulator's: its replies say so."""
    from penstock.outcome import Answer

    return any(isinstance(asked.outcome, Answer) and asked.outcome.by.simulated for asked in trial.asked)


def _code(trial: Trial) -> int:
    from penstock.outcome import Again, Failure

    match trial.outcome:
        case Failure():
            return CHECK_FAILED
        case Again():
            return FAILED
    return OK


def as_object(trial: Trial, *, is_simulated: bool) -> dict[str, Any]:
    """The whole trial for machines."""
    return {
        "event_id": trial.item.event_id,
        "simulated": is_simulated,
        "outcome": _outcome(trial.outcome),
        "usd": sum(charge.nanousd for charge in _charges(trial)) / 1e9,
        "asked": [
            {
                "tier": asked.tier,
                "request": dict(asked.request),
                "reply": asked.reply,
                "outcome": _outcome(asked.outcome),
                "charge": asked.outcome.charge._asdict() if asked.outcome.charge else None,
                "seconds": round(asked.seconds, 3),
            }
            for asked in trial.asked
        ],
    }


def _charges(trial: Trial) -> list[Charge]:
    return [asked.outcome.charge for asked in trial.asked if asked.outcome.charge is not None]


def _outcome(outcome: Any) -> dict[str, Any]:
    from penstock.engine.cascade import Erased
    from penstock.outcome import Again, Answer, Deferred, Failure

    match outcome:
        case Answer():
            output = outcome.output.model_dump(mode="json")
            return {"kind": "answer", "confidence": outcome.confidence, "model": outcome.by.model, "output": output}
        case Failure():
            return {"kind": "failure", "reason": outcome.reason, "detail": outcome.detail}
        case Again():
            return {"kind": "again", "reason": outcome.reason, "detail": outcome.detail}
        case Deferred():
            return {"kind": "deferred", "lane": outcome.lane, "provisional": _outcome(outcome.provisional)}
        case Erased():
            return {"kind": "erased", "reason": outcome.why, "subject": outcome.subject}
    return {"kind": "skipped", "reason": outcome.why}


def _print(console: Console, trial: Trial, *, is_brief: bool, is_simulated: bool) -> None:
    for asked in trial.asked:
        _rule(console, f"{asked.tier}")
        if not is_brief and asked.request:
            _section(console, "prompt", _prompt(asked))
        if asked.reply:
            _section(console, "reply", _indented_json(asked.reply))
        _section(console, "outcome", _told(asked.outcome))
        _section(console, "tokens and cost", _cost(asked, is_simulated=is_simulated))
    if not trial.asked:
        _section(console, "outcome", _told(trial.outcome))
        return
    dollars = sum(charge.nanousd for charge in _charges(trial)) / 1e9
    if len(trial.asked) > 1:
        _rule(console, "whole route")
        console.print(f"${dollars:.6f} over {len(trial.asked)} tiers", markup=False)


def _rule(console: Console, title: str) -> None:
    console.print(f"── {title} {'─' * (RULE_COLUMNS - len(title))}", style="dim", markup=False)


def _section(console: Console, title: str, text: str) -> None:
    console.print(title, style="bold")
    for row in text.splitlines() or [""]:
        console.print(f"  {row}", markup=False, soft_wrap=True)


def _prompt(asked: Asked) -> str:
    request = asked.request
    system = request.get("system", [])
    parts = [block.get("text", "") for block in system] if isinstance(system, list) else [str(system)]
    for message in request.get("messages", []):
        content = message["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        parts += ["", f"[{message['role']}]", *(block.get("text", "") for block in blocks)]
    return "\n".join([f"[system, {request.get('model', '')}]", *parts])


def _indented_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def _told(outcome: Outcome | Any) -> str:
    found = _outcome(outcome)
    match found["kind"]:
        case "answer":
            shown = json.dumps(found["output"], ensure_ascii=False, indent=2)
            return f"answer, {found['confidence']}\n{shown}"
        case "failure":
            return f"failure, {found['reason']}: {found['detail']}\nit would become a dead letter"
        case "again":
            return f"no answer this time, {found['reason']}: {found['detail']}\na worker would ask again"
        case "deferred":
            return f"deferred to {found['lane']}, for now:\n{json.dumps(found['provisional'], ensure_ascii=False, indent=2)}"
        case "erased":
            return f"erased, {found['reason']}: a worker would delete what it made of {found['subject']} before"
    return f"skipped, {found['reason']}: the task wants no answer for this event"


def _cost(asked: Asked, *, is_simulated: bool) -> str:
    charge = asked.outcome.charge
    if charge is None:
        return f"nothing was billed; {asked.seconds:.2f} s"
    would = " (simulated: what the real call would have cost)" if is_simulated else ""
    return (
        f"{charge.input_tokens:,} input, {charge.cache_write_tokens:,} cache write, "
        f"{charge.cache_read_tokens:,} cache read, {charge.output_tokens:,} output tokens\n"
        f"${charge.nanousd / 1e9:.6f}{would}; {asked.seconds:.2f} s"
    )
