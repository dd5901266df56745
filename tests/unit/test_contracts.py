"""What is said of the records is true of the records, and what a change breaks is told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from cli_calls import cli_in
from penstock import Erase, NewRecord, Route, Task
from penstock.contracts import records
from penstock.contracts.asyncapi import document, schema_files
from penstock.contracts.evolution import breaks
from penstock.deadletters.letter import read_letter
from penstock.erasure import read_erasure
from penstock.errors import UserError
from penstock.log.losses import Loss
from penstock.log.state import read_state
from penstock.record import Partition, Record
from penstock.testing import Run, run
from review_moderation import analyzer, moderator

PUBLISHED = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
OLD = Path(__file__).parents[1] / "golden"


class Note(BaseModel):
    id: str
    text: str = Field(min_length=1)
    mood: Literal["good", "bad"] = "good"


class Verdict(BaseModel):
    kind: Literal["bug", "wish"]
    summary: str = ""


def erasing(record: Record, model: type[BaseModel]) -> BaseModel:
    """Notes whose text is `forget` delete."""
    note = model.model_validate_json(record.value or b"{}")
    if getattr(note, "text", "") == "forget":
        raise Erase("asked to", subject=note.id)
    return note


TASK = Task(
    "noter", reads="notes", input=Note, output=Verdict, instructions="Sort.", route=Route("haiku"), decode=erasing
)


@pytest.fixture(scope="module")
def ended() -> Run:
    """Results, dead letters and an erasure of a real run."""
    notes = [{"id": f"n{n}", "text": "It crashes"} for n in range(3)]
    return run(TASK, [*notes, {"id": "x", "text": ""}, {"id": "n0", "text": "forget"}, b"\xff"])


def closed(schema: Any) -> Any:
    """The same, refusing what it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    return found | {"additionalProperties": False} if "properties" in found and found.get("type") == "object" else found


def texts(record: Record | NewRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers if value is not None}


# --- what is written is what is declared


def test_results_are_as_declared_and_nothing_more(ended):
    """Every result fits its schema, and has no field that the schema lacks."""
    schema = closed(records.result(TASK).value)
    results = [one.result for one in ended.ended if not one.letter]
    assert results
    for result in results:
        Draft202012Validator(schema).validate(result)


@pytest.mark.parametrize("task", [moderator, analyzer], ids=lambda task: task.name)
def test_results_of_the_shipped_tasks_are_as_published(task):
    """The schemas in the documentation are those that the records fit."""
    schema = json.loads((PUBLISHED / f"{task.name}.result.json").read_text())
    ended = run(task, [{"review_id": "r1", "text": "Great lamp", "rating": 5}, {"review_id": "r2", "text": "Broken"}])
    assert len(ended) == 2
    for one in ended.ended:
        Draft202012Validator(closed(schema)).validate(one.result)


def test_headers_of_dead_letters_are_as_declared(ended):
    """Exactly the declared headers are added, all of them text."""
    declared = records.dead_letter(TASK).headers
    assert len(ended.dead_letters) == 2
    for letter in ended.dead_letters:
        added = {name: text for name, text in texts(letter.record).items() if name.startswith("penstock.")}
        Draft202012Validator(closed(declared)).validate(added)


def test_headers_of_erasures_are_as_declared(ended):
    """An erasure carries what its schema needs, and no other header of ours."""
    (erasure,) = ended.erased
    headers = {name: value.decode() for name, value in erasure.headers() if value is not None}
    Draft202012Validator(closed(records.erasure(TASK).headers)).validate(headers)


def test_states_that_readers_may_want_are_as_declared():
    """Losses are written as declared (waste: where the engine is tested, it is validated with the same schema)."""
    loss = Loss("g", Partition("t", 3), 5, 9, 4).state("noter")
    state = read_state(Record(loss.topic, 0, 0, loss.key, loss.value, (), 0))
    schema = next(message for message in records.state() if message.name == state.kind)
    Draft202012Validator(closed(schema.value)).validate(state.value)


# --- the document


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (value for key, value in part.items() if key == "$ref")
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def target(whole: dict[str, Any], ref: str) -> Any:
    found: Any = whole
    for name in ref.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def test_every_reference_leads_somewhere_and_every_schema_is_one():
    """A tool that follows the document finds all that it names."""
    whole = json.loads(json.dumps(document([moderator, analyzer], version="1", brokers=["b:9092"])))
    found = list(references(whole))
    assert len(found) > 20
    assert all(target(whole, ref) is not None for ref in found)
    for schema in whole["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_document_names_topics_groups_and_who_does_what():
    """Two tasks that share topics share channels, each with a group of its own."""
    whole = document([moderator, analyzer], version="1")
    assert set(whole["channels"]) >= {"review-events", "review-ai-results", "review-dlq", "penstock-state"}
    receives = [one for one in whole["operations"].values() if one["action"] == "receive"]
    groups = {one["bindings"]["kafka"]["groupId"]["const"] for one in receives}
    assert groups == {"review-moderator", "review-analyzer"}
    assert len(whole["channels"]["review-ai-results"]["messages"]) == 4
    assert whole["channels"]["penstock-state"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == [
        "compact"
    ]


def test_published_schemas_are_todays():
    """`penstock schema … --out docs/reference/schemas` was run after the last change."""
    for name, schema in schema_files([moderator, analyzer]).items():
        assert json.loads((PUBLISHED / name).read_text()) == json.loads(json.dumps(schema)), name


def test_a_model_without_schema_is_the_users_to_mend():
    """The error names task, model and what to do."""

    class Odd(BaseModel, arbitrary_types_allowed=True):
        what: type(iter([]))  # type: ignore[valid-type]

    with pytest.raises(UserError, match="'noter': input=Odd has no JSON Schema"):
        records.event(replace(TASK, input=Odd))


# --- evolution


def test_old_readers_read_todays_records_and_todays_readers_old_ones(ended):
    """Records of version 1 as they were kept are read today; today's fit the schemas that version 1 published."""
    old = orjson.loads((OLD / "result-v1.json").read_bytes())
    Draft202012Validator(records.result_as_read(TASK)).validate(old)
    kept = orjson.loads((OLD / "headers-v1.json").read_bytes())
    letter = read_letter(_record(kept["dead-letter"], b"{}"))
    assert (letter.reason, letter.nanousd, letter.source.offset) == ("refused", 1200, 7)
    erasure = read_erasure(_record(kept["erasure"], None))
    assert erasure is not None
    assert erasure.subject == "n1"
    assert breaks(records.result(TASK).value, json.loads((OLD / "result-schema-v1.json").read_text())) == []


def _record(headers: dict[str, str], value: bytes | None) -> Record:
    return Record("t", 0, 0, b"k", value, tuple((name, text.encode()) for name, text in headers.items()), 0)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("class Out(Verdict):\n    team: str = ''", 0, "nothing breaks"),
        ("class Out(Verdict):\n    team: str", 3, "results of yesterday: output.team is needed"),
        ("class Out(Verdict):\n    kind: Literal['bug', 'wish', 'praise']", 3, "output.kind may be praise"),
        (
            "class Out(BaseModel):\n    kind: Literal['bug', 'wish']",
            3,
            "output.summary is needed by readers and is not",
        ),
        ("class In(Note):\n    shop: str = ''", 0, "nothing breaks"),
        ("class In(Note):\n    shop: str", 3, "yesterday's producers: shop is needed"),
        ("class In(Note):\n    text: str = Field(min_length=5)", 3, "text: readers ask for minLength 5"),
        ("class In(BaseModel):\n    id: str\n    text: str", 0, "nothing breaks"),
    ],
)
def test_a_change_is_checked_before_it_is_deployed(tmp_path, change, code, said):
    """Added optional fields pass; what readers or producers of yesterday would stumble over ends with exit code 3."""
    head = "from typing import Literal\nfrom pydantic import BaseModel, Field\nfrom penstock import Task\n"
    models = (
        "class Note(BaseModel):\n    id: str\n    text: str = Field(min_length=1)\n"
        "class Verdict(BaseModel):\n    kind: Literal['bug', 'wish']\n    summary: str = ''\n"
    )
    task = "task = Task('noter', reads='notes', input={}, output={}, instructions='Sort.')\n"
    name = f"evolving_{abs(hash(change))}"
    with cli_in(tmp_path) as cli:
        cli.write(f"{name}_old.py", head + models + task.format("Note", "Verdict"))
        given, out = ("In", "Verdict") if "class In" in change else ("Note", "Out")
        cli.write(f"{name}_new.py", head + models + change + "\n" + task.format(given, out))
        cli.done("schema", f"{name}_old:task", "--out", "schemas")
        result = cli("schema", f"{name}_new:task", "--check", "schemas")
    assert result.exit_code == code, result.stdout + result.stderr
    assert said in result.stdout + result.stderr


def test_checking_against_nothing_is_a_mistake(tmp_path):
    """An empty directory would let everything pass."""
    with cli_in(tmp_path) as cli:
        cli.done("init", ".")
        result = cli("schema", "feedback:sorter", "--check", "nowhere")
    assert result.exit_code == 2
    assert "--out nowhere" in result.stderr


@pytest.mark.parametrize(
    "old", ['{"type": 5, "properties": []}', '{"$ref": "#/nowhere"}', '{"properties": {"id": 7}}', "[]", "{"]
)
def test_checking_against_what_is_no_schema_is_a_mistake(tmp_path, old):
    """The file is named; it is not taken for a fault of Penstock, nor for a schema that nothing breaks."""
    with cli_in(tmp_path) as cli:
        cli.done("init", ".")
        cli.write("old/feedback-sorter.result.json", old)
        assert "old/feedback-sorter.result.json is no JSON Schema" in cli.refused(
            "schema", "feedback:sorter", "--check", "old"
        )


def test_checking_against_schemas_of_others_is_a_mistake(tmp_path):
    """All would be new, and nothing would break whatever is changed."""
    with cli_in(tmp_path) as cli:
        cli.done("init", ".")
        cli.write("old/somebody-else.result.json", "{}")
        assert "no schemas of these tasks there" in cli.refused("schema", "feedback:sorter", "--check", "old")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "feedback.py"], "--out feedback.py: no directory can be made there"),
        (["--out", "feedback.py/deep"], "--out feedback.py/deep: no directory can be made there"),
        (["--out", "new", "--check", "old"], "--out and --check exclude each other"),
    ],
)
def test_a_place_that_takes_no_schemas_is_told(tmp_path, options, said):
    """Nothing is written or left out in silence."""
    with cli_in(tmp_path) as cli:
        cli.done("init", ".")
        assert said in cli.refused("schema", "feedback:sorter", *options)
    assert not (tmp_path / "new").exists()


LEAVES = st.one_of(
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-2, 2)),
    st.just({"type": "integer"}),
    st.just({"type": "number"}),
    st.just({"type": "string"}),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 2)),
    st.builds(lambda values: {"enum": sorted(values)}, st.sets(st.sampled_from("abc"), min_size=1)),
    st.just({"type": "null"}),
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.dictionaries(st.sampled_from("pqr"), inner, max_size=3)
    return st.builds(
        lambda properties, picks, is_open: {
            "type": "object",
            "properties": properties,
            "required": [name for name, pick in zip(sorted(properties), picks, strict=False) if pick],
            **({} if is_open else {"additionalProperties": False}),
        },
        names,
        st.lists(st.booleans(), min_size=3, max_size=3),
        st.booleans(),
    )


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=5,
)


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: PLR0911
    """Values that a writer of this schema may write."""
    if "anyOf" in schema:
        return st.one_of(*(instances(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "integer":
            return st.integers(schema.get("minimum", -3), 4)
        case "number":
            return st.floats(-3, 3, allow_nan=False) | st.integers(-3, 4)
        case "string":
            return st.text("ab", max_size=schema.get("maxLength", 3))
        case "null":
            return st.none()
        case "array":
            return st.lists(instances(schema["items"]), max_size=2)
    needed = set(schema["required"])
    properties = {name: instances(one) for name, one in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: properties[name] for name in needed},
        optional={name: one for name, one in properties.items() if name not in needed},
    )


@given(st.data())
def test_what_passes_the_check_is_read(data):
    """Where no break is told, every record of the writer is one that the reader takes."""
    writer, reader = data.draw(SCHEMAS), data.draw(SCHEMAS)
    if not breaks(writer, reader):
        Draft202012Validator(reader).validate(data.draw(instances(writer)))


@given(SCHEMAS)
def test_no_change_breaks_nothing(schema):
    """A check that cries wolf would be switched off."""
    assert breaks(schema, schema) == []
