"""Who answers a command's calls: the real API, or an offline simulator started for the command's life.

try, run → [answering] → claude
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.settings import Settings

NO_KEY = (
    "no API key: set ANTHROPIC_API_KEY, PENSTOCK_CLAUDE__API_KEY or PENSTOCK_CLAUDE__API_KEY_FILE (setting "
    "claude.api_key)"
)


class Answering(NamedTuple):
    """The settings to work with, and whether the answers are made up."""

    settings: Settings
    is_simulated: bool


@contextmanager
def offline_api(settings: Settings) -> Iterator[Answering]:
    """Start the simulator as a process of its own; it ends with the command."""
    from penstock.simulator import spawn

    with spawn() as simulator:
        claude = replace(settings.claude, base_url=simulator.url, api_key="offline")
        yield Answering(settings.model_copy(update={"claude": claude}), is_simulated=True)


@contextmanager
def answering(settings: Settings, *, is_simulated: bool) -> Iterator[Answering]:
    """The API of these settings, or the simulator where that is asked for."""
    if is_simulated:
        with offline_api(settings) as answers:
            yield answers
    else:
        yield Answering(settings, is_simulated=False)


def has_credentials(settings: Settings) -> bool:
    """Whether anything says how to reach an API: a key, a token, or an address of the user's own."""
    return bool(settings.claude.api_key or settings.claude.base_url or os.environ.get("ANTHROPIC_AUTH_TOKEN"))


def need_credentials(settings: Settings, instead: str = "add --simulated for made-up answers without cost") -> None:
    """Refuse before anything is read or asked; `instead` is what the command can do without one."""
    if not has_credentials(settings):
        raise SettingsError(f"{NO_KEY}, or {instead}")
