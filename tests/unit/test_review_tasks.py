"""The shipped tasks as users find them: topics, route, hooks, and what the model may see."""

import subprocess
import sys

import pytest

from penstock import Task
from review_moderation import Moderation, Review, analyzer, moderator
from review_moderation.moderator import quotes_the_review, tidy

REVIEW = Review(review_id="r", title="Avoid", text="The seller is a\u200b clown.\nNever again.")


def held(evidence: str, **fields: object) -> Moderation:
    return moderator.output.model_validate(
        {"decision": "reject", "violations": ["abuse.insult"], "evidence": evidence, "reason": "insult", **fields}
    )


@pytest.mark.parametrize("task", [moderator, analyzer])
def test_both_read_the_same_events_in_groups_of_their_own(task: Task) -> None:
    """Each at its own pace, on the topics that the demo and the docs name, and no user id is ever shown."""
    assert (task.reads, task.writes, task.dead_letters) == ("review-events", "review-ai-results", "review-dlq")
    assert task.name in ("review-moderator", "review-analyzer")
    assert task.show == {"title", "text", "rating"}
    assert moderator.group != analyzer.group


@pytest.mark.parametrize(
    ("step", "decision", "confidence", "stands"),
    [
        (0, "publish", "likely", True),
        (0, "publish", "unsure", False),
        (0, "reject", "likely", False),
        (0, "hold", "likely", False),
        (0, "reject", "sure", True),
        (1, "reject", "likely", True),
        (1, "publish", "unsure", False),
        (2, "reject", "unsure", True),
    ],
)
def test_silencing_a_customer_needs_more_certainty(step: int, decision: str, confidence: str, stands: bool) -> None:
    """A cheap model may publish when it is likely right, and hold back only when it is sure."""
    fields = {} if decision == "publish" else {"decision": decision}
    output = moderator.output(decision="publish") if not fields else held("x", **fields)
    assert moderator.route.steps[step].accepts(output, confidence) is stands


@pytest.mark.parametrize("evidence", ["is a clown.", "Never again", "clown. Never", "Avoid"])
def test_evidence_is_given_back_as_the_review_has_it(evidence: str) -> None:
    """Whatever the model saw of invisible signs and line ends: the published quote is a substring."""
    quotes_the_review(REVIEW, held(evidence))
    quote = tidy(REVIEW, held(evidence)).evidence
    assert quote in REVIEW.text or quote in (REVIEW.title or "")
    assert quote.split()[0].startswith(evidence.split(maxsplit=1)[0])


@pytest.mark.parametrize("evidence", ["is an idiot", "IS A CLOWN", "clown Never"])
def test_evidence_that_is_not_in_the_review_is_refused(evidence: str) -> None:
    """A made-up quote sends the item back to be asked again."""
    with pytest.raises(ValueError, match="no verbatim quote"):
        quotes_the_review(REVIEW, held(evidence))


def test_a_published_review_carries_no_accusation() -> None:
    """What a model wrote beside a clean verdict is dropped, not paid for again."""
    clean = moderator.output(decision="publish", evidence="made up", reason="none")
    quotes_the_review(REVIEW, clean)
    assert tidy(REVIEW, clean) == moderator.output(decision="publish")


def test_importing_the_application_loads_nothing_heavy() -> None:
    """The command line imports it to find a task: no SDK, no Kafka, no web."""
    heavy = "anthropic confluent_kafka aiohttp uvloop typer rich"
    code = f"import sys, review_moderation; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
