"""Whether Python and the packages that Penstock needs are there, in versions that it knows.

environment → [installation] → findings
"""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import takewhile

from penstock.doctor.finding import Finding

OLDEST_PYTHON = (3, 11)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


async def installation() -> list[Finding]:
    """Python, then the packages."""
    return [_python(), _packages()]


def _python() -> Finding:
    seen = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "fail", seen, "Penstock needs 3.11 or newer.", "install a newer Python")
    return Finding("python", "ok", seen)


def _packages() -> Finding:
    try:
        wanted = requires("penstock") or []
    except PackageNotFoundError:
        return Finding(
            "packages",
            "warn",
            "penstock is not installed as a package",
            "Versions of its parts cannot be compared.",
            "pip install penstock (or `pip install -e .` in its repository)",
        )
    wrong = [fault for text in wanted if (fault := fault_of(text))]
    if wrong:
        return Finding(
            "packages", "fail", "; ".join(wrong), "Imports or calls will fail.", "pip install --upgrade penstock"
        )
    main = ", ".join(f"{name} {version(name)}" for name in ("anthropic", "confluent-kafka", "pydantic"))
    return Finding("packages", "ok", f"penstock {version('penstock')}; {main}")


def fault_of(requirement: str) -> str:
    """What is wrong with a requirement as `importlib.metadata` tells it; empty where nothing is."""
    named = _REQUIREMENT.match(requirement)
    if named is None or "extra ==" in requirement or (sys.platform == "win32" and "win32" in requirement):
        return ""
    name, bounds = named[1], named[2]
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    for sign, bound in _BOUND.findall(bounds):
        is_newer = _numbers(found) >= _numbers(bound)
        if is_newer != (sign == ">="):
            return f"{name} is {found}, wanted {sign}{bound}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    """`2.16.1rc1` is (2, 16, 1): pre-releases count as their release."""
    parts = ("".join(takewhile(str.isdigit, part)) for part in text.split("."))
    return tuple(int(part) for part in takewhile(bool, parts))
