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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[key]\nid = "a"\nname = "n"\nsha256 = "x"\nscopes = ["events:read"]\n', r"write \[\[key\]\]"),
        ('key = ["a"]\n', r"write \[\[key\]\]"),
        ('key = "a"\n', r"write \[\[key\]\]"),
        ('[[key]]\nid = "a"\nname = "n"\nsha256 = "x"\nscopes = [1, ["events:read"]]\n', "key 'a': scopes are"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_name(tmp_path, caplog, content, told):
    """File and block are named; a gateway that runs keeps its keys and says so once."""
    file = tmp_path / "keys.toml"
    made, shown = new_key("shop", ["events:read"])
    add_key(file, made)
    keys = Keys(file)
    file.write_text(content)
    with pytest.raises(SettingsError, match=told) as wrong:
        read_keys(file)
    assert str(file) in str(wrong.value)
    for _ in range(3):
        keys._look_at = 0.0
        assert keys.client(f"Bearer {shown}", "events:read") == made
    assert caplog.text.count("the keys stay as they were") == 1


def test_another_secret_under_an_id_is_another_key(tmp_path):
    """What was let in by the first one is not held by the second."""
    file = tmp_path / "keys.toml"
    made, _ = new_key("anna", ["console:read"])
    add_key(file, made)
    keys = Keys(file)
    assert keys.holds(made.id, made.sha256, "console:read")
    file.write_text(file.read_text().replace(made.sha256, "0" * 64))
    keys._look_at = 0.0
    assert not keys.holds(made.id, made.sha256, "console:read")
