"""Whether the tasks' routes name models that are known, and whether those can be asked for the tasks' outputs.

tasks → [tasks] → findings
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.claude.models import Models
from penstock.claude.prompt import Prompt
from penstock.doctor.finding import Finding
from penstock.errors import SettingsError, TaskError

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.task import Task


def outputs(settings: Settings, tasks: Sequence[Task[Any, Any]]) -> list[Finding]:
    """One finding per task: its prompt is made as a worker would make it."""
    models = Models.load(settings.claude.prices_file)
    return [_output(settings, models, task) for task in tasks]


def _output(settings: Settings, models: Models, task: Task[Any, Any]) -> Finding:
    check, tokens = f"output of {task.name}", 0
    try:
        for step in task.route.steps:
            if isinstance(step.tier, str):
                model = models.resolve(step.tier)
                prompt = Prompt(task, model, effort=settings.claude.effort, cache_ttl=settings.claude.cache_ttl)
                tokens = max(tokens, prompt.tokens)
    except TaskError as error:
        why = "The API's structured outputs cannot promise this shape, so the worker would not start."
        return Finding(check, "fail", str(error), why, f"change {task.output.__name__}")
    except SettingsError as error:
        return Finding(check, "fail", str(error), "The worker would not start.", "change the route or the setting")
    if not tokens:
        return Finding(check, "ok", f"{task.output.__name__}; no Claude model is asked")
    return Finding(check, "ok", f"{task.output.__name__} can be asked for; prompt of about {tokens:,} tokens")
