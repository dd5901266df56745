"""Where settings are written: file, environment, command line, files of secrets; and how a mistake in one is told.

command line > environment > penstock.toml → [settings_sources] → settings
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic_settings import BaseSettings, EnvSettingsSource

from penstock.errors import SettingsError

PREFIX = "PENSTOCK_"
DEFAULT_FILE = "penstock.toml"
SENSITIVE = re.compile(
    r"password|passphrase|secret|token(?!\.endpoint)|\.pem$|oauthbearer\.config|jaas|kinit\.cmd|api_key$|basic_auth$|user\.info$"
)
"""Names of secrets, ours and librdkafka's."""

_USUAL = {"ANTHROPIC_API_KEY": ("claude", "api_key"), "ANTHROPIC_BASE_URL": ("claude", "base_url")}
_NO_SETTINGS = {"PENSTOCK_CONFIG", "PENSTOCK_ALLOW_MODEL_REQUESTS", "PENSTOCK_TEST_KAFKA"}
"""Ours, and read elsewhere: by the command line, the client of Claude, and this project's own tests."""
_PLAIN = (str, int, float, bool, type(None))

Tree = dict[str, Any]
Keys = tuple[str, ...]
"""The names that lead to a setting."""


class Layer(NamedTuple):
    """What one source says, and how people find the place."""

    tree: Tree
    origins: dict[Keys, str]


def from_file(given: Path | None) -> Layer:
    named = given or (Path(os.environ["PENSTOCK_CONFIG"]) if os.environ.get("PENSTOCK_CONFIG") else None)
    file = named or Path(DEFAULT_FILE)
    try:
        text = file.read_text("utf-8")
        tree = tomllib.loads(text)
    except FileNotFoundError:
        if named is None:
            return Layer({}, {})
        raise SettingsError(f"there is no settings file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {file} is not valid TOML: {error}") from None
    if isinstance(tree.get("kafka"), dict):
        tree["kafka"] = dict(dotted(tree["kafka"]))
    return Layer(tree, {path: f"{file}:{_line_of(text, path)}" for path, _ in leaves(tree)})


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`[kafka] sasl.mechanism = …` is a table to TOML and a dotted name to librdkafka."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _line_of(text: str, path: Keys) -> int:
    """The line that sets it, as far as can be told without a TOML parser that knows lines; else the table's or 1."""
    best, table = 1, ""
    name, dotted = path[-1], ".".join(path)
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().replace('"', "").replace("'", "")
        if line.startswith("["):
            table = line.strip("[] \t").replace(" ", "") + "."
            best = number if best == 1 and dotted.startswith(table) else best
        key = line.partition("=")[0].strip()
        if "=" in line and (table + key == dotted or (table == "" and key == name == dotted)):
            return number
    return best


def from_environment(settings: type[BaseSettings]) -> Layer:
    names = {name.upper(): name for name in os.environ if name.upper().startswith(PREFIX)}
    for upper, name in names.items():
        top = upper.removeprefix(PREFIX).partition("__")[0].lower()
        if top not in settings.model_fields and upper not in _NO_SETTINGS:
            raise SettingsError(f"{top}: no such setting{_guess(top, settings.model_fields)}\n  environment: {name}")
    try:
        tree = EnvSettingsSource(settings)()
    except ValueError as error:
        named = re.search(r'field "(\w+)"', str(error))
        variable = env_name([named[1]]) if named else PREFIX
        raise SettingsError(f"{variable}: this is a table; set its entries, as in {variable}__NAME=VALUE") from None
    for path, _ in list(leaves(tree)):
        if env_name(path) in names:  # as it was written: a password such as 1e5 is no number
            _put(tree, path, os.environ[names[env_name(path)]])
    if isinstance(tree.get("kafka"), dict):
        tree["kafka"] = {name.replace("_", "."): value for name, value in tree["kafka"].items()}
    return Layer(tree, {path: f"environment {env_name(path)}" for path, _ in leaves(tree)})


def from_assignments(assignments: Sequence[str]) -> Layer:
    tree: Tree = {}
    origins: dict[Keys, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"-X {assignment}: write NAME=VALUE, for example -X spend.day_usd=5")
        top, _, rest = name.strip().partition(".")
        # A property of librdkafka has dots in its own name.
        path = (top, rest) if top == "kafka" and rest else tuple(name.strip().split("."))
        _put(tree, path, _literal(text.strip()))
        origins[path] = "command line"
    return Layer(tree, origins)


def _literal(text: str) -> Any:
    """As TOML reads it, and plain text where that is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_secret_files(tree: Tree, origins: dict[Keys, str]) -> None:
    """`claude.api_key_file` and its like: the secret stands in a file, as orchestrators mount it."""
    for path, value in list(leaves(tree)):
        stem = re.sub(r"[._]file$", "", path[-1])
        if stem == path[-1] or not SENSITIVE.search(stem):
            continue
        target = (*path[:-1], stem)
        if target in origins:
            raise SettingsError(f"{'.'.join(path)} and {'.'.join(target)} are both set ({origins[path]}): keep one")
        try:
            secret = Path(str(value)).expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{'.'.join(path)}: the secret's file cannot be read: {error}\n  {origins[path]}"
            ) from None
        _put(tree, target, secret)
        _remove(tree, path)
        origins[target] = f"file {value} ({origins.pop(path)})"


def fall_back(tree: Tree, origins: dict[Keys, str]) -> None:
    """The variables that every tool for Claude knows serve where no setting of ours says it."""
    for variable, path in _USUAL.items():
        if path not in origins and os.environ.get(variable):
            _put(tree, path, os.environ[variable])
            origins[path] = f"environment {variable}"


def env_name(path: Sequence[str]) -> str:
    """The environment variable of a setting."""
    return PREFIX + "__".join(part.upper().replace(".", "_") for part in path)


_REPLACED = {"spend.ceiling_usd": " any more; write hour_usd, day_usd or month_usd: they hold for all workers together"}


_TABLES = frozenset({"dataclass_type", "dict_type", "model_type"})


def explain(error: Mapping[str, Any], origins: Mapping[Keys, str], settings: type[BaseSettings]) -> str:
    """One mistake: the setting, what is wrong, where it was written, and the variable that would set it."""
    path = tuple(str(part) for part in error["loc"])
    while path not in origins and len(path) > 1 and not any(known[: len(path)] == path for known in origins):
        path = path[:-1]
    name = ".".join(path)
    place = next((origin for known, origin in origins.items() if known[: len(path)] == path), "default")
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        hint = _REPLACED.get(name) or _guess(path[-1], _names_at(settings, path[:-1]))
        return f"{name}: no such setting{hint}\n  {place}"
    given = error["input"]
    is_told = error["type"] == "value_error" or SENSITIVE.search(path[-1]) or not isinstance(given, _PLAIN)
    shown = "" if is_told else f", got {given!r}"
    if error["type"] in _TABLES:
        names = ", ".join(_names_at(settings, path))
        return f"{name}: should be a table{shown}" + (f"; it holds {names}" if names else "") + f"\n  {place}"
    said = error["msg"].removeprefix("Value error, ").removeprefix("Input ") + shown
    return f"{name}: {said}\n  {_and_variable(place, path)}"


def place_of(text: str, origins: Mapping[Keys, str]) -> str:
    """Where the setting that a text names was written, if that can be told."""
    named = [(path, origin) for path, origin in origins.items() if re.search(rf"\b{re.escape(path[-1])}\b", text)]
    return "".join(f"\n  {'.'.join(path)}: {_and_variable(origin, path)}" for path, origin in named)


def _and_variable(place: str, path: Keys) -> str:
    """The variable that sets it is worth a word where it was not the variable that set it."""
    return place if place.startswith("environment") else f"{place}; environment variable {env_name(path)}"


def _guess(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(known)}" if known else ""


def _names_at(settings: type[BaseSettings], path: Keys) -> list[str]:
    """The settings that a table may hold."""
    kind: Any = settings
    for part in path:
        kind = _member(kind, part)
    return list(_members(kind))


def _members(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseSettings):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return {f.name: hints[f.name] for f in fields(kind)}
    return {}


def _member(kind: Any, name: str) -> Any:
    """The type of a table's entry; of an optional one its type, of a free table its values'."""
    found = _members(kind).get(name)
    if get_origin(kind) in (dict, Mapping):
        found = get_args(kind)[1]
    if get_origin(found) in (Union, UnionType):
        found = next((arg for arg in get_args(found) if arg is not type(None)), None)
    return found


def merge(into: Tree, other: Mapping[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def _put(tree: Tree, path: Keys, value: Any) -> None:
    for part in path[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{'.'.join(path)}: {part} is a single value, not a table")
        tree = inner
    tree[path[-1]] = value


def _remove(tree: Tree, path: Keys) -> None:
    for part in path[:-1]:
        tree = tree[part]
    del tree[path[-1]]


def leaves(value: Any, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every value that is no table, with its path; secrets masked."""
    if isinstance(value, BaseSettings):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    elif is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping) and (value or not path):
        for name, inner in value.items():
            yield from leaves(inner, (*path, str(name)))
    else:
        yield path, value
