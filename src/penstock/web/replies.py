"""What the gateway answers, as the OpenAPI document has it.

gateway → [replies] → the caller
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

State = Literal["accepted", "answered", "dead_letter", "erased"]


class ProblemReply(BaseModel):
    """A refusal (RFC 9457). `detail` says what to do and never repeats the event."""

    type: str = Field(description="Stable: urn:penstock:problem:…")
    title: str
    status: int
    detail: str


class Accepted(BaseModel):
    """The event is in the log."""

    id: str = Field(description="Ask for it with GET")
    topic: str
    state: Literal["accepted"] = "accepted"
    repeated: bool = Field(description="The same event was accepted before; it was not written again")


class BatchItem(BaseModel):
    """One event of a batch, at the same index."""

    index: int = Field(ge=0)
    state: Literal["accepted", "refused"]
    id: str | None = Field(None, description="Where accepted")
    repeated: bool | None = Field(None, description="Where accepted")
    problem: ProblemReply | None = Field(None, description="Where refused")


class Stopped(BaseModel):
    """Why a stream of lines was read no further: send it again from this event on."""

    index: int = Field(ge=0, description="Of the first event of which nothing is known; empty lines do not count")
    problem: ProblemReply


class BatchReply(BaseModel):
    """What became of each event of a batch."""

    topic: str
    accepted: int = Field(ge=0)
    repeated: int = Field(ge=0, description="Of the accepted ones")
    refused: int = Field(ge=0)
    stopped: Stopped | None = Field(None, description="Where a stream of lines was not read to its end")
    items: list[BatchItem]


class RefusedBatch(ProblemReply):
    """No event of the batch was accepted."""

    items: list[BatchItem]


class TaskState(BaseModel):
    """What one task made of the event."""

    state: Literal["waiting", "answered", "provisional", "dead_letter", "erased"]
    at: int | None = Field(None, description="When it was committed: Unix time in milliseconds")
    result: dict[str, Any] | None = Field(None, description="Where answered or provisional; `output` is the task's own")
    dead_letter: dict[str, Any] | None = Field(None, description="Where no answer could be had: `reason`, `detail` …")


class EventReply(BaseModel):
    """What is known of an event."""

    id: str
    topic: str
    state: State = Field(description="`accepted` until every task has ended it; then the worst of their states")
    tasks: dict[str, TaskState]
