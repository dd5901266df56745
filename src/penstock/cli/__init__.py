"""The command line: a file per group of commands. Heavy imports wait inside the command that needs them.

terminal → [cli] → wiring → …
"""

from __future__ import annotations

from penstock.cli.commands import app, main

__all__ = ["app", "main"]
