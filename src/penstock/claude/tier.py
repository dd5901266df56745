"""A Claude model as a tier: one attempt is compose → admit → send → read, with an outcome for every item.

cascade → [tier] → outcome
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.claude.client import ClaudeClient, ClaudeOptions
from penstock.claude.errors import Reaction, Trouble, how_to_go_on, react
from penstock.claude.expectation import Expectation
from penstock.claude.models import Model
from penstock.claude.prompt import Prompt, event_tokens, fresh_ids, most_tokens
from penstock.claude.reply import Reply, outcomes
from penstock.claude.verdicts import Verdicts
from penstock.claude.warmth import Warmth
from penstock.errors import BudgetSpent, TierStopped
from penstock.flow.base import KINDS, Cause, Clock, Estimate, Usage, Wait
from penstock.flow.gate import Gate, Permit
from penstock.outcome import Again, AgainReason, Charge, Failure, Outcome, Responder, share
from penstock.task import Task
from penstock.tier import Capacity, Held, Item

_WAITING: dict[Cause, AgainReason] = {
    "requests": "rate_limited",
    "input_tokens": "rate_limited",
    "output_tokens": "rate_limited",
    "retry_after": "rate_limited",
    "concurrency": "busy",
    "cold_cache": "busy",
    "claim": "busy",
    "spend": "spend_cap",
    "spend_cap": "spend_cap",
    "outage": "overloaded",
    "stopped": "busy",
}
_LOOK_AGAIN_SECONDS: dict[Cause, float] = {
    "requests": 1.0,
    "input_tokens": 1.0,
    "output_tokens": 1.0,
    "spend_cap": 1.0,
    "outage": 0.25,
}
"""Where nobody knows exactly until when: no use in asking all the time."""
_CUT = ("max_tokens", "model_context_window_exceeded")
_ALL_REJECTED = 3
"""So many single events rejected before anything was answered: the request is wrong, not the events."""
_RETRY_SECONDS = 1.0
_CLAIM_SECONDS = 0.02
"""Capacity was asked for an average event; this one waits for a claim of its own."""


class _Asked:
    """What this tier keeps of one task."""

    __slots__ = ("expectation", "has_answered", "prompt", "rejected", "task", "verdicts", "warmth")

    def __init__(self, task: Task[Any, Any], model: Model, options: ClaudeOptions, clock: Clock) -> None:
        self.task = task
        self.prompt = Prompt(task, model, effort=options.effort, cache_ttl=options.cache_ttl)
        self.verdicts = Verdicts(task, self.prompt.form)
        self.expectation = Expectation(
            model, self.prompt.form.size, self.prompt.tokens, thinks=model.thinks(options.effort)
        )
        self.warmth = Warmth(
            clock,
            lives_seconds=3600.0 if options.cache_ttl == "1h" else 300.0,
            is_cached=self.prompt.tokens >= model.min_cacheable_tokens,
        )
        self.has_answered = False
        self.rejected: set[tuple[str, int, int]] = set()
        """Events rejected alone before anything was answered."""


class ClaudeTier:
    """Promises: one call per `answer` at most; every item ends in one outcome; every billed nanodollar is on one."""

    reads_input = False

    def __init__(
        self, name: str, model: Model, client: ClaudeClient, gate: Gate, options: ClaudeOptions | None = None
    ) -> None:
        self.name = name
        self.model = model
        self._client = client
        self._gate = gate
        self._options = options or ClaudeOptions()
        self._asked: dict[int, _Asked] = {}
        self._responders: dict[tuple[str, str, bool], Responder] = {}
        self._replies = 0
        self._stopped = ""

    async def answer(self, task: Task[Any, Any], items: Sequence[Item]) -> list[Outcome]:
        """One attempt. Raises `TierStopped` where nothing can succeed until a person acts."""
        if self._stopped:
            raise TierStopped(self._stopped)
        if not items:
            return []
        asked = self.prepare(task)
        max_tokens = asked.expectation.max_tokens(len(items))
        permit = self._gate.admit(self._estimate(asked, items, max_tokens))
        if isinstance(permit, Wait):
            return self._held_back(permit, items)
        replies = self._replies
        asked.warmth.begin()
        try:
            ids = fresh_ids(len(items))
            request = asked.prompt.compose(items, ids, max_tokens)
            reply = await self._client.send(request, timeout_seconds=task.max_call_seconds)
        except BaseException:
            permit.unconfirmed()
            asked.warmth.end(answered=False)
            raise
        permit.hear(reply.headers)
        asked.warmth.end(answered=isinstance(reply, Reply))
        if isinstance(reply, Trouble):
            return self._failed(asked, items, permit, reply, replies)
        return self._answered(asked, items, ids, permit, reply)

    def capacity(self, task: Task[Any, Any]) -> Capacity:
        """Room for a whole batch, or why there is none: a full call makes the most of a scarce limit."""
        if self._stopped:
            return Capacity(0, cause="stopped")
        asked = self.prepare(task)
        expected = asked.expectation
        input_room, output_room = self._gate.limits.capacity(self.model.family, task.name)
        full = max(1, min(task.max_batch_items, expected.most_items(), int(output_room / expected.output_tokens(1))))
        wait: Wait | None = None
        for items in dict.fromkeys((full, max(1, full // 4), 1)):
            wait = self._gate.check(self._guess(asked, items)) or asked.warmth.check()
            if wait is None:
                tokens = min(expected.most_event_tokens(asked.prompt.tokens), max(1, int(input_room)))
                return Capacity(items, tokens=tokens)
            if wait.cause != "spend":
                break  # only the end of the money is a reason for smaller calls
        assert wait is not None
        if wait.at_ceiling == "stop":
            return Capacity(1)  # `answer` may say what ends the worker
        until, soon = wait.until, self._gate.clock() + _LOOK_AGAIN_SECONDS.get(wait.cause, 0.0)
        if wait.cause in KINDS:  # the share may have grown by then
            until = min(until or soon, soon)
        elif until is None and wait.cause in _LOOK_AGAIN_SECONDS:
            until = soon
        detail = str(self._gate.spend.reached) if wait.cause == "spend" else ""
        if wait.at_ceiling in ("cheaper", "bury"):
            return Capacity(0, 0, wait.cause, until, wait.at_ceiling, detail)
        return Capacity(0, cause=wait.cause, until=until, detail=detail)

    def explain(self, task: Task[Any, Any]) -> Held | None:
        """Why no call of this task is made now. The end of an outage is nobody's to know, only when it is tried."""
        if self.capacity(task).items:
            return None
        family, gate = self.model.family, self._gate
        told = gate.explain(family, task.name)
        if told is None:  # stopped, or a cold cache: the gate was not asked or would let it through
            return None
        if told.cause == "spend_cap":
            return Held("account_stop", gate.money.since, None, told.until, family)
        if told.cause == "outage":
            return Held("outage", told.since, None, told.until, family)
        if told.cause in KINDS and gate.limits.is_starting(family, task.name):
            return Held("slow_start", told.since, told.until, None, family)
        return Held("budget" if told.cause == "spend" else told.cause, told.since, told.until, None, family)

    def prepare(self, task: Task[Any, Any]) -> _Asked:
        """Make the prompt of a task now; raises `TaskError` where its output model cannot be asked for."""
        asked = self._asked.get(id(task))
        if asked is None:
            asked = self._asked[id(task)] = _Asked(task, self.model, self._options, self._gate.clock)
        return asked

    async def close(self) -> None:
        """The client and the gate belong to the process, not to a tier."""

    def _estimate(self, asked: _Asked, items: Sequence[Item], max_tokens: int) -> Estimate:
        return Estimate(
            self.model.family,
            asked.expectation.input_tokens(event_tokens(items)),
            asked.expectation.output_tokens(len(items)),
            self.model.worst_nanousd(most_tokens(items, asked.prompt), max_tokens),
            asked.task.name,
            self.model.id,
        )

    def _guess(self, asked: _Asked, items: int) -> Estimate:
        expected = asked.expectation
        events_tokens = int(expected.item_tokens * items)
        worst_prompt = 4 * (asked.prompt.chars + events_tokens) + 2_000
        return Estimate(
            self.model.family,
            expected.input_tokens(events_tokens),
            expected.output_tokens(items),
            self.model.worst_nanousd(worst_prompt, expected.max_tokens(items)),
            asked.task.name,
            self.model.id,
        )

    def _held_back(self, wait: Wait, items: Sequence[Item]) -> list[Outcome]:
        if wait.cause == "spend" and len(items) == 1:  # no call is smaller: what was declared for the ceiling is done
            told = str(self._gate.spend.reached)
            if wait.at_ceiling == "stop":
                raise BudgetSpent(told)
            if wait.at_ceiling == "bury" or (wait.at_ceiling == "cheaper" and items[0].standing is not None):
                return [Failure("over_budget", told)]
        return [self._waiting(wait, len(items))] * len(items)

    def _waiting(self, wait: Wait, items: int) -> Again:
        if wait.cause == "spend":  # a smaller call may fit; if none does, capacity says until when
            return Again("spend_cap", detail=f"held back: {self._gate.spend.reached}", split=items > 1)
        seconds = 0.0 if wait.until is None else max(0.0, wait.until - self._gate.clock())
        if wait.cause == "claim":
            seconds = _CLAIM_SECONDS
        return Again(_WAITING[wait.cause], seconds, f"held back: {wait.cause}")

    def _answered(
        self, asked: _Asked, items: Sequence[Item], ids: Sequence[str], permit: Permit, reply: Reply
    ) -> list[Outcome]:
        tokens = reply.tokens
        nanousd = self.model.cost_nanousd(tokens) if reply.is_billed else 0
        permit.succeeded(Usage(tokens.input + tokens.cache_write, tokens.output, nanousd))
        self._replies += 1
        asked.has_answered = True
        asked.rejected.clear()
        if reply.is_billed:
            asked.expectation.learn(len(items), event_tokens(items), tokens, cut=reply.stop_reason in _CUT)
        by = self._responder(reply, asked.prompt.version)
        charges = _charges(items, reply, nanousd)
        return outcomes(asked.task, asked.verdicts, items, ids, reply, by, charges)

    def _failed(
        self, asked: _Asked, items: Sequence[Item], permit: Permit, trouble: Trouble, replies: int
    ) -> list[Outcome]:
        reaction = react(trouble)
        _close(permit, reaction)
        if reaction.action == "stop":
            self._stop(how_to_go_on(trouble, self.model.id))
        if reaction.action == "pause":
            self._gate.pause(reaction.after_seconds or 0.0)
        if reaction.action == "split":
            return self._rejected(asked, items, trouble, reaction)
        # An error counts against an item only if the API answered others meanwhile; otherwise it is weather.
        answers_others = self._replies > replies
        is_ours = reaction.reason in {"server_error", "timed_out", "unreachable"}
        after = reaction.after_seconds
        again = Again(
            reaction.reason,
            after if after is not None else _RETRY_SECONDS,
            reaction.detail,
            split=len(items) > 1 and answers_others and reaction.reason in {"server_error", "timed_out"},
            counts=answers_others if is_ours else None,
        )
        return [again] * len(items)

    def _rejected(self, asked: _Asked, items: Sequence[Item], trouble: Trouble, reaction: Reaction) -> list[Outcome]:
        if len(items) > 1:
            return [Again("rejected", detail=reaction.detail, split=True)] * len(items)
        if asked.has_answered or reaction.buried == "too_large":
            return [Failure(reaction.buried, reaction.detail)]
        record = items[0].record
        asked.rejected.add((record.topic, record.partition, record.offset))
        if len(asked.rejected) >= _ALL_REJECTED:
            self._stop(how_to_go_on(trouble, self.model.id))
        return [Again("rejected", _RETRY_SECONDS, reaction.detail)]

    def _stop(self, text: str) -> None:
        self._stopped = f"tier {self.name!r}: {text}"
        raise TierStopped(self._stopped)

    def _responder(self, reply: Reply, version: str) -> Responder:
        key = (reply.model, version, reply.simulated)
        by = self._responders.get(key)
        if by is None:
            by = self._responders[key] = Responder(self.name, reply.model, version, reply.simulated)
        return by


def _close(permit: Permit, reaction: Reaction) -> None:
    if reaction.may_be_billed:
        permit.unconfirmed(outage=reaction.is_outage)
    elif reaction.reason == "rate_limited":
        permit.refused(reaction.after_seconds, grows_too_fast=reaction.grows_too_fast)
    elif reaction.reason == "overloaded":
        permit.dropped(reaction.after_seconds)
    else:
        permit.ignored(outage=reaction.is_outage)


def _charges(items: Sequence[Item], reply: Reply, nanousd: int) -> Sequence[Charge | None]:
    """The call's bill and tokens, divided by the items' lengths: the parts add up exactly."""
    if not reply.is_billed:
        return [None] * len(items)
    tokens, weights = reply.tokens, [item.tokens for item in items]
    parts = (nanousd, tokens.input, tokens.cache_write, tokens.cache_read, tokens.output)
    nothing = [0] * len(items)
    columns = [share(part, weights) if part else nothing for part in parts]
    head = (reply.call_id, reply.model)
    # Made for every event, and so without the detour over a named tuple's own `__new__`.
    return [_new(Charge, head + column) for column in zip(*columns, strict=True)]


_new = tuple.__new__
