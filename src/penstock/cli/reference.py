"""The settings page of the documentation, made of the option classes themselves.

option classes → [reference] → docs/reference/settings.md
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

HEAD = """\
# Settings

<!-- Made by `penstock config reference`; a test compares. Change the option classes, then make it again. -->

What to do is a `Task`; where, and within which limits, is a setting. Sources, the first that says something wins:

1. the command line: `--log`, `-X NAME=VALUE`
2. the environment: `PENSTOCK_` and the name in capitals, `__` for each dot: `PENSTOCK_SPEND__DAY_USD=5`
3. `penstock.toml` of the current directory, or the file that `--config` or `PENSTOCK_CONFIG` names
4. the default

`penstock config show` prints what is in force and who says so. Names that do not exist are errors.

Secrets (the API key, passwords of `[kafka]`) are masked wherever settings are shown. Each can stand in a file of its own,
as orchestrators mount it: `PENSTOCK_CLAUDE__API_KEY_FILE`, `PENSTOCK_KAFKA__SASL_PASSWORD_FILE`, `claude.api_key_file`.
Without a key of ours `ANTHROPIC_API_KEY` serves.

Properties of librdkafka keep their names in the file (`[kafka]`, then `security.protocol = "SASL_SSL"`); in the environment
underscores stand for their dots: `PENSTOCK_KAFKA__SECURITY_PROTOCOL`.

"""

COLUMNS = "| setting | default | what it does |\n|---|---|---|\n"
Row = tuple[str, str, str]


def settings_page() -> str:
    """The whole page: single settings first, then a section for every table."""
    from penstock.settings import Settings

    single: list[Row] = []
    sections: list[str] = []
    for name, info in Settings.model_fields.items():
        value = info.get_default(call_default_factory=True)
        told = _one_line(info.description or "")
        kind = next((k for k in (type(value), *get_args(info.annotation)) if is_dataclass(k)), None)
        if kind is None:
            single.append((name, _shown(value), told))
        else:
            table = f"{name}.<family>" if isinstance(value, dict) else name
            sections.append(f"\n## `[{table}]`\n\n{told}\n\n{_table(_option_rows(table, kind))}")
    return HEAD + _table(single) + "".join(sections)


def _table(rows: Iterable[Row]) -> str:
    return COLUMNS + "".join(f"| `{name}` | {default} | {text} |\n" for name, default, text in rows)


def _option_rows(table: str, kind: Any) -> Iterator[Row]:
    told = _field_docstrings(kind)
    hints = get_type_hints(kind)
    for option in fields(kind):
        default = option.default if option.default is not MISSING else None
        if option.default_factory is not MISSING:
            default = option.default_factory()
        if is_dataclass(default) and not isinstance(default, type):
            yield from _option_rows(f"{table}.{option.name}", type(default))
            continue
        named = get_args(hints[option.name])[-1:] if get_origin(hints[option.name]) is dict else ()
        if named and is_dataclass(named[0]):
            yield from _option_rows(f"{table}.{option.name}.<name>", named[0])
            continue
        text = told.get(option.name, "") or _choices(hints[option.name])
        yield f"{table}.{option.name}", _shown(default), _one_line(text)


def _field_docstrings(kind: Any) -> dict[str, str]:
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
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
