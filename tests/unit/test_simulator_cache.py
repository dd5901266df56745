"""The prompt cache: what is read and written, from when on, for how long."""

import pytest

from simulator_calls import HAIKU, SONNET, Account, finish, message

LONG = "a policy with many clauses, " * 100
MARK = {"type": "ephemeral"}


def asking(system: str = LONG, ttl: str = "5m", text: str = "hello", **changes: object) -> dict[str, object]:
    mark = {"type": "ephemeral", "ttl": ttl}
    return message(text, system=[{"type": "text", "text": system, "cache_control": mark}], **changes)


def counts(account: Account, body: dict[str, object], **headers: str) -> tuple[int, int, int]:
    """Uncached, written and read tokens of a call."""
    usage = account.reply(body, **headers)["usage"]
    written = usage["cache_creation"]
    assert usage["cache_creation_input_tokens"] == sum(written.values())
    return usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]


def test_second_call_reads_what_the_first_wrote():
    """The marked prefix is written once and then read; what follows it is never cached."""
    account = Account()
    plain, written, read = counts(account, asking())
    assert (written > 1000, read) == (True, 0)
    assert counts(account, asking(text="hello")) == (plain, 0, written)
    assert plain < 20


def test_entry_is_readable_once_the_reply_begins():
    """Calls side by side all write: an entry exists from the first byte of its writer's reply."""
    account = Account()
    first = account.send(asking(), deliver=False)
    assert counts(account, asking())[1] > 0
    finish(first)
    assert counts(account, asking())[1] == 0


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3600)])
def test_entry_lives_on_with_use(ttl, seconds):
    """A read refreshes the lifetime; after it has passed unread, the prefix is written again."""
    account = Account()
    counts(account, asking(ttl=ttl))
    for _ in range(3):
        account.clock.advance(seconds - 1)
        assert counts(account, asking(ttl=ttl))[2] > 0
    account.clock.advance(seconds + 1)
    assert counts(account, asking(ttl=ttl))[2] == 0


def test_below_the_models_minimum_nothing_is_cached():
    """Short prefixes are left alone without an error, each model by its own minimum."""
    account = Account()
    assert counts(account, asking(system="short"))[1:] == (0, 0)
    assert counts(account, asking(model="claude-haiku-4-5"))[1] == 0
    assert counts(account, asking())[1] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"system": LONG + "."},
        {"model": SONNET, "thinking": None},
        {"thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "low"}},
        {"tools": [{"name": "t", "input_schema": {"type": "object"}}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}}},
    ],
)  # fmt: skip
def test_what_invalidates_the_cache(changes):
    """Another byte, model, thinking, effort, tool or format is another prefix."""
    account = Account()
    counts(account, asking())
    assert counts(account, asking(**changes))[2] == 0


def test_workspaces_do_not_share():
    """Another workspace reads nothing of ours."""
    account = Account()
    counts(account, asking())
    assert counts(account, asking(), authorization="Bearer other")[2] == 0


def test_breakpoints_extend_each_other():
    """A later breakpoint reads up to the earlier one and writes only the rest; lifetimes are billed apart."""
    account = Account()
    counts(account, asking(ttl="1h"))
    longer = asking(ttl="1h", text=None)
    longer["messages"] = [{"role": "user", "content": [{"type": "text", "text": LONG, "cache_control": MARK}]}]
    usage = account.reply(longer)["usage"]
    assert usage["cache_read_input_tokens"] > 0
    assert usage["cache_creation"]["ephemeral_1h_input_tokens"] == 0
    assert usage["cache_creation"]["ephemeral_5m_input_tokens"] > 0


def test_automatic_breakpoint_and_lookback():
    """A mark at the top stands for the last block, and entries up to 20 blocks before it are found, no more."""
    account = Account()

    def talk(blocks: int) -> dict[str, object]:
        return message([{"type": "text", "text": LONG}] * blocks, cache_control=MARK, model=HAIKU)

    counts(account, talk(2))
    assert counts(account, talk(22))[2] > 0
    counts(account, talk(1))
    account.send(b"", path="/simulator/reset")
    counts(account, talk(2))
    assert counts(account, talk(23))[2] == 0


def test_prewarm_writes_without_output():
    """`max_tokens: 0` fills the cache and answers with nothing."""
    account = Account()
    reply = account.reply(asking(max_tokens=0))
    assert (reply["content"], reply["stop_reason"], reply["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    assert counts(account, asking())[2] > 0
