"""A sink of one's own: a JSON file per task and event, as one would write to S3. Try it: penstock deliver file_sink:archive --task …"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from penstock import Delivery, Erasure, Refused, Result, Sink, SinkAway


class FileSink(Sink):
    """Again it writes the same file; an older result never replaces a newer one, nor what was erased."""

    name = "archive"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def deliver(self, batch: Sequence[Delivery]) -> list[Refused]:
        refused = []
        for delivery in batch:
            content = delivery.content
            try:
                if isinstance(content, Result):
                    self.put(content, delivery)
                elif isinstance(content, Erasure):
                    self.erase(content, delivery)
            except FileNotFoundError as error:
                raise SinkAway(f"no folder {self.folder}") from error  # it comes again, as often as it takes
            except OSError as error:
                refused.append(Refused(delivery, f"no file can have this name: {error.strerror}"))
        return refused

    def put(self, result: Result, delivery: Delivery) -> None:
        place = self.folder / quote(result.task)  # another task answers the same events
        place.mkdir(exist_ok=True)
        file = place / f"{quote(result.event_id, safe='')}.json"
        at = [delivery.committed_ms, delivery.position.offset]
        if not file.exists() or json.loads(file.read_text())["at"] <= at:
            named = {"subject": result.subject, "key": (delivery.record.key or b"").hex()}
            write(file, {"at": at, **named, "output": dict(result.output)})

    def erase(self, erasure: Erasure, delivery: Delivery) -> None:
        at = [delivery.committed_ms, delivery.position.offset]
        self.folder.stat()
        for file in (self.folder / quote(erasure.task)).glob("*.json"):
            kept = json.loads(file.read_text())
            is_meant = "output" in kept and erasure.covers(bytes.fromhex(kept["key"]), kept["subject"])
            if is_meant and kept["at"] < at:
                write(file, {"at": at})


def write(file: Path, content: dict[str, Any]) -> None:
    """All of it or nothing."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(file)


archive = FileSink(Path("archive"))
