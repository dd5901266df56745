"""Sessions of an app tagged with what the visitor wanted and what stood in the way. Try it:
penstock try behaviour_tagging:tagger '{"session_id": "s1", "visitor": "v1", "steps": [{"page": "/search", "seconds": 40, "query": "refund"}]}'
"""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from penstock import Route, Skip, Task

MOST_STEPS = 40


class Move(BaseModel):
    page: str
    seconds: float = Field(default=0, ge=0)
    query: str = ""
    failed: str = ""


class Session(BaseModel):
    """What the sessioniser publishes on `sessions` when a visit is over."""

    session_id: str
    visitor: str
    steps: list[Move]

    @field_validator("steps")
    @classmethod
    def _is_a_visit(cls, steps: list[Move]) -> list[Move]:
        """A single glance tells nothing: it is counted and passed, and costs nothing."""
        if len(steps) < 2:
            raise Skip("a visit of one page")
        return steps


class Tags(BaseModel):
    intent: Literal["buy", "compare", "support", "account", "browse", "automated"] = Field(
        description="automated: no person moves so fast or so evenly"
    )
    obstacle: Literal["none", "not_found", "price", "error", "form", "delivery"] = "none"
    outcome: Literal["reached", "gave_up", "open"]


def as_lines(session: Session) -> Any:
    """Short, and without what names a person: addresses keep their path only."""
    steps = session.steps[-MOST_STEPS:]
    return [" ".join(filter(None, [s.page.partition("?")[0], f"{s.seconds:.0f}s", s.query, s.failed])) for s in steps]


tagger = Task(
    "behaviour-tagging",
    reads="sessions",
    writes="sessions-tagged",
    input=Session,
    output=Tags,
    instructions="""\
You tag visits to an online shop. Each event is a list of steps: path, seconds spent, what was searched for, what failed.
intent is what the visitor came for, by the whole of the visit and not by its last step. obstacle is what stopped them, if anything did.
outcome: reached what they came for, gave_up, or open where the visit does not say.""",
    event_id="session_id",
    subject="visitor",  # who asks to be forgotten is erased as a whole
    render=as_lines,
    weight=0.5,  # fraud and moderation go first where limits bind
    route=Route("haiku"),
)
