"""How the demo writes what stays on the screen: titles, lines and tables below each other, 80 columns.

[page] → summary, stay
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console


class Page:
    """Lines stay whole where they are longer, so that commands can be copied."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, text: str, beside: str = "") -> None:
        """An empty line above it."""
        self._console.print()
        self._console.print(
            Text.assemble((text, "bold"), (f"   {beside}" if beside else "", "magenta")), soft_wrap=True
        )

    def text(self, text: str | Text, style: str = "") -> None:
        """One line."""
        self._console.print(Text.assemble("  ", text), style=style, soft_wrap=True)

    def table(self, table: Table) -> None:
        """As wide as it is."""
        self._console.print(Padding(table, (0, 0, 0, 2), expand=False))


def grid(*widths: int) -> Table:
    """A column for each width; to the right where it is negative."""
    table = Table.grid(padding=(0, 2))
    for width in widths:
        table.add_column(min_width=abs(width), justify="left" if width > 0 else "right", no_wrap=True)
    return table
