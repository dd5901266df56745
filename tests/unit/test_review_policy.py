"""Policy files: loaded, told to the model, and refused with the file and the clause that is wrong."""

from pathlib import Path

import pytest

from penstock import UserError
from review_moderation import PolicyError, load_policy, moderator, moderator_under
from review_moderation.policy import SHIPPED

CLAUSE = '[[clause]]\nid = "spam.link"\nseverity = "low"\ndecision = "reject"\ntext = "Has a link."\n'
HEAD = 'version = "7"\ntitle = "House rules"\n'
EXAMPLE = '[[example]]\nreview = "see x.example"\ndecision = "reject"\nviolations = ["spam.link"]\nbecause = "a link"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def test_the_shipped_policy_covers_what_shops_ask_for() -> None:
    """Spam, abuse, fakes and manipulation, each clause with text, severity and a decision."""
    policy = load_policy()
    assert {clause_id.split(".")[0] for clause_id in policy.clause_ids} == {"spam", "abuse", "fake", "manipulation"}
    assert all(clause.text and clause.severity and clause.decision != "publish" for clause in policy.clauses)
    assert {example.decision for example in policy.examples} == {"publish", "hold", "reject"}
    assert policy.version == moderator.policy_version


def test_the_model_is_told_every_clause_and_example() -> None:
    """Nothing that is judged by is left unsaid, and the clauses can be answered with."""
    policy = load_policy()
    for clause in policy.clauses:
        assert f"{clause.id} [{clause.severity}, {clause.decision}]: {clause.text}" in moderator.instructions
    for example in policy.examples:
        assert example.review in moderator.instructions
    schema = moderator.output.model_json_schema()
    assert tuple(schema["properties"]["violations"]["items"]["enum"]) == policy.clause_ids


def test_the_instructions_are_long_enough_to_be_cached() -> None:
    """Below about 600 tokens (2.5 to 4 characters each) the API caches nothing and says nothing."""
    assert len(moderator.instructions) > 600 * 4


def test_a_policy_of_ones_own_makes_a_moderator_of_its_own(file: Path) -> None:
    """Its clauses are the only answers, its version stands on results, and options may be changed."""
    file.write_text(HEAD + CLAUSE + EXAMPLE)
    task = moderator_under(load_policy(file), name="house-moderator")
    assert (task.name, task.policy_version) == ("house-moderator", "7")
    assert "House rules" in task.instructions
    with pytest.raises(ValueError, match=r"violations\.0"):
        task.output(decision="reject", violations=["abuse.insult"], evidence="x", reason="y")
    assert task.output(decision="reject", violations=["spam.link"], evidence="x", reason="y")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CLAUSE, 'version = "…" is missing'),
        (HEAD, "has no clause; write [[clause]]"),
        ("version = ", "is not a TOML file"),
        (HEAD + "[clause]\n", "write every clause as a table of its own"),
        (HEAD + CLAUSE + CLAUSE, "clause spam.link is there twice"),
        (HEAD + CLAUSE.replace("spam.link", "Spam Link"), "clause Spam Link: write the id as 'policy.clause'"),
        (
            HEAD + CLAUSE.replace('"low"', '"mild"'),
            "clause spam.link: severity = 'mild'; write one of low, medium, high",
        ),
        (
            HEAD + CLAUSE.replace('"reject"', '"publish"'),
            "clause spam.link: decision = 'publish'; write one of hold, reject",
        ),
        (HEAD + CLAUSE.replace("Has a link.", " "), 'clause spam.link: text = "…" is missing or empty'),
        (HEAD + CLAUSE.replace('id = "spam.link"', ""), 'clause number 1: id = "…" is missing'),
        (HEAD + CLAUSE + "weight = 3\n", "clause spam.link: 'weight' is not known here"),
        (HEAD + "clauses = 1\n" + CLAUSE, "'clauses' is not known here; use clause, example, title, version"),
        (HEAD + CLAUSE + EXAMPLE.replace('["spam.link"]', '["spam.lnk"]'), "example 1: names 'spam.lnk'"),
        (HEAD + CLAUSE + EXAMPLE.replace('"reject"', '"publish"'), "example 1: 'publish' goes without violations"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_place(file: Path, text: str, said: str) -> None:
    """The author of a policy reads the file, the clause and what to write."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        load_policy(file)
    assert str(refused.value).startswith(f"policy {file}: ")
    assert said in str(refused.value)


def test_a_policy_that_cannot_be_read_is_the_users_to_mend(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text end without a traceback."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(UserError, match=str(path)):
            load_policy(path)


def test_the_shipped_file_travels_with_the_package() -> None:
    """It lies beside the code that reads it."""
    assert SHIPPED.is_file()
