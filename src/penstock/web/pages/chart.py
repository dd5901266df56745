"""Small charts as SVG, made here: a bar an hour, its parts by class. No script, no style of their own, legible in both themes.

overview → [chart] → templates
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT, GAP = 480.0, 72.0, 2.0
LEAST = 1.5
"""Something is never drawn as nothing."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour."""

    told: str
    """What hovering says: plain text."""
    parts: Sequence[tuple[str, float]]
    """CSS class and amount, from the bottom."""

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(amount for _, amount in self.parts)


def chart(bars: Sequence[Bar], title: str) -> Markup:
    """As inline SVG; `title` is what a screen reader says of it."""
    most = max((bar.total for bar in bars), default=0.0) or 1.0
    width = WIDTH / max(1, len(bars))
    drawn = [_bar(bar, index * width, width, most) for index, bar in enumerate(bars)]
    head = Markup(
        '<svg class="chart" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" role="img" aria-label="{}">'
    ).format(WIDTH, HEIGHT, title)
    return head + Markup().join(drawn) + Markup("</svg>")


def _bar(bar: Bar, left: float, width: float, most: float) -> Markup:
    made = [Markup("<g><title>{}</title>").format(bar.told)]
    hover = Markup('<rect class="hover" x="{:.2f}" y="0" width="{:.2f}" height="{:g}"/>')
    made.append(hover.format(left, width, HEIGHT))
    top = HEIGHT
    for name, amount in bar.parts:
        if amount <= 0:
            continue
        height = max(LEAST, amount / most * (HEIGHT - 2))
        top = max(0.0, top - height)
        part = Markup('<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>')
        made.append(part.format(name, left + GAP / 2, top, width - GAP, height))
    made.append(Markup("</g>"))
    return Markup().join(made)
