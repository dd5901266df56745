"""The embedded log: whether its file can be written, is whole, and has room to grow.

settings → [file_log] → findings
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.doctor.finding import Finding, apart
from penstock.errors import LogDamaged
from penstock.log.sqlite.inspection import Inspection, inspect

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.settings import Settings

DAMAGE_SECONDS = 10.0
FREE_WARN_BYTES = 2 * 1024**3
FREE_FAIL_BYTES = 200 * 1024**2


async def file_log(settings: Settings, path: Path) -> list[Finding]:
    """The file, its write-ahead log, its content, the disk."""
    try:
        seen = await apart(inspect, path, DAMAGE_SECONDS)
    except LogDamaged as error:
        why = "Nothing can be read or committed."
        return [Finding("log file", "fail", str(error), why, "see above: move it away, bring back a copy, or set log=")]
    findings = [_file(seen)]
    if seen.exists:
        findings += [_content(seen), _wal(seen, settings.sqlite.max_wal_bytes)]
    if seen.path.parent.is_dir():
        findings.append(disk(seen.path, seen.free_bytes))
    return findings


def _file(seen: Inspection) -> Finding:
    if not seen.is_writable:
        what = "exists and cannot be written" if seen.exists else "cannot be made there"
        why = "Results and progress are written to it."
        fix = f"check that {seen.path.parent} is a folder that this user may write to, or set log=sqlite:FILE"
        return Finding("log file", "fail", f"{seen.path} {what}", why, fix)
    if not seen.exists:
        fix = "penstock topics create --task MODULE:TASK"
        return Finding("log file", "warn", f"{seen.path} does not exist yet", "Nothing can be read from it.", fix)
    return Finding("log file", "ok", f"{seen.path}, {size(seen.file_bytes)}, writable")


def _content(seen: Inspection) -> Finding:
    if seen.damage:
        fix = f"stop all workers and bring back a copy of {seen.path} (with its -wal file)"
        return Finding("log content", "fail", "; ".join(seen.damage), "Events or results in it may be gone.", fix)
    if not seen.is_complete:
        told = f"no damage found in {DAMAGE_SECONDS:.0f} s; the file is too large to look through in that time"
        fix = f"sqlite3 {seen.path} 'PRAGMA integrity_check' while no worker runs"
        return Finding("log content", "warn", told, "The rest was not looked at.", fix)
    return Finding("log content", "ok", "no damage found")


def _wal(seen: Inspection, most_bytes: int) -> Finding:
    if seen.journal != "wal":
        why = "Readers and writers would wait for each other; a network file system may be the cause."
        return Finding("log wal", "fail", f"journal mode is {seen.journal}", why, "put the log on a local disk")
    if seen.wal_bytes > 2 * most_bytes:
        why = "A reader that never ends keeps it from being emptied, and it fills the disk."
        fix = "look for a hanging process that has the file open (lsof)"
        return Finding("log wal", "warn", f"the write-ahead log has {size(seen.wal_bytes)}", why, fix)
    return Finding("log wal", "ok", f"the write-ahead log has {size(seen.wal_bytes)}")


def disk(path: Path, free_bytes: int) -> Finding:
    """Room to grow."""
    seen = f"{size(free_bytes)} free in {path.parent}"
    if free_bytes >= FREE_WARN_BYTES:
        return Finding("disk", "ok", seen)
    why = "On a full disk nothing is committed any more; nothing is lost, and everything waits."
    return Finding("disk", "fail" if free_bytes < FREE_FAIL_BYTES else "warn", seen, why, "make room, or move the log")


def size(count: int) -> str:
    """Bytes as people say them."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1_000 and len(units) > 1:
        amount, units = amount / 1_000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"
