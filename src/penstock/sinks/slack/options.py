"""One channel: how it is reached, what is told there, how often: `[sinks.slack.NAME]`.

settings → [options] → digests, sink
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from penstock.errors import SettingsError
from penstock.outcome import CONFIDENCES, Confidence

Kind = Literal["result", "letter", "budget", "lag"]
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_QUIET = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_PLACES = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True)
class SlackOptions:
    """A channel that is told of results and dead letters."""

    webhook_secret: SecretStr = field(default_factory=lambda: SecretStr(""))
    """URL of an incoming webhook; whoever has it can post. `webhook_secret_file` names a file. Or `token` and `channel`."""
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    """A bot token (`xoxb-…`) with the scope `chat:write`. `token_file` names a file."""
    channel: str = ""
    """With `token`: the channel's id (`C0123456789`), which the bot was invited to."""
    tasks: tuple[str, ...] = ()
    """Only what these tasks made; all that are delivered unless given."""
    kinds: tuple[Kind, ...] = ("result", "letter")
    """What is told: `result`, `letter` (dead letters), `budget` (a ceiling of `[spend]` is nearly spent), `lag` (a task is behind)."""
    where: dict[str, tuple[str | int | bool, ...]] = field(default_factory=dict)
    """Only results whose output has one of these values, as in `where = { decision = ["reject", "hold"] }`."""
    min_confidence: Confidence = "unsure"
    """Only results that are at least so sure."""
    max_confidence: Confidence = "sure"
    """Only results that are at most so sure: `unsure` tells of those that a person should see."""
    provisional: bool = False
    """Whether results are told that another one will supersede."""
    group_by: tuple[str, ...] = ()
    """Output fields that part digests, besides those of `where`; of a list its first value counts."""
    min_letters: int = 1
    """Dead letters of one reason within `group_interval_seconds` that are worth a message: a flood, not a drop."""
    budget_at: tuple[float, ...] = (0.8, 0.95)
    """With `budget`: the parts of a ceiling that are told, each once in a period."""
    lag_seconds: float = 600.0
    """With `lag`: the age of a task's oldest event that is told, and once more when it has caught up."""
    lag_repeat_seconds: float = 14_400.0
    """While a task stays behind it is told again after this."""
    group_wait_seconds: float = 30.0
    """How long the first of a kind waits for company."""
    group_interval_seconds: float = 300.0
    """Between two digests of one kind."""
    samples: int = 3
    """Events named in a digest, at most 3."""
    sample_fields: tuple[str, ...] = ()
    """Output fields shown of them, addresses and long numbers blotted out; none unless given, for they may quote the event."""
    console_url: str = ""
    """Where an event is looked at: `https://penstock.example.com/console/event?task={task}&event_id={event_id}` is the console."""
    quiet_hours: str = ""
    """`22:00-07:00`: nothing is sent meanwhile; what was held goes out afterwards."""
    quiet_zone: str = "UTC"
    """Whose hours: `Europe/Berlin`."""
    start_from: Literal["earliest", "latest"] = "latest"
    """Where a channel begins that was never told anything: `latest` leaves out what was there before."""
    timeout_seconds: float = 20.0
    """For one message."""
    base_url: str = "https://slack.com/api/"
    """With `token`: another address of Slack's Web API, as for a proxy."""
    allow_http: bool = False
    """Addresses without TLS: for tests."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        durations = (
            "group_wait_seconds",
            "group_interval_seconds",
            "timeout_seconds",
            "lag_seconds",
            "lag_repeat_seconds",
        )
        for name in (*durations, "min_letters"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"sinks.slack: {name}={getattr(self, name)!r}: write a number greater than 0")
        if not all(0 < part <= 1 for part in self.budget_at):
            raise SettingsError(f"sinks.slack: budget_at={list(self.budget_at)!r}: parts of a ceiling, as 0.8")
        if not 0 <= self.samples <= 3:
            raise SettingsError(f"sinks.slack: samples={self.samples!r}: from 0 to 3")
        if self.quiet_hours and not _QUIET.fullmatch(self.quiet_hours):
            raise SettingsError(f"sinks.slack: quiet_hours={self.quiet_hours!r}: write HH:MM-HH:MM, as 22:00-07:00")
        try:
            ZoneInfo(self.quiet_zone)
        except (KeyError, ValueError, OSError):
            raise SettingsError(f"sinks.slack: quiet_zone={self.quiet_zone!r} is no zone: Europe/Berlin is") from None
        strange = set(_PLACES.findall(self.console_url)) - {"event_id", "task"}
        if strange or (self.console_url and urlsplit(self.console_url).scheme not in {"http", "https"}):
            raise SettingsError(
                "sinks.slack: console_url: write https://…, with {event_id} and {task} where they belong, nothing else in braces"
            )

    def check(self, name: str) -> None:
        """Raises `SettingsError` that names the channel's setting, never a secret."""
        setting = f"sinks.slack.{name}"
        if not NAME.fullmatch(name):
            raise SettingsError(f"{setting}: name it with small letters, digits, '-' and '_', at most 40")
        url, token = self.webhook_secret.get_secret_value().strip(), self.token.get_secret_value().strip()
        if bool(url) == bool(token):
            raise SettingsError(f"{setting}: set either webhook_secret, or token and channel")
        if token and not self.channel:
            raise SettingsError(f"{setting}.channel is missing: the channel's id, such as C0123456789")
        address, which = (url, "webhook_secret") if url else (self.base_url, "base_url")
        parts = urlsplit(address)
        if parts.scheme not in ({"https", "http"} if self.allow_http else {"https"}) or not parts.hostname:
            raise SettingsError(f"{setting}.{which}: write an address with https://")

    def is_sure_as_wanted(self, confidence: Confidence) -> bool:
        """Whether a result is as sure as `min_confidence` and `max_confidence` say."""
        lowest, highest = CONFIDENCES.index(self.min_confidence), CONFIDENCES.index(self.max_confidence)
        return lowest <= CONFIDENCES.index(confidence) <= highest

    def is_quiet(self, unix_seconds: float) -> bool:
        """Whether nothing is sent at that time."""
        if not self.quiet_hours:
            return False
        start, end = (time.fromisoformat(part) for part in self.quiet_hours.split("-"))
        now = datetime.fromtimestamp(unix_seconds, ZoneInfo(self.quiet_zone)).time()
        return start <= now < end if start <= end else now >= start or now < end
