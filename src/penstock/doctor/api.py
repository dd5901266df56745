"""Whether the Claude API answers this key, knows the route's models and shares our clock. Asks nothing that costs money.

settings, tasks → [api] → findings
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.claude.errors import Trouble, describe
from penstock.claude.models import Models
from penstock.doctor.finding import Finding, apart
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.claude.client import Catalogue
    from penstock.settings import Settings
    from penstock.task import Task

ANSWER_SECONDS = 10.0
API_SECONDS = 45.0
"""The SDK takes seconds to import, on a busy machine many."""
RETIRING_SOON_DAYS = 60
SKEW_WARN_SECONDS = 5.0
SKEW_FAIL_SECONDS = 300.0
_KEY_FIX = "set ANTHROPIC_API_KEY, PENSTOCK_CLAUDE__API_KEY or PENSTOCK_CLAUDE__API_KEY_FILE to a working key"


async def api(settings: Settings, tasks: Sequence[Task[Any, Any]]) -> list[Finding]:
    """One `GET /v1/models`, and everything that its answer tells."""
    from penstock.claude.client import ClaudeClient  # noqa: PLC0415 - the SDK takes seconds

    await apart(import_module, "anthropic")  # meanwhile the other checks go on
    options = replace(settings.claude, timeout_seconds=ANSWER_SECONDS, connect_timeout_seconds=ANSWER_SECONDS / 2)
    try:
        client = ClaudeClient(options)
    except SettingsError as error:
        return [Finding("api key", "fail", str(error), "No event can be answered.", _KEY_FIX)]
    began = time.time()
    try:
        found = await client.models()
    finally:
        await client.close()
    seconds = time.time() - began
    where = settings.claude.base_url or "the API"
    if isinstance(found, Trouble):
        return [_unreached(found, where)]
    is_simulated = "x-simulated" in found.headers
    seen = f"{where} answered in {seconds:.1f} s" + (": the offline simulator" if is_simulated else "")
    return [
        Finding("api key", "ok", seen),
        clock(found.headers.get("date"), began + seconds / 2, seconds),
        *_models(settings, tasks, found),
        *_limits(settings, found),
    ]


def _unreached(trouble: Trouble, where: str) -> Finding:
    said = describe(trouble)
    if trouble.status in {401, 403}:
        return Finding("api key", "fail", f"{where} refuses the key: {said}", "No event can be answered.", _KEY_FIX)
    if trouble.status:
        why = "The API is in trouble, or claude.base_url is not the API's address."
        return Finding("api key", "fail", f"{where} answered {said}", why, "try again; look at claude.base_url")
    why = "No event can be answered until it is; a worker waits and loses nothing."
    fix = "check network, proxy (HTTPS_PROXY) and claude.base_url"
    return Finding("api key", "fail", f"{where} cannot be reached: {said}", why, fix)


def clock(date: str | None, local: float, seconds: float) -> Finding:
    """Our clock beside the one of the API's `date` header, which counts whole seconds."""
    if not date:
        return Finding("clock", "warn", "the API told no date", "The clock could not be compared.", "check NTP by hand")
    ahead = local - (parsedate_to_datetime(date).timestamp() + 0.5)
    beyond = max(0.0, abs(ahead) - seconds / 2 - 0.5)
    return skew("clock", ahead, beyond, "the API's")


def skew(check: str, ahead: float, beyond: float, whose: str) -> Finding:
    """`ahead`: our clock against theirs; `beyond`: how much of it is no error of the measurement."""
    seen = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} {whose}"
    if beyond <= SKEW_WARN_SECONDS:
        return Finding(check, "ok", f"within {max(1.0, abs(ahead)):.0f} s of {whose}")
    why = "Ages, lag and the times on results are wrong by as much; later, certificates and tokens are refused."
    return Finding(check, "fail" if beyond > SKEW_FAIL_SECONDS else "warn", seen, why, "let NTP (chrony) set the clock")


def _models(settings: Settings, tasks: Sequence[Task[Any, Any]], found: Catalogue) -> list[Finding]:
    known = Models.load(settings.claude.prices_file)
    names = dict.fromkeys(step.tier for task in tasks for step in task.route.steps if isinstance(step.tier, str))
    today = dt.datetime.now(dt.UTC)
    rows = {name: known.rows.get(known.aliases.get(name, name)) for name in names}
    # A name that the table does not have is told with the task that names it.
    return [model_finding(name, row.id, found.rows.get(row.id), today) for name, row in rows.items() if row is not None]


def model_finding(name: str, model: str, row: Mapping[str, Any] | None, now: dt.datetime) -> Finding:
    """Whether the API goes on with a model of a route."""
    check, shown = f"model {name}", model if name != model else "the API"
    mend = f"name another model in the route, or point the alias {name!r} elsewhere with claude.prices_file"
    if row is None:
        return Finding(
            check, "fail", f"the API knows no {model}", "Every call of this step would be turned away.", mend
        )
    if row.get("lifecycle") == "retired":
        return Finding(check, "fail", f"{model} is retired", "Every call of this step would be turned away.", mend)
    retires = _moment(row.get("retires_at"))
    if retires is not None and (retires - now).days < RETIRING_SOON_DAYS:
        seen = f"{model} retires on {retires:%Y-%m-%d}, in {(retires - now).days} days"
        return Finding(check, "warn", seen, "From then on its calls are turned away.", mend)
    if row.get("lifecycle") == "deprecated":
        when = f", retires on {retires:%Y-%m-%d}" if retires else ""
        return Finding(check, "warn", f"{model} is deprecated{when}", "It will be retired.", mend)
    return Finding(check, "ok", f"{shown} knows it" if shown == "the API" else f"{model}, active")


def _moment(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _limits(settings: Settings, found: Catalogue) -> list[Finding]:
    """The API tells limits with answers that cost money; where it tells them here too, the settings must not be above."""
    findings = []
    granted = settings.limits.get("default")
    for header, option in (
        ("input-tokens", "input_tokens_per_minute"),
        ("output-tokens", "output_tokens_per_minute"),
    ):
        told = found.headers.get(f"anthropic-ratelimit-{header}-limit", "")
        if granted is None or not told.isdigit() or getattr(granted, option) <= int(told):
            continue
        seen = f"limits.default.{option}={getattr(granted, option):,}, the API grants {int(told):,}"
        why = "Calls beyond the limit are turned away."
        findings.append(Finding("limits granted", "warn", seen, why, f"-X limits.default.{option}={told}"))
    return findings
