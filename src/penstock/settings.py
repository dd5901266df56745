"""Every setting in one place: option classes gathered, sources layered, mistakes explained.

command line > environment > penstock.toml > default → [settings] → wiring
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from penstock.claude.client import ClaudeOptions
from penstock.codecs.registry import RegistryOptions
from penstock.engine.batcher import BatchLimits
from penstock.engine.guard import GuardOptions
from penstock.engine.intake import IntakeLimits
from penstock.engine.retry import RetryOptions
from penstock.errors import SettingsError, UserError
from penstock.flow.breaker import BreakerOptions
from penstock.flow.ceilings import SpendOptions
from penstock.flow.concurrency import ConcurrencyOptions
from penstock.flow.fleet import FleetOptions
from penstock.flow.limits import LimitOptions
from penstock.flow.ramp import RampOptions
from penstock.log.kafka.options import PROTECTED, KafkaOptions
from penstock.log.sqlite.options import SqliteOptions
from penstock.ops.server import OpsOptions
from penstock.settings_sources import (
    PREFIX,
    SENSITIVE,
    Keys,
    Tree,
    dotted,
    env_name,
    explain,
    fall_back,
    from_assignments,
    from_environment,
    from_file,
    leaves,
    merge,
    place_of,
    read_secret_files,
)
from penstock.sinks.options import DeliveryOptions
from penstock.sinks.slack.options import SlackOptions
from penstock.sinks.webhook.options import WebhookOptions
from penstock.store.options import DatabaseOptions
from penstock.web.options import GatewayOptions
from penstock.web.pages.options import ConsoleOptions

MASK = "**********"
_PASSWORD_IN_URL = re.compile(r"(://[^/@:\s]*:)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class SinksOptions:
    """Where results go: a table for each sink that comes with Penstock."""

    database: DatabaseOptions = field(default_factory=DatabaseOptions)
    webhooks: dict[str, WebhookOptions] = field(default_factory=dict)
    """Endpoints by name."""
    slack: dict[str, SlackOptions] = field(default_factory=dict)
    """Channels by name."""


class SqliteAddress(NamedTuple):
    """The embedded log: one file."""

    path: Path


class KafkaAddress(NamedTuple):
    """An Apache Kafka cluster."""

    brokers: str
    """`host:port`, separated by commas."""


def parse_log(text: str) -> SqliteAddress | KafkaAddress:
    """`sqlite:FILE` or `kafka:HOST:PORT[,HOST:PORT]`."""
    kind, _, rest = text.partition(":")
    if kind == "sqlite" and rest:
        return SqliteAddress(Path(rest).expanduser())
    brokers = rest.removeprefix("//").split(",")
    if kind == "kafka" and all(re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:,/]+):\d{1,5}", broker) for broker in brokers):
        return KafkaAddress(",".join(brokers))
    raise ValueError(f"{text!r} is no log: write 'sqlite:FILE' or 'kafka:HOST:PORT[,HOST:PORT]'")


def _secret_properties(properties: Any) -> Any:
    if not isinstance(properties, Mapping):
        return properties
    return {
        name: SecretStr(str(value)) if SENSITIVE.search(name) and not isinstance(value, SecretStr) else value
        for name, value in dotted(properties)
    }


KafkaProperties = Annotated[dict[str, bool | int | float | str | SecretStr], BeforeValidator(_secret_properties)]


class Settings(BaseSettings):
    """What and how much is a `Task`; where, and within which limits, is a setting. Made by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    log: str = Field("sqlite:penstock.db", description="Where events live: sqlite:FILE or kafka:HOST:PORT[,HOST:PORT].")
    kafka: KafkaProperties = Field(
        default_factory=dict,
        description="Properties of librdkafka, passed through: security.protocol, sasl.mechanism …",
    )
    registry: RegistryOptions = Field(
        default_factory=RegistryOptions, description="The schema registry of tasks with decode=from_registry()."
    )
    policy: Path | None = Field(None, description="A policy file for tasks that can be made under one.")
    slot: str = Field(
        "",
        description="A stable name of this worker, its own (host name or index): after a crash its successor frees what it held at once.",
    )
    drain_seconds: float = Field(25.0, gt=0, description="How long a stopping worker finishes what is in flight.")
    commit_interval_seconds: float = Field(
        0.1, ge=0, description="Results are committed as soon as they are there, not more often than this."
    )
    claude: ClaudeOptions = Field(default_factory=ClaudeOptions, description="How the Claude API is reached.")
    spend: SpendOptions = Field(
        default_factory=SpendOptions,
        description="How much all workers may spend together; periods are those of the calendar in UTC.",
    )
    limits: dict[str, LimitOptions] = Field(
        default_factory=dict, description="What the account grants each model family; `default` serves the others."
    )
    fleet: FleetOptions = Field(default_factory=FleetOptions, description="How workers share one account.")
    ramp: RampOptions = Field(
        default_factory=RampOptions, description="Slow start after a start, an outage or with new partitions."
    )
    concurrency: ConcurrencyOptions = Field(default_factory=ConcurrencyOptions, description="Calls in flight at most.")
    breaker: BreakerOptions = Field(default_factory=BreakerOptions, description="When an outage holds calls back.")
    intake: IntakeLimits = Field(default_factory=IntakeLimits, description="How much may be in flight per task.")
    batch: BatchLimits = Field(default_factory=BatchLimits, description="How items are grouped into calls.")
    guard: GuardOptions = Field(
        default_factory=GuardOptions,
        description="Whether verdicts depend on the size of batches, watched by asking twice.",
    )
    retry: RetryOptions = Field(default_factory=RetryOptions, description="How items are asked again.")
    deliver: DeliveryOptions = Field(default_factory=DeliveryOptions, description="How results are delivered to sinks.")
    sinks: SinksOptions = Field(default_factory=SinksOptions, description="The sinks that come with Penstock.")
    ops: OpsOptions = Field(
        default_factory=OpsOptions, description="Metrics and health of `penstock run` and `penstock deliver`."
    )
    gateway: GatewayOptions = Field(default_factory=GatewayOptions, description="Events over HTTP: `penstock serve`.")
    console: ConsoleOptions = Field(default_factory=ConsoleOptions, description="Pages for people: `penstock serve`.")
    sqlite: SqliteOptions = Field(default_factory=SqliteOptions, description="The embedded log.")
    kafka_log: KafkaOptions = Field(
        default_factory=KafkaOptions, description="The log on Kafka; `[kafka]` is for librdkafka's own properties."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` reads the other sources itself: it must know what came from where."""
        return (init_settings,)

    @field_validator("log")
    @classmethod
    def _log_is_known(cls, text: str) -> str:
        parse_log(text)
        return text

    @field_validator("kafka")
    @classmethod
    def _laws_are_kept(cls, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        refused = [name for name in properties if name in PROTECTED]
        if refused:
            told = (f"kafka.{name} can't be set: {PROTECTED[name]}" for name in refused)
            raise SettingsError("\n".join(told))
        return properties

    @property
    def log_address(self) -> SqliteAddress | KafkaAddress:
        """The log's choice and place."""
        return parse_log(self.log)

    @property
    def log_place(self) -> str:
        """The same for all processes that work on one log, wherever they were started."""
        address = self.log_address
        return f"sqlite:{address.path.resolve()}" if isinstance(address, SqliteAddress) else self.log

    def kafka_properties(self) -> dict[str, bool | int | float | str]:
        """The properties for librdkafka, secrets included: never print it."""
        return {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in self.kafka.items()}


class Setting(NamedTuple):
    """One setting as it is in force."""

    name: str
    value: Any
    """Masked if it is a secret."""
    origin: str
    env: str


@dataclass(frozen=True)
class LoadedSettings:
    """Settings and where each value came from."""

    settings: Settings
    origins: Mapping[Keys, str] = field(default_factory=dict)

    def origin(self, *path: str) -> str:
        """Who says so."""
        return self.origins.get(path, "default")

    def entries(self) -> list[Setting]:
        """Every setting, sorted as declared, secrets masked."""
        return [
            Setting(".".join(path), _masked(path, value), self.origin(*path), env_name(path))
            for path, value in leaves(self.settings)
        ]


def _masked(path: Keys, value: Any) -> Any:
    if isinstance(value, SecretStr) or (isinstance(value, str) and value and SENSITIVE.search(path[-1])):
        return MASK
    if isinstance(value, str):
        return _PASSWORD_IN_URL.sub(rf"\1{MASK}@", value)
    return value


def load_settings(file: Path | None = None, assignments: Sequence[str] = ()) -> LoadedSettings:
    """Settings of command line (`name=value`), environment, file and defaults, in this order of precedence.

    Without `file`: what `PENSTOCK_CONFIG` names, else `penstock.toml` of the current directory if there is one.
    """
    tree: Tree = {}
    origins: dict[Keys, str] = {}
    for layer in (from_file(file), from_environment(Settings), from_assignments(assignments)):
        merge(tree, layer.tree)
        origins.update(layer.origins)
    read_secret_files(tree, origins)
    fall_back(tree, origins)
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(e, origins, Settings) for e in error.errors())) from None
    except UserError as error:  # an option class refused its own numbers
        raise SettingsError(f"{error}{place_of(str(error), origins)}") from None
    return LoadedSettings(settings, origins)
