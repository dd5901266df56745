"""API keys: shown once, kept as hashes, listed without secrets, and read only where they are right."""

from __future__ import annotations

import stat
import tomllib

import pytest

from cli_calls import cli_in
from penstock.errors import SettingsError
from penstock.web.keys import Keys, add_key, new_key, read_keys
from penstock.web.problems import Problem


def test_the_file_holds_no_key(tmp_path):
    """What is shown once stands nowhere; the file is for its owner only."""
    file = tmp_path / "keys.toml"
    made, shown = new_key("shop", ["events:write"], days=1, events_per_second=2.5)
    add_key(file, made)
    assert shown.split("_", 2)[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_keys(file) == [made]
    assert Keys(file).client(f"bearer {shown}", "events:write") == made


def test_nearly_right_is_wrong(tmp_path):
    """Another secret under the same id, another case, another scheme: all the same 401."""
    file = tmp_path / "keys.toml"
    (made, shown), (_, other) = new_key("shop", ["events:read"]), new_key("shop", ["events:read"])
    add_key(file, made)
    keys = Keys(file)
    mixed = "_".join([*shown.split("_", 2)[:2], other.split("_", 2)[2]])
    said = set()
    for given in (
        f"Bearer {mixed}",
        f"Bearer {shown.upper()}",
        f"Basic {shown}",
        f"Bearer {other}",
        f"Bearer {shown}x",
    ):
        with pytest.raises(Problem) as refused:
            keys.client(given, "events:read")
        said.add((refused.value.status, refused.value.detail))
    assert len(said) == 1
    assert said.pop()[0] == 401


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("key = [", "TOML"),
        ('[[key]]\nid = "a"', "make it again"),
        ('[[key]]\nid="a"\nname="b"\nsha256="c"\nscopes=["all"]', "scopes"),
        ('[[key]]\nid="a"\nname="b"\nsha256="c"\nscopes=[]\nexpires=2030-01-01T00:00:00', "expires"),
        ('[[key]]\nid="a"\nname="b"\nsha256="c"\nscopes=[]\nevents_per_second=0', "events_per_second"),
    ],
)
def test_a_broken_file_is_told_and_left_alone(tmp_path, text, named):
    """The text names the file and what is wrong; nothing is added to what cannot be read."""
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=named):
        add_key(file, new_key("shop", ["events:read"])[0])
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("name", "scopes"), [("a b", ["events:read"]), ("", ["events:read"]), ("a", ["all"]), ("a", [])]
)
def test_what_can_be_no_key(name, scopes):
    """Names go into headers of records, scopes are two."""
    with pytest.raises(SettingsError):
        new_key(name, scopes)


def test_the_command_makes_and_lists_keys(tmp_path):
    """The key goes to stdout, alone; the list knows everything but the key."""
    with cli_in(tmp_path) as cli:
        shown = cli.done("gateway", "key", "--name", "shop", "--scope", "events:write", "--rate", "50").strip()
        (told,) = cli.lines("gateway", "key", "--name", "shop", "--days", "30", "--json")
        listed = cli.lines("gateway", "keys", "--json")
        assert [(one["name"], one["scopes"], one["events_per_second"]) for one in listed] == [
            ("shop", ["events:write"], 50.0),
            ("shop", ["events:read", "events:write"], None),
        ]
        assert "shop" in cli.done("gateway", "keys")
        keys = Keys(tmp_path / "penstock-keys.toml")
        assert keys.client(f"Bearer {shown}", "events:write").name == "shop"
        assert keys.client(f"Bearer {told['key']}", "events:read").name == "shop"
        blocks = tomllib.loads((tmp_path / "penstock-keys.toml").read_text())["key"]
        assert [len(block["sha256"]) for block in blocks] == [64, 64]
        assert cli("gateway", "key", "--name", "a b").exit_code == 2
