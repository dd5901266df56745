"""What goes in and what comes out: a review, its moderation, its analysis.

decode → [Review] → claude → [Moderation, Analysis] → results
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from penstock import Erase
from review_moderation.policy import Decision, Policy

Id = Annotated[str, Field(min_length=1, max_length=200, coerce_numbers_to_str=True)]

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})


class Review(BaseModel):
    """A review as shops send it. Fields that are not listed are ignored; only a review id and a text are asked for."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event_id: Annotated[str, Field(max_length=200, coerce_numbers_to_str=True)] = ""
    """Names this event: the same id again is a redelivery, an edit has an id of its own. Else `ce_id` names it."""
    review_id: Id
    """Names the review, the same for all its events: what is deleted is everything under it."""
    kind: str = "created"
    """`created`, `edited` or `deleted`: a deletion wants no answer, and what was said of the review goes with it."""
    product_id: Annotated[str, Field(max_length=200, coerce_numbers_to_str=True)] | None = None
    user_id: Annotated[str, Field(max_length=200, coerce_numbers_to_str=True)] | None = None
    """Never shown to the model."""
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    title: str | None = None
    text: str
    language: str | None = None
    """What the shop believes; a hint, often the shop's locale."""
    created_at: str | int | float | None = None
    """As the producer writes it. Nothing is decided by it, so that an odd date never stops a review."""

    @field_validator("kind")
    @classmethod
    def _is_there(cls, kind: str, read: ValidationInfo) -> str:
        # A deletion may come without the text; one that does not say of which review is no event at all.
        if kind == "deleted" and "review_id" in read.data:
            raise Erase("deleted review", subject=read.data["review_id"])
        return kind

    @field_validator("text")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.isascii() or not text.isprintable():
            blank = all(char.isspace() or unicodedata.category(char) in _INVISIBLE for char in text)
        else:
            blank = not text.strip()
        if blank:
            raise PydanticCustomError("empty_text", "is empty")
        return text


class Moderation(BaseModel):
    """What happens to a review. A clean one says no more than `publish`."""

    decision: Decision = Field(
        description="What happens to the review: publish it, hold it for a person, or reject it",
    )
    violations: list[str] = Field(default=[], description="Ids of the clauses it violates, the gravest first")
    evidence: str = Field(
        default="",
        description="Where not publish: the shortest verbatim quote of the review that shows the gravest violation",
    )
    reason: str = Field(default="", description="Where not publish: why, in at most 15 English words")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """A clean review is published, and nothing else is; whatever is held back is backed by clause, quote, reason."""
        if self.decision == "publish":
            if self.violations:
                raise ValueError("publish and violations contradict each other")
            return self
        for name in ("violations", "evidence", "reason"):
            if not getattr(self, name):
                raise ValueError(f"{self.decision} needs {name}")
        return self


def moderation_under(policy: Policy) -> type[Moderation]:
    """The output model whose violations can only be clauses of this policy."""
    clause_id: Any = Literal[policy.clause_ids]
    described: Any = Field(default=[], description=Moderation.model_fields["violations"].description)
    return create_model("Moderation", __base__=Moderation, __module__=__name__, violations=(list[clause_id], described))


class Analysis(BaseModel):
    """What a review says about the product."""

    sentiment: Literal["positive", "negative", "mixed", "neutral"] = Field(
        description="Of the writer towards the product",
    )
    aspects: list[str] = Field(
        default=[],
        description="Up to 5 things praised (+) or criticised (-), in English: +battery, -delivery",
    )
    summary: str = Field(description="One line, at most 15 English words, without names of persons")
    language: str = Field(description="BCP 47 tag of the review's main language, und if there is none: en, pt-BR, zh")

    @field_validator("summary")
    @classmethod
    def _is_one_line(cls, summary: str) -> str:
        line = " ".join(summary.split())
        if not line:
            raise ValueError("summary is empty")
        return line

    @field_validator("language")
    @classmethod
    def _is_a_tag(cls, language: str) -> str:
        if not _LANGUAGE.fullmatch(language):
            raise ValueError("language is no BCP 47 tag such as en or pt-BR")
        first, *rest = language.split("-")
        return "-".join([first.lower(), *(part.upper() if len(part) == 2 else part for part in rest)])


def find_quote(quote: str, *texts: str | None) -> str | None:
    """The span of one of the texts that the quote repeats, as it is written there; None if there is none.

    Letters, case and punctuation must agree. Blanks, line ends and signs that cannot be seen may differ: a model is
    shown the text without control characters and does not copy zero-width ones.
    """
    for text in texts:
        if text and quote in text:
            return quote
    wanted = "".join(_visible(quote)[0])
    if not wanted:
        return None
    for text in filter(None, texts):
        signs, places = _visible(text)
        at = "".join(signs).find(wanted)
        if at >= 0:
            return text[places[at] : places[at + len(wanted) - 1] + 1]
    return None


def _visible(text: str) -> tuple[list[str], list[int]]:
    """Signs that can be seen, each run of blanks as one, and where each stood."""
    signs: list[str] = []
    places: list[int] = []
    gap = False
    for place, char in enumerate(text):
        if char.isspace():
            gap = True
        elif unicodedata.category(char) not in _INVISIBLE:
            if gap and signs:
                signs.append(" ")
                places.append(place)
            gap = False
            signs.append(char)
            places.append(place)
    return signs, places
