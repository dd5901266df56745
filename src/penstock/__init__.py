"""Penstock: a Claude task over every event of a topic. This package root holds the words only; see DESIGN.md."""

from penstock.deadletters.letter import Letter
from penstock.erasure import Erasure
from penstock.errors import Erase, PenstockError, SinkAway, Skip, TaskError, UserError
from penstock.outcome import Again, Answer, Charge, Confidence, Deferred, Failure, Outcome, Responder
from penstock.record import NewRecord, Partition, Position, Record
from penstock.sinks.base import Delivery, Refused, Result, Sink, SinkOptions
from penstock.task import Route, Step, Task
from penstock.tier import Capacity, Item, Tier

__all__ = [
    "Again",
    "Answer",
    "Capacity",
    "Charge",
    "Confidence",
    "Deferred",
    "Delivery",
    "Erase",
    "Erasure",
    "Failure",
    "Item",
    "Letter",
    "NewRecord",
    "Outcome",
    "Partition",
    "PenstockError",
    "Position",
    "Record",
    "Refused",
    "Responder",
    "Result",
    "Route",
    "Sink",
    "SinkAway",
    "SinkOptions",
    "Skip",
    "Step",
    "Task",
    "TaskError",
    "Tier",
    "UserError",
]
__version__ = "0.1.0"
