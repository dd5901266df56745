"""What a check found, and how checks are run: side by side, each within its time.

checks → [finding] → cli
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from penstock.errors import PenstockError

T = TypeVar("T")
Status = Literal["ok", "warn", "fail"]
CHECK_SECONDS = 20.0


class Finding(NamedTuple):
    """One thing that was looked at. `why` and `fix` are empty where all is well."""

    check: str
    status: Status
    seen: str
    why: str = ""
    """Why it matters."""
    fix: str = ""
    """What to do: a command or a setting."""


class Check(NamedTuple):
    """Something to look at. What it raises is a finding too."""

    name: str
    look: Callable[[], Awaitable[list[Finding]]]
    seconds: float = CHECK_SECONDS


async def examine(checks: Sequence[Check]) -> list[Finding]:
    """All findings in the order of the checks. Never raises and never takes longer than the slowest check's time."""
    found = await asyncio.gather(*(_within_its_time(check) for check in checks))
    return [finding for findings in found for finding in findings]


async def _within_its_time(check: Check) -> list[Finding]:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        return [Finding(check.name, "fail", f"no answer within {check.seconds:.0f} s", "A worker would wait as well.")]
    except PenstockError as error:
        return [Finding(check.name, "fail", str(error), "A worker would stop with the same words.")]
    except Exception as error:  # noqa: BLE001 - a check that breaks must not hide the others
        seen = f"the check itself broke: {type(error).__name__}: {error}"
        return [Finding(check.name, "fail", seen, "This was not foreseen.", "Report it with this line.")]


async def apart(call: Callable[..., T], *arguments: Any) -> T:
    """Run what blocks on a thread that nobody has to wait for, not even at the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(act: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            act(value)

    def run() -> None:
        try:
            act, value = future.set_result, call(*arguments)
        except BaseException as error:  # noqa: BLE001 - handed over to who waits
            act, value = future.set_exception, error  # type: ignore[assignment]
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, act, value)

    threading.Thread(target=run, name="penstock-doctor", daemon=True).start()
    return await future
