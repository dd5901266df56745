"""The process tree: who dies starts again, who refuses does not, all stop in order, nobody is left."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from penstock.tree import BUDGET_SPENT, MISTAKE, Role, RoleEnded, Tree, TreeOptions

FAST = TreeOptions(first_wait_seconds=0.05, max_wait_seconds=0.2, kill_seconds=0.3)
LIVE = "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nprint('ready', flush=True)\ntime.sleep(60)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"


def role(name: str, code: str, stage: int = 0, drain_seconds: float = 10.0) -> Role:
    return Role(name, (sys.executable, "-S", "-c", code), stage, drain_seconds)


class Watched:
    """A tree, what it told, and what its children said."""

    def __init__(self, *roles: Role) -> None:
        self.told: list[str] = []
        self.said: list[tuple[str, str]] = []
        self._news = asyncio.Event()
        self.tree = Tree(roles, self._tell, self._hear, FAST)
        self.running = asyncio.create_task(self.tree.run())

    async def until(self, count: int, name: str, said: str) -> None:
        """Until a child has said so, so often."""
        async with asyncio.timeout(20):
            while self.said.count((name, said)) < count:
                self._news.clear()
                await self._news.wait()

    async def until_told(self, text: str) -> None:
        async with asyncio.timeout(20):
            while not any(text in line for line in self.told):
                self._news.clear()
                await self._news.wait()

    async def stop(self) -> None:
        self.tree.stop()
        await self.running

    def pids(self) -> list[int]:
        return [int(found[1]) for line in self.told if (found := re.search(r"process (\d+)$", line))]

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self._news.set()

    def _hear(self, name: str, text: str) -> None:
        self.said.append((name, text))
        self._news.set()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_who_dies_starts_again_after_growing_waits() -> None:
    """A crash is no end: each restart is told with its wait, which doubles up to a limit."""
    watched = Watched(role("crasher", "print('here', flush=True); raise SystemExit(1)"))
    await watched.until(5, "crasher", "here")
    await watched.stop()
    waits = [float(found[1]) for line in watched.told if (found := re.search(r"again in (\S+) s", line))]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.2]
    assert all("exit code 1" in line for line in watched.told if "ended by itself" in line)


async def test_a_killed_child_starts_again_and_others_do_not_notice() -> None:
    """kill -9 of one: it comes back as another process, its neighbour is the same one."""
    watched = Watched(role("a", LIVE), role("b", LIVE))
    await watched.until(1, "a", "ready")
    await watched.until(1, "b", "ready")
    victim = next(int(line.split()[-1]) for line in watched.told if line.startswith("a: started"))
    os.kill(victim, 9)
    await watched.until(2, "a", "ready")
    assert watched.said.count(("b", "ready")) == 1
    await watched.stop()
    assert "a: ended by itself (signal 9), starts again in 0.05 s" in watched.told
    assert not any(map(is_alive, watched.pids()))


async def test_a_first_start_that_refuses_ends_all() -> None:
    """A mistake of the user's is not tried for ever: its whole text is raised, and nothing keeps running."""
    refuser = "print('warming up'); print('error: no key\\nset one'); raise SystemExit(2)"
    watched = Watched(role("good", LIVE), role("bad", refuser))
    with pytest.raises(RoleEnded, match="bad: no key\nset one") as ended:
        await watched.running
    assert ended.value.code == MISTAKE
    assert sum(line.startswith("bad: started") for line in watched.told) == 1
    assert not any(map(is_alive, watched.pids()))


async def test_who_refuses_later_leaves_the_others_at_work(tmp_path: Path) -> None:
    """A restart that refuses ends its role only; the tree says so at once and again when it ends."""
    code = f"import pathlib; p = pathlib.Path({str(tmp_path / 'once')!r})\nif p.exists(): print('error: behind'); raise SystemExit(2)\np.touch(); raise SystemExit(1)"
    watched = Watched(role("good", LIVE), role("bad", code))
    await watched.until(1, "good", "ready")
    await watched.until_told("bad: ended for good (exit code 2), the others go on: behind")
    assert not watched.running.done()
    watched.tree.stop()
    with pytest.raises(RoleEnded, match="bad: behind"):
        await watched.running
    assert sum(line.startswith("bad: started") for line in watched.told) == 2


async def test_a_spent_budget_is_not_asked_again() -> None:
    """Exit code 4 ends a role for good, at its first start too; when no role is left the tree ends."""
    watched = Watched(role("spender", "print('error: spent'); raise SystemExit(4)"))
    with pytest.raises(RoleEnded, match="spender: spent") as ended:
        await watched.running
    assert ended.value.code == BUDGET_SPENT
    assert any("no role is left" in line for line in watched.told)


async def test_roles_stop_in_order() -> None:
    """A stage is told to stop when the one before has ended, not earlier."""
    slow = LIVE.replace("os._exit(0)", "(time.sleep(0.2), print('done', flush=True), os._exit(0))")
    watched = Watched(role("third", slow, 2), role("first", slow, 0), role("second", slow, 1))
    for name in ("first", "second", "third"):
        await watched.until(1, name, "ready")
    await watched.stop()
    assert [name for name, said in watched.said if said == "done"] == ["first", "second", "third"]
    assert watched.told[-3:] == ["first: stopped", "second: stopped", "third: stopped"]


async def test_who_does_not_end_in_time_is_killed() -> None:
    """Nobody holds up a stop for ever."""
    watched = Watched(role("deaf", DEAF, drain_seconds=0.1))
    await watched.until(1, "deaf", "ready")
    await watched.stop()
    assert watched.told[-2:] == ["deaf: did not end in time and is killed", "deaf: stopped (signal 9)"]


async def test_the_second_stop_kills() -> None:
    """Somebody cannot wait."""
    watched = Watched(role("deaf", DEAF, drain_seconds=600.0))
    await watched.until(1, "deaf", "ready")
    watched.tree.stop()
    await asyncio.sleep(0)
    await watched.stop()
    assert not any(map(is_alive, watched.pids()))


async def test_what_cannot_be_started_is_tried_again() -> None:
    """A machine that has no room for a process now may have it later; nothing else is stopped for it."""
    watched = Watched(role("good", LIVE), Role("nowhere", ("/nonexistent/program",), 0, 1.0))
    await watched.until(1, "good", "ready")
    await watched.until_told("starts again in 0.2 s")
    assert any("nowhere: ended by itself (it could not be started: " in line for line in watched.told)
    await watched.stop()


async def test_lines_of_any_length_are_heard_whole_or_in_parts() -> None:
    """A child that writes much is never blocked, and the last line needs no end."""
    watched = Watched(role("chatty", "print('x' * 300_000); print('é', end=''); raise SystemExit(4)"))
    with pytest.raises(RoleEnded, match="chatty: é"):
        await watched.running
    assert watched.said[0] == ("chatty", "x" * 300_000)
