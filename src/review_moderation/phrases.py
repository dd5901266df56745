"""Texts of the sample day, put together from phrases written for this project (`sample_texts/`).

sample_texts/*.toml → [phrases] → samples
"""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

TEXTS = Path(__file__).with_name("sample_texts")

# How a shop with customers in many countries sees them; most write in English.
LANGUAGES: Mapping[str, float] = {
    "en": 46, "de": 10, "fr": 8, "es": 8, "it": 5, "pt": 5, "vi": 5, "id": 5, "zh": 5, "ja": 3,
}  # fmt: skip

_SLOT = re.compile(r"\{(name|n|p|code|site|phone|money)\}")


class Product(NamedTuple):
    """One product of the invented assortment."""

    id: str
    name: str
    kind: str


class Draft(NamedTuple):
    """What a customer wrote, before it becomes an event."""

    text: str
    title: str | None
    rating: int
    language: str


@lru_cache(maxsize=32)
def phrases(name: str) -> dict[str, Any]:
    """One file of phrases."""
    return tomllib.loads((TEXTS / f"{name}.toml").read_text(encoding="utf-8"))


def assortment(rng: Random) -> list[Product]:
    """All products, the most popular first; which ones are popular is dealt out anew every day."""
    names = [
        (f"{maker} {line}", kind)
        for kind, table in phrases("products").items()
        for maker in table["makers"]
        for line in table["lines"]
    ]
    rng.shuffle(names)
    return [Product(f"p-{rng.getrandbits(32):08x}", name, kind) for name, kind in names]


def honest(rng: Random, product: Product, *, clauses: int = 0) -> Draft:
    """A customer's own words in the customer's language, kind or harsh; of so many clauses where that matters."""
    language = rng.choices(list(LANGUAGES), list(LANGUAGES.values()))[0]
    words = phrases(language)
    rating = rng.choices((5, 4, 3, 2, 1), (48, 22, 10, 8, 12))[0]
    tone = "good" if rating >= 4 or (rating == 3 and rng.random() < 0.5) else "bad"
    other = "bad" if tone == "good" else "good"
    body = _clauses(rng, words, product.kind, tone, clauses or rng.choices((1, 2, 3, 4), (30, 40, 20, 10))[0])
    if rating in (2, 3, 4) and rng.random() < 0.6:
        body += _clauses(rng, words, product.kind, other, 1)
    parts = [rng.choice(words["open"][tone])] if rng.random() < 0.8 else []
    parts += body
    if rng.random() < 0.6:
        parts.append(rng.choice(words["close"][tone]))
    text = words["joiner"].join(fill(rng, part, product) for part in parts)
    title = rng.choice(words["titles"][tone]) if rng.random() < 0.4 else None
    return Draft(text, title, rating, language)


def spam(rng: Random, product: Product) -> Draft:
    """Advertising with a link, a number or a code; some of it filler."""
    words = phrases("misuse")["spam"]
    kind = rng.choices(("body", "foreign", "filler"), (70, 20, 10))[0]
    text = rng.choice(words[kind])
    if kind == "body":
        text = f"{rng.choice(words['head'])} {text}"
    return Draft(fill(rng, text, product), None, rng.choice((5, 5, 5, 1)), "en")


def abuse(rng: Random, product: Product, *, raid: bool = False) -> Draft:
    """Insults and threats in mild words; those of a raid all aim at one product's seller."""
    words = phrases("misuse")["abuse"]
    text = rng.choice(words["raid" if raid or rng.random() < 0.3 else "single"])
    if raid or rng.random() < 0.5:
        text = f"{text} {rng.choice(words['tail'])}"
    return Draft(fill(rng, text, product), None, 1, "en")


def fake(rng: Random, product: Product, *, campaign: bool = False) -> Draft:
    """Bought, invented or copied praise; that of a campaign is slogans with the product's full name."""
    words = phrases("misuse")["fake"]
    if campaign or rng.random() < 0.3:
        slogans = rng.sample(words["slogan"], rng.choice((1, 2, 3)))
        parts = [*slogans, rng.choice(words["call"])]
    else:
        parts = [rng.choice(words["paid"] if rng.random() < 0.7 else words["not_bought"])]
    text = " ".join(fill(rng, part, product) for part in parts)
    return Draft(text, None, 1 if "one star" in text else 5, "en")


def injection(rng: Random, product: Product) -> Draft:
    """An honest review with an attempt to instruct the model before, inside or after it."""
    draft = honest(rng, product)
    order = fill(rng, rng.choice(phrases("misuse")["injection"]["orders"]), product)
    text = rng.choice((f"{order} {draft.text}", f"{draft.text} {order}", f"{draft.text}\n\n{order}\n\nThanks."))
    return draft._replace(text=text)


def with_markup(rng: Random, product: Product) -> Draft:
    """An honest review that happens to look like markup."""
    draft = honest(rng, product)
    return draft._replace(text=f"{draft.text} {fill(rng, rng.choice(phrases('misuse')['odd']['markup']), product)}")


def with_control_characters(rng: Random, product: Product) -> Draft:
    """An honest review with signs in it that cannot be seen and that terminals choke on."""
    draft = honest(rng, product)
    signs = phrases("misuse")["odd"]["control"]
    text = draft.text
    for _ in range(rng.randint(3, 40)):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(signs) + text[at:]
    return draft._replace(text=text)


def fill(rng: Random, phrase: str, product: Product) -> str:
    """The phrase with its slots filled; other braces stay."""
    return _SLOT.sub(lambda slot: _SLOTS[slot[1]](rng, product), phrase)


def _clauses(rng: Random, words: Mapping[str, Any], kind: str, tone: str, number: int) -> list[str]:
    own = words["clauses"][kind][tone]
    known = [*own, *own, *words["clauses"]["generic"][tone]]
    chosen: list[str] = []
    while len(chosen) < number:
        clause = rng.choice(known)
        # A long review repeats itself in the end, a short one does not.
        if clause not in chosen or len(chosen) >= len(set(known)):
            chosen.append(clause)
    return chosen


_SLOTS: Mapping[str, Callable[[Random, Product], str]] = {
    "name": lambda _, product: product.name,
    "n": lambda rng, _: str(rng.randint(2, 14)),
    "p": lambda rng, _: str(rng.randint(10, 95)),
    "code": lambda rng, _: "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=6)),
    "site": lambda rng, _: rng.choice(phrases("misuse")["spam"]["sites"]),
    "phone": lambda rng, _: f"+1-202-555-01{rng.randint(0, 99):02d}",
    "money": lambda rng, _: str(rng.randrange(200, 9900, 50)),
}
