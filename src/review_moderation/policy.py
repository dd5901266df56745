"""The policy in force: a versioned file of clauses with ids, checked when it is loaded and told to the model.

policy.toml → [policy] → moderator
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from penstock import UserError

Decision = Literal["publish", "hold", "reject"]
Severity = Literal["low", "medium", "high"]

SHIPPED = Path(__file__).with_name("policy.toml")

_CLAUSE_ID = re.compile(r"[a-z][a-z0-9]*\.[a-z][a-z0-9_]*")


class PolicyError(UserError):
    """A policy file cannot be used; the text names the file and the clause."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One rule. The part of the id before the dot is the policy it belongs to: spam, abuse, fake, manipulation."""

    id: str
    text: str
    severity: Severity
    decision: Decision


@dataclass(frozen=True, slots=True)
class Example:
    """A case at the border and how it is decided."""

    review: str
    decision: Decision
    violations: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Clauses in the order of the file. `version` stands on every result."""

    version: str
    title: str
    clauses: tuple[Clause, ...]
    examples: tuple[Example, ...]

    @property
    def clause_ids(self) -> tuple[str, ...]:
        """The ids, in the order of the file."""
        return tuple(clause.id for clause in self.clauses)

    def told(self) -> str:
        """The policy as the model reads it."""
        lines = [
            f"{self.title}, version {self.version}",
            "",
            "Clauses (id [severity, usual decision]: what violates it)",
        ]
        lines += [f"- {c.id} [{c.severity}, {c.decision}]: {c.text}" for c in self.clauses]
        if self.examples:
            lines += ["", "Cases at the border"]
        for example in self.examples:
            ids = f" ({', '.join(example.violations)})" if example.violations else ""
            lines.append(f'- "{example.review}" -> {example.decision}{ids}: {example.because}.')
        return "\n".join(lines)


def load_policy(path: str | Path = SHIPPED) -> Policy:
    """Read and check a policy file. Raises `PolicyError`."""
    file = Path(path)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as missing:
        raise PolicyError(f"policy {file}: cannot be read ({missing.strerror})") from missing
    except ValueError as broken:  # not TOML, or not UTF-8
        raise PolicyError(f"policy {file}: is not a TOML file: {broken}") from broken
    _known(raw, {"version", "title", "clause", "example"}, f"policy {file}")
    clauses = tuple(_clause(table, file, n) for n, table in enumerate(_tables(raw, "clause", file), 1))
    if not clauses:
        raise PolicyError(f"policy {file}: has no clause; write [[clause]] with id, severity, decision and text")
    _distinct([clause.id for clause in clauses], file)
    examples = tuple(_example(table, clauses, file, n) for n, table in enumerate(_tables(raw, "example", file), 1))
    where = f"policy {file}"
    return Policy(_text(raw, "version", where), _text(raw, "title", where), clauses, examples)


def _clause(table: dict[str, Any], file: Path, number: int) -> Clause:
    where = f"policy {file}: clause {table.get('id') or f'number {number}'}"
    _known(table, {"id", "severity", "decision", "text"}, where)
    clause_id = _text(table, "id", where)
    if not _CLAUSE_ID.fullmatch(clause_id):
        raise PolicyError(f"{where}: write the id as 'policy.clause' in small letters, such as 'spam.link'")
    severity: Severity = _choice(table, "severity", get_args(Severity), where)
    decision: Decision = _choice(table, "decision", ("hold", "reject"), where)
    return Clause(clause_id, _text(table, "text", where), severity, decision)


def _example(table: dict[str, Any], clauses: tuple[Clause, ...], file: Path, number: int) -> Example:
    where = f"policy {file}: example {number}"
    _known(table, {"review", "decision", "violations", "because"}, where)
    violations = table.get("violations", [])
    unknown = [v for v in violations if v not in {clause.id for clause in clauses}]
    if unknown:
        raise PolicyError(f"{where}: names {', '.join(map(repr, unknown))}, which is no clause of this file")
    decision: Decision = _choice(table, "decision", get_args(Decision), where)
    if (decision == "publish") == bool(violations):
        raise PolicyError(f"{where}: 'publish' goes without violations, 'hold' and 'reject' with at least one")
    return Example(_text(table, "review", where), decision, tuple(violations), _text(table, "because", where))


def _tables(raw: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    tables = raw.get(name, [])
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        raise PolicyError(f"policy {file}: write every {name} as a table of its own under [[{name}]]")
    return tables


def _known(table: dict[str, Any], names: set[str], where: str) -> None:
    unknown = sorted(set(table) - names)
    if unknown:
        raise PolicyError(f"{where}: {unknown[0]!r} is not known here; use {', '.join(sorted(names))}")


def _text(table: dict[str, Any], name: str, where: str) -> str:
    text = table.get(name)
    if not (isinstance(text, str) and text.strip()):
        raise PolicyError(f'{where}: {name} = "…" is missing or empty')
    return text.strip()


def _choice(table: dict[str, Any], name: str, choices: tuple[str, ...], where: str) -> Any:
    if table.get(name) not in choices:
        raise PolicyError(f"{where}: {name} = {table.get(name)!r}; write one of {', '.join(choices)}")
    return table[name]


def _distinct(ids: list[str], file: Path) -> None:
    for number, clause_id in enumerate(ids):
        if clause_id in ids[:number]:
            raise PolicyError(f"policy {file}: clause {clause_id} is there twice")
