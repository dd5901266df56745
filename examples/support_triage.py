"""Support tickets to a team, an urgency and a first reply. Try it: penstock try support_triage:triage "I was charged twice" """

from typing import Literal

from pydantic import BaseModel, Field

from penstock import Route, Step, Task


class Ticket(BaseModel):
    """What the help desk publishes on `tickets`; fields that are not listed are ignored."""

    id: str
    customer: str = ""
    subject: str = ""
    body: str = Field(min_length=1)


class Triage(BaseModel):
    """What Claude decides. Descriptions are read by the model, so that they are the place for fine points."""

    team: Literal["billing", "technical", "shipping", "account", "other"] = Field(
        description="Who can solve it; where two could, the one that must act first"
    )
    urgency: Literal["now", "today", "week"] = Field(
        description="now: money, data or access is being lost; today: the customer is stuck; week: the rest"
    )
    reply: str = Field(default="", description="One friendly line in the ticket's language; empty for spam")


def one_line(_: Ticket, triage: Triage) -> None:
    """A reply that does not fit is asked for again."""
    if "\n" in triage.reply or len(triage.reply) > 300:
        raise ValueError("reply must be one line of at most 300 characters")


triage = Task(
    "support-triage",
    reads="tickets",
    writes="tickets-triaged",
    dead_letters="tickets-dlq",
    input=Ticket,
    output=Triage,
    instructions="""\
You sort the tickets of an online shop's help desk.
- billing: invoices, payments, refunds. technical: site or app does not work. shipping: parcels on their way.
- account: login, password, personal data. other: everything else, spam too.
The reply promises nothing: it says that the right team has the ticket and, where one fact is missing, asks for it.""",
    show={"subject", "body"},  # the customer's name is nothing a model needs
    order="key",  # a customer's tickets are answered in the order in which they came
    route=Route(Step("haiku", accept={"now": "sure", "*": "likely"}, by="urgency"), Step("sonnet")),
    validate=one_line,
)
