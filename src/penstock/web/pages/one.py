"""One event with all that its tasks made of it, and one dead letter: the pages that links lead to.

database, looking → [one] → event.html, letter.html
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.codecs.cloudevents import data_of
from penstock.errors import PenstockError
from penstock.record import header_text
from penstock.store import queries_event as store
from penstock.store.queries_counts import tasks
from penstock.web.pages.text import MOST_CHARS, Shown, laid_out, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from penstock.record import Record
    from penstock.web.events import Ending, Events
    from penstock.web.pages.database import Database
    from penstock.web.pages.fields import Choice
    from penstock.web.pages.looking import Looking

MOST_FIELDS = 60
MOST_FIELD_CHARS = 5 * MOST_CHARS
"""Of all fields together: what comes behind them stands in the event as the log has it."""
LEAST_QUOTE = 4
"""A shorter text of the output is found everywhere."""
MOST_QUOTES = 12


class Step(NamedTuple):
    """One thing that happened."""

    at: datetime | None
    what: str
    told: str = ""
    mood: str = ""


@dataclass(slots=True)
class EventText:
    """The event itself, or why it is not shown."""

    why_not: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    raw: Shown | None = None
    key: Shown | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    produced: datetime | None = None
    from_letter: bool = False


@dataclass(slots=True)
class VerdictView:
    """What one task decided."""

    row: Mapping[str, Any]
    order: Sequence[str]
    label: str
    fields: list[tuple[str, Any]]
    quotes: list[str]
    """Texts of the output that stand in the event word for word."""


class One:
    """Makes both pages."""

    def __init__(
        self,
        database: Database,
        looking: Looking,
        choices: Mapping[str, Sequence[Choice]],
        topics: Mapping[str, str],
        ledger: Events | None,
    ) -> None:
        """`topics`: what each served task reads. `ledger`: what the gateway knows of the last day."""
        self._database, self._looking, self._choices = database, looking, choices
        self._topics, self._ledger = topics, ledger

    async def event(self, event_id: str, task: str) -> dict[str, Any]:
        """What the template is given."""

        def question(connection: Connection) -> store.Known:
            return store.event(connection, event_id, sorted({*self._choices, *tasks(connection)}))

        known = await self._database.ask(question)
        known = _of_one_topic(known, task)
        known.verdicts.sort(key=lambda row: (row["task"] != task, row["task"]))
        ledger_away = ""
        endings: list[Ending] | None = []
        try:
            endings = await self._endings(event_id) if known.is_empty else []
        except PenstockError as error:
            endings, ledger_away = None, str(error)
        text = await self._text(known)
        verdicts = await asyncio.to_thread(lambda: [self._verdict(row, text) for row in known.verdicts])
        return {
            "event_id": event_id,
            "task": task,
            "known": known,
            "verdicts": verdicts,
            "text": text,
            "quotes": [quote for one in verdicts for quote in one.quotes][:MOST_QUOTES],
            "history": history(known, text),
            "is_erased": bool(known.erased) or any(one.kind == "erased" for one in endings or ()),
            "waits": endings is not None and not endings and known.is_empty and not known.erased and self._ledger,
            "endings": endings or [],
            "ledger_away": ledger_away,
            "missing": self._missing(known),
        }

    async def letter(self, letter_id: str) -> dict[str, Any] | None:
        """Likewise; None where there is none."""

        def question(connection: Connection) -> Any:
            row = store.letter(connection, letter_id)
            return row, [] if row is None else store.erasures_of(connection, row)

        row, erased = await self._database.ask(question)
        if row is None:
            return None
        known = store.Known(letters=[row], erased=erased)
        return {"row": row, "text": await self._text(known), "quotes": [], "is_erased": bool(erased)}

    async def _endings(self, event_id: str) -> list[Ending] | None:
        """What the gateway knows of it; None: nothing."""
        found: list[Ending] | None = None
        for topic in dict.fromkeys(self._topics.values()) if self._ledger else ():
            assert self._ledger is not None
            endings = await self._ledger.endings(topic, event_id)
            if endings is not None:
                found = [*(found or []), *endings]
        return found

    def _missing(self, known: store.Known) -> list[str]:
        """Tasks that read its topic and have not ended it, as far as the database knows."""
        if known.source is None:
            return []
        ended = {row["task"] for row in (*known.verdicts, *known.letters)}
        return [task for task, topic in self._topics.items() if topic == known.source[0] and task not in ended]

    async def _text(self, known: store.Known) -> EventText:
        if known.erased:
            return EventText("It was erased: a deletion of it came later. What is left in the log is not shown.")
        if known.source is None:
            return EventText("Nothing says where it stands.")
        for row in known.letters:
            if not row["is_pointer"] and row["value"] is not None:
                made = await asyncio.to_thread(_laid_out, bytes(row["value"]), row["bytes"])
                made.from_letter = True
                made.key = None if row["key"] is None else shown(bytes(row["key"]))
                return made
        try:
            record = await self._looking.record(*known.source)
        except PenstockError as error:
            return EventText(f"The log was asked for it and did not say: {error}")
        if record is None:
            return EventText("The log holds it no longer: it is older than its topic's retention.")
        return await asyncio.to_thread(_of_record, record)

    def _verdict(self, row: Mapping[str, Any], text: EventText) -> VerdictView:
        choices = self._choices.get(row["task"], ())
        label = next((one.name for one in choices if one.is_label), "")
        order = next((one.values for one in choices if one.is_label), ())
        output = row["output"] if isinstance(row["output"], dict) else {}
        closed = {one.name for one in choices}
        said = [value for name, value in output.items() if isinstance(value, str) and name not in closed]
        quotes = [one for one in said if len(one) >= LEAST_QUOTE and any(one in value for _, value in text.fields)]
        fields = [(name, _told(value)) for name, value in output.items() if name != label]
        return VerdictView(row, order, label, fields, quotes)


def history(known: store.Known, text: EventText) -> list[Step]:
    """All that is known to have happened, oldest first."""
    found: list[Step] = []
    produced = text.produced or next((row["produced_at"] for row in known.verdicts if row["produced_at"]), None)
    if produced is not None:
        found.append(Step(produced, "produced"))
    for row in known.letters:
        mood = "bad" if row["stage"] != "deliver" else "warn"
        what = f"{row['task']}: dead letter" if row["stage"] != "deliver" else f"{row['task']}: not delivered"
        found.append(Step(row["committed_at"], what, f"{row['stage']}: {row['reason']}", mood))
    for row in known.verdicts:
        earlier = known.superseded.get(row["supersedes"] or "")
        if row["supersedes"]:
            told = "by " + (earlier["model"] or earlier["tier"]) if earlier else ""
            found.append(
                Step(earlier["committed_at"] if earlier else None, f"{row['task']}: provisional verdict", told)
            )
        if row["generation"]:
            times = "once" if row["generation"] == 1 else f"{row['generation']} times"
            found.append(Step(None, f"{row['task']}: sent through again {times}"))
        what = "provisional verdict" if row["provisional"] else "final verdict" if row["supersedes"] else "verdict"
        found.append(Step(row["committed_at"], f"{row['task']}: {what}", str(row["label"] or ""), "good"))
    found += [
        Step(row["decided_at"], f"{row['task']}: {row['decided_by']} decided", str(row["label"] or ""))
        for row in known.decisions
    ]
    found += [
        Step(row["committed_at"], f"{row['task']}: erased", f"by its {row['scope']}", "warn") for row in known.erased
    ]
    return sorted(found, key=lambda step: step.at or datetime.min.replace(tzinfo=UTC))


def _of_one_topic(known: store.Known, task: str) -> store.Known:
    """Ids are unique in a topic only: another topic's event of the same name is another event."""
    first = next((row for row in (*known.verdicts, *known.letters) if row["task"] == task), None)
    if first is not None:
        topic = first["source_topic"]
        known.verdicts = [row for row in known.verdicts if row["source_topic"] == topic]
        known.letters = [row for row in known.letters if row["source_topic"] == topic]
        known.erased = [row for row in known.erased if row["source_topic"] == topic]
    return known


def _of_record(record: Record) -> EventText:
    made = _laid_out(record.value, None, record)
    made.key = None if record.key is None else shown(record.key)
    made.headers = [(name, header_text(((name, value),), name) or "") for name, value in record.headers]
    if record.timestamp_ms > 0:
        made.produced = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    return made


def _laid_out(value: bytes | None, size: int | None, record: Record | None = None) -> EventText:
    """An object field by field, anything else as it is."""
    made = EventText(raw=shown(value, size))
    if value is None or (size is not None and size > len(value)):
        return made
    try:
        content = json.loads(data_of(record) if record is not None else value)
    except (ValueError, RecursionError):
        return made
    left = MOST_FIELD_CHARS
    for name, inner in list(content.items())[:MOST_FIELDS] if isinstance(content, dict) else ():
        told = str(_told(inner))[: MOST_CHARS + 1]
        left -= len(told)
        if left < 0:
            break
        made.fields.append((str(name), told))
    return made


def _told(value: Any) -> Any:
    """As text: what is nested as JSON."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, str | int | float):
        return value if isinstance(value, str) else str(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    made = laid_out(value)
    if made is not None:
        return made
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown here"
