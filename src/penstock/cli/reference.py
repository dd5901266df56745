"""The settings page of the documentation, made of the option classes themselves.

option classes → [reference] → docs/reference/settings.md
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

HEAD = """\
# Settings

<!-- Made by `penstock config reference`; a test compares. Change the option classes, then make it again. -->

What to do is a `Task`; where, and within which limits, is a setting. Sources, the first that says something wins:

1. the command line: `--log`, `-X NAME=VALUE`
2. the environment: `PENSTOCK_` and the name in capitals, `__` for each dot: `PENSTOCK_SPEND__CEILING_USD=5`
3. `penstock.toml` of the current directory, or the file that `--config` or `PENSTOCK_CONFIG` names
4. the default

`penstock config show` prints what is in force and who says so. Names that do not exist are errors.

Secrets (the API key, passwords of `[kafka]`) are masked wherever settings are shown. Each can stand in a file of its own,
as orchestrators mount it: `PENSTOCK_CLAUDE__API_KEY_FILE`, `PENSTOCK_KAFKA__SASL_PASSWORD_FILE`, `claude.api_key_file`.
Without a key of ours `ANTHROPIC_API_KEY` serves.

Properties of librdkafka keep their names in the file (`[kafka]`, then `security.protocol = "SASL_SSL"`); in the environment
underscores stand for their dots: `PENSTOCK_KAFKA__SECURITY_PROTOCOL`.

| setting | default | what it does |
|---|---|---|
"""


def settings_page() -> str:
    """The whole page."""
    return HEAD + "".join(f"| `{name}` | {default} | {text} |\n" for name, default, text in _rows())


def _rows() -> Iterator[tuple[str, str, str]]:
    from penstock.settings import Settings

    for name, info in Settings.model_fields.items():
        value = info.get_default(call_default_factory=True)
        if is_dataclass(value) and not isinstance(value, type):
            yield from _option_rows(name, type(value))
            continue
        yield name, _shown(value), _one_line(info.description or "")
        for kind in get_args(info.annotation):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from _option_rows(f"{name}.<family>", kind)


def _option_rows(table: str, kind: type) -> Iterator[tuple[str, str, str]]:
    told = _field_docstrings(kind)
    hints = get_type_hints(kind)
    for option in fields(kind):
        default = option.default if option.default is not MISSING else None
        if option.default_factory is not MISSING:
            default = option.default_factory()
        if is_dataclass(default) and not isinstance(default, type):
            yield from _option_rows(f"{table}.{option.name}", type(default))
            continue
        text = told.get(option.name, "") or _choices(hints[option.name])
        yield f"{table}.{option.name}", _shown(default), _one_line(text)


def _field_docstrings(kind: type) -> dict[str, str]:
    """The strings below the fields, where option classes explain themselves."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    told: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            told[field.target.id] = str(ast.literal_eval(after.value))
    return told


def _choices(hint: Any) -> str:
    choices = [str(choice) for choice in get_args(hint) if isinstance(choice, str)]
    return f"One of {', '.join(choices)}." if choices else ""


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
