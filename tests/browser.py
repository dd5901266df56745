"""A real browser for tests: the machine's Chromium, driven by Playwright. `make test` brings it; nothing is skipped silently."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
VARIABLE = "PENSTOCK_TEST_CHROMIUM"


def executable() -> str:
    """Its path; a test that needs it fails where there is none, and says what to install."""
    found = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), "")
    if not found or not os.access(found, os.X_OK):
        pytest.fail(f"no Chromium: apt-get install chromium, or set {VARIABLE} to the path of one", pytrace=False)
    return found


class Seen:
    """What a page complained of: errors of scripts, what its policy refused, dialogs."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def of(self, page: Any) -> None:
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(f"{kind}: {text}")


@asynccontextmanager
async def browsing(**context: Any) -> AsyncIterator[tuple[Any, Seen]]:
    """A page in a browser of its own."""
    from playwright.async_api import async_playwright

    path = executable()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        made = await browser.new_context(**context)
        page = await made.new_page()
        page.set_default_timeout(60_000)
        seen = Seen()
        seen.of(page)
        try:
            yield page, seen
        finally:
            await made.close()
            await browser.close()
