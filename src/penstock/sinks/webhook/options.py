"""One endpoint: where it is, what it gets, and how long is tried: `[sinks.webhooks.NAME]`.

settings → [options] → message, sink
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, SecretStr

from penstock.errors import SettingsError
from penstock.outcome import CONFIDENCES, Confidence
from penstock.sinks.webhook.address import Target, networks_of, target_of
from penstock.sinks.webhook.signing import Signer

if TYPE_CHECKING:
    from penstock.sinks.webhook.post import PostOptions

Kind = Literal["result", "letter", "erasure"]
ENDPOINT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def _one_text(given: Any) -> Any:
    """A list of the file, a line of the environment or the lines of a secret's file: one text, blanks between."""
    if isinstance(given, (list, tuple)) and all(isinstance(one, str) for one in given):
        return " ".join(given)
    return given


Secrets = Annotated[SecretStr, BeforeValidator(_one_text)]


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """An endpoint that results are posted to."""

    url: str = ""
    """`https://…`, without user or password. Logs never show its path: it may hold a secret."""
    secrets: Secrets = field(default_factory=lambda: SecretStr(""))
    """What messages are signed with, `whsec_…`; while it is changed two, the new one first. `secrets_file` names a file."""
    tasks: tuple[str, ...] = ()
    """Only what these tasks made; all that are delivered unless given."""
    kinds: tuple[Kind, ...] = ("result", "erasure")
    """What is posted: `result`, `letter` (dead letters), `erasure`."""
    where: dict[str, tuple[str | int | bool, ...]] = field(default_factory=dict)
    """Only results whose output has one of these values, as in `where = { decision = ["reject", "hold"] }`. What supersedes a
    result is posted whatever it says."""
    min_confidence: Confidence = "unsure"
    """Only results that are at least so sure."""
    provisional: bool = True
    """Whether results are posted that another one will supersede."""
    allow_http: bool = False
    """Without TLS: for tests, and for receivers behind a proxy of their own."""
    allow_networks: tuple[str, ...] = ()
    """Networks that are not public and may be posted to, as `10.20.0.0/16`; with one, any port is allowed."""
    timeout_seconds: float = 20.0
    """For one attempt."""
    max_concurrent: int = 8
    """Messages under way at once, per process; those of one key go one by one."""
    max_waiting: int = 1_000
    """Messages that failed and are tried again later; when there are more, the endpoint's group stands still."""
    keep_log_days: float = 14.0
    """How long attempts stand in the delivery log."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for name in ("timeout_seconds", "max_concurrent", "max_waiting", "keep_log_days"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"sinks.webhooks: {name}={getattr(self, name)!r}: write a number greater than 0")
        networks_of(self.allow_networks, "sinks.webhooks: allow_networks")

    def target(self, name: str) -> Target:
        """Raises `SettingsError` that names the endpoint's setting."""
        setting = f"sinks.webhooks.{name}"
        if not ENDPOINT.fullmatch(name):
            raise SettingsError(f"{setting}: name it with small letters, digits, '-' and '_', at most 40")
        if not self.url:
            raise SettingsError(f"{setting}.url is missing: write https://shop.example.com/hooks")
        return target_of(
            self.url, f"{setting}.url", allows_http=self.allow_http, allows_ports=bool(self.allow_networks)
        )

    def signer(self, name: str) -> Signer:
        """Raises `SettingsError` that names the endpoint's setting, never a secret."""
        return Signer(self.plain_secrets(), f"sinks.webhooks.{name}.secrets")

    def post_options(self, name: str) -> PostOptions:
        """How one attempt is made."""
        from penstock.sinks.webhook.post import PostOptions  # noqa: PLC0415 - settings are read without an HTTP client

        networks = networks_of(self.allow_networks, f"sinks.webhooks.{name}.allow_networks")
        return PostOptions(self.timeout_seconds, networks)

    def plain_secrets(self) -> list[str]:
        """To sign with: never print them."""
        return self.secrets.get_secret_value().split()

    def is_sure(self, confidence: Confidence) -> bool:
        """Whether a result is sure enough."""
        return CONFIDENCES.index(confidence) >= CONFIDENCES.index(self.min_confidence)
