"""A reply's text to one outcome per item, whatever the reply looks like (laws 7 and 8).

client → [reply] → tier → outcome
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from penstock.claude.models import Tokens
from penstock.claude.verdicts import Verdicts
from penstock.outcome import Again, Answer, Charge, Failure, Outcome, Responder
from penstock.task import Task
from penstock.tier import Item

_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
_HEAD = re.compile(r'\s*\{\s*"r"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
_DETAIL_CHARS = 300


class Reply(NamedTuple):
    """A call that was answered (HTTP 200), with everything that is billed on."""

    call_id: str
    model: str
    stop_reason: str | None
    text: str
    """All text blocks together; thinking and other blocks are not believed."""
    tokens: Tokens
    refusal: str = ""
    """The category of a refusal."""
    simulated: bool = False
    headers: Mapping[str, str] = {}
    """Of the response: they name the account's limits."""

    @property
    def is_billed(self) -> bool:
        """A refusal before any output is free, though its usage shows tokens."""
        return not (self.stop_reason == "refusal" and not self.text and not self.tokens.output)


class Entries(NamedTuple):
    """What a reply says under which id."""

    by_id: dict[str, dict[str, Any]]
    contradicted: frozenset[str]
    """Ids answered more than once, not alike: none of the answers is believed."""


def read_entries(text: str, *, cut: bool) -> Entries | None:
    """The entries of a reply; of a cut one, those that are complete. None where there are none to read."""
    entries = _complete_entries(text) if cut else _all_entries(text)
    if entries is None:
        return None
    by_id: dict[str, dict[str, Any]] = {}
    contradicted: set[str] = set()
    for entry in entries:
        key = entry.get("i") if isinstance(entry, dict) else None
        if not isinstance(key, str):
            continue
        known = by_id.setdefault(key, entry)
        if known is not entry and known != entry:
            contradicted.add(key)
    return Entries(by_id, frozenset(contradicted))


def _all_entries(text: str) -> list[Any] | None:
    try:
        content = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    entries = content.get("r") if isinstance(content, dict) else None
    return entries if isinstance(entries, list) else None


def _complete_entries(text: str) -> list[Any] | None:
    head = _HEAD.match(text)
    if head is None:
        return None
    entries: list[Any] = []
    at = head.end()
    while True:
        start = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string
        try:
            at = _DECODER.raw_decode(text, start)[1]
            entries.append(orjson.loads(text[start:at]))
        except (ValueError, RecursionError):
            return entries


def outcomes(
    task: Task[Any, Any],
    verdicts: Verdicts,
    items: Sequence[Item],
    ids: Sequence[str],
    reply: Reply,
    by: Responder,
    charges: Sequence[Charge | None],
) -> list[Outcome]:
    """One outcome per item, in the items' order: an entry counts for the item that was asked under its id only."""
    alone = len(items) == 1
    if reply.stop_reason == "refusal":
        return [_refused(reply, charge, alone=alone) for charge in charges]
    cut = reply.stop_reason in _CUT
    # A reply without a stop reason was cut off by something that is not the model: it is not believed at all.
    entries = read_entries(reply.text, cut=cut) if reply.stop_reason else None
    if entries is None or not (entries.by_id.keys() & set(ids)):
        readable = entries is not None
        return [
            _unanswered(reply, charge, readable=readable, cut=cut, split=not alone, alone=alone) for charge in charges
        ]
    ended: list[Outcome] = []
    for key, charge in zip(ids, charges, strict=True):
        entry = entries.by_id.get(key)
        if entry is None:
            ended.append(_unanswered(reply, charge, readable=True, cut=cut, split=False, alone=alone))
        elif key in entries.contradicted:
            ended.append(Again("invalid_output", detail="answered twice, not alike", charge=charge))
        else:
            ended.append(_judge(task, verdicts, entry, by, charge))
    return ended


def _refused(reply: Reply, charge: Charge | None, *, alone: bool) -> Outcome:
    detail = f"{reply.model} declined to answer (category {reply.refusal or 'not given'})"
    if alone:
        return Failure("refused", detail, charge=charge)
    return Again("refused", detail=detail, split=True, charge=charge)


def _unanswered(reply: Reply, charge: Charge | None, *, readable: bool, cut: bool, split: bool, alone: bool) -> Outcome:
    if alone and reply.stop_reason == "model_context_window_exceeded":
        return Failure("too_large", f"more than the context of {reply.model} holds", charge=charge)
    if cut or reply.stop_reason is None:
        detail = f"the reply was cut (stop_reason {reply.stop_reason or 'missing'})"
        return Again("truncated", detail=detail, split=split, charge=charge)
    if reply.text and not readable:
        detail = "the reply is not of the agreed form"
        return Again("invalid_output", detail=detail, split=split, charge=charge)
    return Again("missing", detail="the reply has no entry for it", split=split, charge=charge)


def _judge(
    task: Task[Any, Any], verdicts: Verdicts, entry: dict[str, Any], by: Responder, charge: Charge | None
) -> Outcome:
    try:
        output, confidence, as_json = verdicts.read(entry)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'output'}: {e['type']}" for e in errors]
        return Again("invalid_output", detail=", ".join(wrong)[:_DETAIL_CHARS], charge=charge)
    except ValueError as error:
        return Again("invalid_output", detail=str(error), charge=charge)
    except Exception as error:  # noqa: BLE001  # a validator of the user's model
        return _hook_failed(task.output.__name__, error, charge)
    return Answer(output, confidence, by, charge, as_json)


def _hook_failed(hook: str, error: Exception, charge: Charge | None) -> Failure:
    return Failure("hook_failed", f"{hook} raised {type(error).__name__}", charge=charge)
