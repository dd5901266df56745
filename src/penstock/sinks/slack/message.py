"""A digest or an alarm as Slack shows it: Block Kit within its limits; what others wrote is text and nothing else.

digests, alarms → [message] → post
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    DividerBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from penstock.sinks.base import Result

if TYPE_CHECKING:
    from penstock.sinks.base import Delivery
    from penstock.sinks.slack.alarms import Alarm
    from penstock.sinks.slack.digests import Digest
    from penstock.sinks.slack.options import SlackOptions

MOST_BLOCKS = 50
MOST_CHARACTERS = 10_000
"""Of all blocks together: below its limits of single ones Slack refuses what is longer than some 13,000."""
_HEADER, _VALUE, _SAMPLE, _ID = 140, 200, 600, 120
_URL = 1_500
_MAIL = re.compile(r"[^\s@<>]{1,64}@[^\s@<>]{1,255}")
_NUMBER = re.compile(r"\+?\d(?:[ ./()-]{0,2}\d){6,}")


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted."""

    text: str
    """For notifications, and clients that show no blocks."""
    blocks: list[dict[str, Any]]

    def payload(self) -> dict[str, Any]:
        """As an incoming webhook takes it."""
        return {"text": self.text, "blocks": self.blocks, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def message_of(digest: Digest, options: SlackOptions) -> Message:
    """The digest, with as many samples as fit."""
    for most in range(options.samples, -1, -1):
        blocks = [block.to_dict() for block in _blocks(digest, options, most)]
        if len(blocks) <= MOST_BLOCKS and len(json.dumps(blocks, ensure_ascii=False)) <= MOST_CHARACTERS:
            break
    return Message(escaped(_title(digest), _HEADER), blocks)


def message_of_alarm(alarm: Alarm, options: SlackOptions, unix_seconds: float) -> Message:
    """What is wrong, in the first line; what to do about it below."""
    told = "\n".join(alarm.lines)
    blocks: list[Block] = [
        HeaderBlock(text=PlainTextObject(text=escaped(alarm.title, _HEADER), emoji=False)),
        SectionBlock(text=_plain(told, _SAMPLE)),
    ]
    if options.console_url:
        parts = urlsplit(options.console_url)
        link = f"<{_in_link(f'{parts.scheme}://{parts.netloc}/')}|Look at it>"
        blocks.append(ContextBlock(elements=[MarkdownTextObject(text=link, verbatim=True)]))
    around = f"{_moment(round(unix_seconds * 1000))} UTC · {alarm.key}"
    blocks.append(ContextBlock(elements=[_plain(around, _VALUE)]))
    return Message(escaped(alarm.title, _HEADER), [block.to_dict() for block in blocks])


def _blocks(digest: Digest, options: SlackOptions, most: int) -> list[Block]:
    blocks: list[Block] = [HeaderBlock(text=PlainTextObject(text=escaped(_title(digest), _HEADER), emoji=False))]
    told = [_plain(f"{name}: {value}", _VALUE) for name, value in digest.fingerprint.says[:10]]
    if told:
        blocks.append(SectionBlock(fields=told))
    shown = digest.samples[:most]
    if shown:
        blocks.append(DividerBlock())
    for delivery in shown:
        blocks.append(SectionBlock(text=_plain(_sample(delivery, options), _SAMPLE)))
        if url := _link(delivery, options):
            blocks.append(ContextBlock(elements=[MarkdownTextObject(text=f"<{url}|Look at it>", verbatim=True)]))
    more = digest.count - len(shown)
    around = f"{_moment(digest.first_ms)} to {_moment(digest.last_ms)} UTC · key {digest.fingerprint.key}"
    blocks.append(
        ContextBlock(elements=[_plain(f"and {more:,} more · {around}" if shown and more else around, _VALUE)])
    )
    return blocks


def _title(digest: Digest) -> str:
    fingerprint = digest.fingerprint
    said = " · ".join(value for _, value in fingerprint.says if value != "-") or "result"
    what = f"dead letters: {said}" if fingerprint.kind == "letter" else said
    return f"{digest.count:,} of {what} ({fingerprint.task})"


def _sample(delivery: Delivery, options: SlackOptions) -> str:
    content = delivery.content
    lines = [content.event_id[:_ID]]
    if isinstance(content, Result):
        lines[0] += f" · {content.confidence}{', provisional' * content.provisional}{', simulated' * content.simulated}"
        for name in options.sample_fields:
            value = content.output.get(name)
            if value not in (None, "", []):
                shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
                lines.append(f"{name}: {redacted(shown[:_VALUE])}")
    elif detail := getattr(content, "detail", ""):
        lines.append(redacted(detail[:_VALUE]))
    return "\n".join(lines)


def redacted(text: str) -> str:
    """Without mail addresses and telephone, card and account numbers."""
    return _NUMBER.sub("[number]", _MAIL.sub("[address]", text))


def escaped(text: str, most: int) -> str:
    """As Slack wants the text of others: its three characters escaped, nothing invisible, cut to what is left of `most`."""
    seen = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
    shown = ""
    for at, sign in enumerate(seen):
        part = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(sign, sign)
        if len(shown) + len(part) > most - (at + 1 < len(seen)):
            return shown + "…"
        shown += part
    return shown


def _plain(text: str, most: int) -> PlainTextObject:
    """Slack finds no mention, link or markup in it."""
    return PlainTextObject(text=escaped(text, most) or "-", emoji=False)


def _link(delivery: Delivery, options: SlackOptions) -> str:
    if not options.console_url:
        return ""
    content = delivery.content
    parts = {"event_id": content.event_id, "task": content.task}
    url = re.sub(
        r"\{(\w+)\}", lambda found: quote(parts[found[1]].encode("utf-8", "replace"), safe=""), options.console_url
    )
    return _in_link(url) if len(url) < _URL else ""


def _in_link(url: str) -> str:
    return url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")


def _moment(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
