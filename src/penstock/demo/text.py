"""How the demo writes numbers and verdicts: the same on the board, in plain lines and in the summary.

[text] → board, plain lines, summary
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter

SIMULATED = "simulated judgement"


def dollars(nanousd: int) -> str:
    """Four places: a demo costs cents."""
    return f"${nanousd / 1e9:,.4f}"


def ceiling(usd: float) -> str:
    """What may be spent at most: cents, or finer where somebody wants less."""
    return f"${usd:,.2f}" if usd >= 0.1 else f"${usd:g}"


def saving(nanousd: int, single_nanousd: int) -> str:
    """How much less, in per cent; empty where there is nothing to compare."""
    if single_nanousd <= nanousd or not single_nanousd:
        return ""
    return f"-{(1 - nanousd / single_nanousd) * 100:.0f} %"


def seconds(milliseconds: int) -> str:
    """As people say it."""
    return f"{milliseconds / 1000:.2f} s" if milliseconds < 10_000 else f"{milliseconds / 1000:.0f} s"


def counted(found: Counter[str], names: tuple[str, ...]) -> list[tuple[str, int]]:
    """The named ones in their order, then whatever else there is."""
    return [(name, found[name]) for name in names] + sorted((k, n) for k, n in found.items() if k not in names)


DECISIONS = ("publish", "hold", "reject")
CALLED = {"manipulation": "injection"}
"""Clauses are named for what they forbid; people know the attack by another word."""
KINDS = ("spam", "abuse", "fake", "manipulation")
SENTIMENTS = ("positive", "mixed", "neutral", "negative")
