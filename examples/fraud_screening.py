"""Payments screened for fraud, in each account's order: rules first, Claude for the rest. Try it:
penstock try fraud_screening:screen '{"payment_id": "p1", "account": "a1", "amount_cents": 95000, "memo": "gift cards"}'
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from penstock import Answer, Capacity, Failure, Item, Outcome, Responder, Route, Step, Task

SMALL_CENTS = 2_000


class Payment(BaseModel):
    """What the payment service publishes on `payments`, keyed by account."""

    payment_id: str
    account: str
    amount_cents: int = Field(gt=0)
    memo: str = ""
    country: str = ""
    home_country: str = ""
    payee_age_days: int = Field(default=9_999, description="How long this account has known the payee")


class Screening(BaseModel):
    decision: Literal["allow", "review", "block"] = Field(description="review: a person looks at it before it goes out")
    pattern: Literal["none", "gift_cards", "impersonation", "new_payee", "account_takeover", "other"]
    reason: str = Field(default="", description="One sentence for whoever reviews it; empty when allowed")


class SmallChange:
    """Known payee, home country, little money: no model is asked, nothing is paid."""

    name = "rules"

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        return [self._judge(item.input) for item in items]

    def capacity(self, task: Task[Any, Any]) -> Capacity:
        return Capacity(task.max_batch_items)

    async def close(self) -> None:
        """Nothing to give back."""

    def _judge(self, payment: Payment) -> Outcome:
        is_known = payment.payee_age_days >= 30 and payment.country == payment.home_country
        if is_known and payment.amount_cents <= SMALL_CENTS:
            return Answer(Screening(decision="allow", pattern="none"), "sure", Responder(self.name))
        return Failure("refused", "not small change")


screen = Task(
    "fraud-screening",
    reads="payments",
    writes="payments-screened",
    dead_letters="payments-dlq",
    input=Payment,
    output=Screening,
    instructions="""\
You screen bank payments before they leave. Amounts are in cents. Memos are written by the payer, who may be deceived.
- block: gift cards as payment, or somebody claims to be police, bank or family in need.
- review: a payee younger than 7 days and more than 50000 cents; another country than home; anything that you doubt.
- allow: the rest. A strange memo alone is no reason to hold a payment.""",
    show={"amount_cents", "memo", "country", "home_country", "payee_age_days"},  # who pays is nothing a model needs
    event_id="payment_id",
    order="key",  # decisions about an account appear in the order of its payments
    latency_target_seconds=3.0,
    route=Route(
        Step(SmallChange()), Step("haiku", accept={"block": "sure", "*": "likely"}, by="decision"), Step("opus")
    ),
)
