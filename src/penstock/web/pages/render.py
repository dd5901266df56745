"""Templates to pages: what they may call, and the headers that every page has.

pages → [render] → browser
"""

from __future__ import annotations

import hashlib
import math
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, Undefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from penstock.ops.groups import duration
from penstock.web.pages.keyboard import KEYS, table
from penstock.web.pages.text import MOST_CHARS, UNKNOWN, one_page, plain, visible

PLACE = Path(__file__).parents[1]
STATIC = PLACE / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    # The login must be able to tell that its own page sent it: `no-referrer` would make the origin of a form `null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
COLOURS = 8


class Absent(Undefined):
    """A field that is not there is `unknown`, never an error."""

    def __str__(self) -> str:
        return UNKNOWN

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


def page(name: str, status: int = 200, **given: Any) -> HTMLResponse:
    """A rendered template."""
    with one_page():
        made = _environment().get_template(name).render(**given)
    return HTMLResponse(made.encode("utf-8", "replace"), status, headers=HEADERS)


def coded(text: Any) -> Markup:
    """What stands between backquotes is to be typed."""
    parts = str(text).split("`")
    made = [
        Markup("<code>{}</code>").format(visible(part)) if n % 2 else visible(part) if part else Markup()
        for n, part in enumerate(parts)
    ]
    return Markup().join(made)


def quoted(text: Any, quotes: Any = ()) -> Markup:
    """With the places marked that a verdict quotes."""
    text = str(text)[:MOST_CHARS]
    sought = sorted(filter(None, quotes), key=len, reverse=True)
    made: list[Markup] = []
    at_place = 0
    for found in re.finditer("|".join(map(re.escape, sought)), text) if sought else ():
        if found.start() > at_place:
            made.append(visible(text[at_place : found.start()]))
        made.append(Markup("<mark>{}</mark>").format(visible(found[0])))
        at_place = found.end()
    if at_place < len(text) or not made:
        made.append(visible(text[at_place:]))
    return Markup().join(made)


def at(moment: Any, *, with_date: bool = False) -> Markup:
    """A time in UTC, the day where it is not today's; hovering tells all of it."""
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC) if moment > 0 else None
    if not isinstance(moment, datetime):
        return visible(None)
    moment = moment.astimezone(UTC)
    now = datetime.now(UTC)
    form = "%Y-%m-%d %H:%M:%S" if with_date or moment.year != now.year else "%m-%d %H:%M:%S"
    if moment.date() == now.date() and not with_date:
        form = "%H:%M:%S"
    whole = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), whole, f"{moment:{form}}")


def ago(moment: Any, now: datetime | None = None) -> str:
    """How long since then."""
    if not isinstance(moment, datetime):
        return UNKNOWN
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return duration(seconds) if seconds >= 0 else f"in {duration(-seconds)}"


def usd(amount: Any) -> str:
    """Dollars, so that small ones are still something."""
    if not isinstance(amount, int | float):
        return UNKNOWN
    if amount == 0:
        return "$0"
    if amount >= 0.01:
        return f"${amount:,.2f}" if amount >= 1 else f"${amount:.3f}"
    amount = float(f"{amount:.1e}")  # 0.00000996 is 0.000010
    digits = min(9, 1 - math.floor(math.log10(abs(amount))))
    return f"${amount:.{digits}f}"


def nanousd(amount: Any) -> str:
    """Billionths of a dollar."""
    return usd(amount / 1e9) if isinstance(amount, int) else UNKNOWN


def number(value: Any) -> str:
    """With separators."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else UNKNOWN


def colour(label: Any, order: Any = ()) -> str:
    """The class of a label: its place among the values of its field, the same on every page."""
    if label is None:
        return "c-none"
    known = list(order or ())
    if label in known:
        return f"c{known.index(label) % COLOURS}"
    return f"c{hashlib.blake2b(str(label).encode('utf-8', 'replace'), digest_size=2).digest()[0] % COLOURS}"


def event_url(event_id: Any, task: Any = "") -> str:
    """The address of an event's page; `console_url` of the Slack sink has this form."""
    given = {"task": task, "event_id": event_id} if task else {"event_id": event_id}
    return f"/console/event?{urlencode(given, errors='replace')}"


def letter_url(letter_id: Any) -> str:
    """The address of a dead letter's page."""
    return f"/console/letter?{urlencode({'id': letter_id}, errors='replace')}"


def in_address(given: Any) -> str:
    """A value, or names and values, for the query of an address."""
    return (
        urlencode(given, errors="replace") if isinstance(given, dict) else quote(str(given), safe="", errors="replace")
    )


def asset(name: str) -> str:
    """The address of a static file; another content is another address."""
    return f"/console/static/{name}?{_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(PLACE / "templates"),
        autoescape=True,
        undefined=Absent,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "visible": visible,
        "plain": plain,
        "coded": coded,
        "quoted": quoted,
        "at": at,
        "ago": ago,
        "urlencode": in_address,
        "usd": usd,
        "nanousd": nanousd,
        "number": number,
        "duration": lambda seconds: duration(seconds) if isinstance(seconds, int | float) else UNKNOWN,
    }
    made.globals |= {
        "asset": asset,
        "colour": colour,
        "event_url": event_url,
        "letter_url": letter_url,
        "keys": KEYS,
        "key_table": table(),
        "escape": escape,
    }
    return made
