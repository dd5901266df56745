"""Invoices as plain text to checked fields. Try it:
penstock try document_extraction:invoices '{"document_id": "d1", "text": "Invoice 17, 2 lamps at 10.50 EUR, total 21.00 EUR"}'
"""

from datetime import date
from decimal import Decimal

from pydantic import BaseModel, Field, field_validator

from penstock import Route, Skip, Step, Task


class Document(BaseModel):
    """What the scanner publishes on `documents`."""

    document_id: str
    kind: str = "invoice"
    language: str = ""
    text: str = Field(min_length=10)

    @field_validator("kind")
    @classmethod
    def _is_invoice(cls, kind: str) -> str:
        """Contracts and letters are counted and passed: they cost nothing."""
        if kind != "invoice":
            raise Skip(f"a {kind[:40]} is no invoice")
        return kind


class Line(BaseModel):
    description: str
    quantity: float = 1
    amount: float = Field(description="Of the whole line, without currency")


class Invoice(BaseModel):
    number: str = Field(default="", description="As printed; empty where none is")
    issued: str = Field(default="", description="YYYY-MM-DD; empty where none is printed")
    currency: str = Field(default="", description="Three letters, e.g. EUR")
    lines: list[Line] = []
    total: float = Field(description="As printed, not added up")


def adds_up(document: Document, invoice: Invoice) -> None:
    """What was misread is asked again, of a larger model in the end, and is a dead letter rather than a wrong booking."""
    added = sum(Decimal(str(line.amount)) for line in invoice.lines)
    if invoice.lines and abs(added - Decimal(str(invoice.total))) > Decimal("0.01"):
        raise ValueError("lines do not add up to the total")
    if invoice.number and invoice.number not in document.text:
        raise ValueError("number is not in the document")
    if invoice.issued:
        date.fromisoformat(invoice.issued)


invoices = Task(
    "invoice-extraction",
    reads="documents",
    input=Document,
    output=Invoice,
    instructions="""\
You read invoices of any language as plain text and return their fields. Copy what is printed; never guess, never convert.
Discounts and shipping are lines of their own, a discount with a negative amount. Taxes are a line where the total includes them.""",
    show={"text"},
    event_id="document_id",
    validate=adds_up,
    max_batch_items=8,  # long events: few to a call, so that one does not disturb another
    max_event_tokens=12_000,
    route=Route(Step("haiku", accept="sure"), Step("sonnet")),
)
