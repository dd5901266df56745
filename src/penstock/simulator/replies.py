"""Composes the model's reply to a request: its text, its thinking, why it stopped, and the defects that are asked for.

answers | writers → [replies] → api
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator.answers import Event, Judge, read_events
from penstock.simulator.tokens import chars_of, count_chars
from penstock.simulator.writers import Choice, Listed, Record

if TYPE_CHECKING:
    from penstock.simulator.roles import Draw
    from penstock.simulator.validation import Ask

THINKING_TOKENS = {"low": 40, "medium": 90, "high": 180, "xhigh": 360, "max": 700}
REPLY_OVERHEAD = 3
REFUSAL = {
    "type": "refusal",
    "category": None,
    "explanation": "The request was declined by the simulator because it contains the refusal marker.",
}


@dataclass(slots=True)
class Reply:
    """What the model says."""

    content: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None
    output_tokens: int = 0
    thinking_tokens: int = 0
    items: int = 0
    hashes: list[int] = field(default_factory=list)
    """One per item, for what was asked twice."""
    billed: bool = True


class Composer:
    """Writes replies; the same request, seed and answer book give the same reply."""

    def __init__(self, judge: Judge, refusal_marker: str) -> None:
        self._judge = judge
        self._marker = refusal_marker

    def compose(self, ask: Ask, defect: str = "") -> Reply:
        """The reply to one request."""
        events = read_events(ask.prompt.text)
        prompt = hash((ask.scope, ask.prompt.system))
        reply = Reply(items=len(events), hashes=[hash((prompt, event.raw)) for event in events])
        if ask.max_tokens == 0:
            reply.stop_reason = "max_tokens"
            return reply
        if defect == "refusal" or (self._marker and self._marker in ask.prompt.text):
            reply.stop_reason, reply.stop_details, reply.billed = "refusal", REFUSAL, False
            return reply
        if ask.thinks:
            self._think(reply, ask)
        if reply.stop_reason == "max_tokens" or defect == "empty":
            reply.output_tokens += REPLY_OVERHEAD
        elif ask.tool:
            self._call_tool(reply, ask)
        else:
            self._speak(reply, ask, self._text(ask, events, defect), defect)
        return reply

    def _think(self, reply: Reply, ask: Ask) -> None:
        """A block without text, as the newer models send it; its tokens count towards `max_tokens`."""
        number = self._judge.number(ask.prompt.text)
        tokens = THINKING_TOKENS[ask.effort] + number % THINKING_TOKENS[ask.effort]
        if tokens >= ask.max_tokens:
            tokens, reply.stop_reason = ask.max_tokens - REPLY_OVERHEAD, "max_tokens"
        reply.thinking_tokens = reply.output_tokens = max(tokens, 0)
        reply.content.append({"type": "thinking", "thinking": "", "signature": f"c2ltdWxhdGVk{number:016x}"})

    def _call_tool(self, reply: Reply, ask: Ask) -> None:
        assert ask.tool is not None
        name, grammar = ask.tool
        whole = self._whole(ask)
        written = grammar.writer.write(whole)
        reply.content.append({"type": "tool_use", "id": f"toolu_01{whole.pick(1 << 60):022x}", "name": name, "input": written, "caller": {"type": "direct"}})  # fmt: skip
        reply.output_tokens += count_chars(ask.model, len(orjson.dumps(written))) + REPLY_OVERHEAD
        reply.stop_reason = "tool_use"

    @staticmethod
    def _speak(reply: Reply, ask: Ask, text: str, defect: str) -> None:
        """Text as far as stop sequences, `max_tokens` and the window allow."""
        for sequence in ask.stop_sequences:
            at = text.find(sequence)
            if at >= 0:
                text, reply.stop_reason, reply.stop_sequence = text[:at], "stop_sequence", sequence
        room = ask.max_tokens - reply.output_tokens
        window = ask.model.context_tokens - ask.fixed_tokens - ask.prompt.tokens - reply.output_tokens
        if defect == "truncated":
            room = min(room, (count_chars(ask.model, len(text)) + REPLY_OVERHEAD) * 3 // 5)
        tokens = count_chars(ask.model, len(text)) + REPLY_OVERHEAD
        if tokens > min(room, window):
            reply.stop_reason = "max_tokens" if room <= window else "model_context_window_exceeded"
            reply.stop_sequence = None
            tokens = min(room, window)
            text = text[: chars_of(ask.model, max(tokens - REPLY_OVERHEAD, 0))]
        reply.output_tokens += max(tokens, 0)
        if text:
            reply.content.append({"type": "text", "text": text, "citations": None})

    def _whole(self, ask: Ask) -> Draw:
        return self._judge.draw(ask.prompt.text, ask.model.line)

    def _text(self, ask: Ask, events: list[Event], defect: str) -> str:
        if ask.grammar is None:
            return self._plain(self._whole(ask), events)
        root = ask.grammar.writer
        entry = _entry_of(root)
        if not events or entry is None or not isinstance(root, Record):
            value = root.write(self._single(ask, events))
        else:
            value = {"r": _spoiled([self._entry(entry, event, ask.model.line) for event in events], defect, entry)}
            value |= {key: writer.write(self._whole(ask)) for key, writer in root.by_key.items() if key != "r"}
        text = orjson.dumps(value).decode()
        if defect == "invalid_json":
            return text[:-2] + ",,"
        return "[" + text + "]" if defect == "not_an_object" else text

    def _single(self, ask: Ask, events: list[Event]) -> Draw:
        """A schema without a list of entries speaks about the only event, else about the whole text."""
        return self._judge.about(events[0], ask.model.line) if len(events) == 1 else self._whole(ask)

    def _entry(self, entry: Record, event: Event, line: str) -> dict[str, Any]:
        written = entry.write(self._judge.about(event, line))
        written["i"] = event.id
        return written

    @staticmethod
    def _plain(whole: Draw, events: list[Event]) -> str:
        about = f"{len(events)} events" if events else "a text"
        profile = whole.profile
        return (
            f"This is the Penstock simulator, not Claude. It was shown {about} in language {profile.language!r}; "
            f"the sentiment looks {profile.sentiment}."
        )


def _entry_of(writer: Any) -> Record | None:
    """The writer of one entry of a micro-batch: objects with an `i`, listed under `r`."""
    listed = writer.by_key.get("r") if isinstance(writer, Record) else None
    entry = listed.item if isinstance(listed, Listed) else None
    return entry if isinstance(entry, Record) and "i" in entry.by_key else None


def _spoiled(entries: list[dict[str, Any]], defect: str, entry: Record) -> list[dict[str, Any]]:
    """The entries with the defect that is asked for."""
    middle = len(entries) // 2
    if defect == "missing":
        return entries[:middle] + entries[middle + 1 :]
    if defect == "duplicate":
        return [*entries, dict(entries[middle])]
    if defect == "foreign":
        return [*entries[:middle], {**entries[middle], "i": "zz!zz"}, *entries[middle + 1 :]]
    if defect == "permuted":
        return entries[::-1]
    if defect == "enum_case":
        # Structured output does not promise the case of enum values; ids and free text keep theirs.
        chosen = {key for key, writer in entry.by_key.items() if isinstance(writer, Choice)}
        return [{key: str(value).upper() if key in chosen else value for key, value in one.items()} for one in entries]
    return entries
