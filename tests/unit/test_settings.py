"""Settings: who wins, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from cli_calls import cli_in
from penstock.errors import SettingsError
from penstock.settings import KafkaAddress, LoadedSettings, Settings, SqliteAddress, load_settings, parse_log


@pytest.fixture(autouse=True)
def _directory(tmp_path):
    with cli_in(tmp_path):
        yield


def _file(text: str, name: str = "penstock.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def _shown(loaded: LoadedSettings) -> dict[str, tuple[object, str]]:
    return {entry.name: (entry.value, entry.origin) for entry in loaded.entries()}


def test_command_line_beats_environment_beats_file_beats_default(monkeypatch):
    """Each source wins over the next one, setting by setting, and `config show` can say which it was."""
    _file("[intake]\nmax_items = 1\nmax_poll_records = 2\nmax_per_key = 3\n")
    monkeypatch.setenv("PENSTOCK_INTAKE__MAX_POLL_RECORDS", "20")
    monkeypatch.setenv("PENSTOCK_INTAKE__MAX_PER_KEY", "30")
    loaded = load_settings(None, ["intake.max_per_key=300"])
    assert loaded.settings.intake.max_items == 1
    assert loaded.settings.intake.max_poll_records == 20
    assert loaded.settings.intake.max_per_key == 300
    shown = _shown(loaded)
    assert shown["intake.max_items"] == (1, "penstock.toml:2")
    assert shown["intake.max_poll_records"] == (20, "environment PENSTOCK_INTAKE__MAX_POLL_RECORDS")
    assert shown["intake.max_per_key"] == (300, "command line")
    assert shown["intake.max_bytes"][1] == "default"


def test_settings_made_directly_read_no_environment(monkeypatch):
    """`Settings(…)` is what was written there and nothing else: tests and programs stay hermetic."""
    monkeypatch.setenv("PENSTOCK_LOG", "sqlite:elsewhere.db")
    assert Settings().log == "sqlite:penstock.db"


def test_unknown_setting_of_a_file_names_line_and_the_likely_one():
    """A misspelt name is an error that says where it stands and what was probably meant."""
    _file('log = "sqlite:a.db"\n\n[limits.haiku]\nrequest_per_minute = 3\n')
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "limits.haiku.request_per_minute: no such setting; did you mean 'requests_per_minute'?" in str(caught.value)
    assert "penstock.toml:4" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("PENSTOCK_SPENT__DAY_USD", "did you mean 'spend'?"),
        ("PENSTOCK_SPEND__CEILING_USD", "write hour_usd, day_usd or month_usd"),
        ("PENSTOCK_SPEND__DYA_USD", "did you mean 'day_usd'?"),
        ("PENSTOCK_LOGG", "did you mean 'log'?"),
    ],
)
def test_unknown_variable_is_named(monkeypatch, variable, said):
    """A variable under our prefix that sets nothing is an error: it would be missed in production."""
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert variable in str(caught.value)
    assert said in str(caught.value)


def test_wrong_value_names_setting_file_variable_and_value():
    """The text has everything that is needed to mend it."""
    _file('drain_seconds = "soon"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings()
    for part in ("drain_seconds", "penstock.toml:1", "PENSTOCK_DRAIN_SECONDS", "'soon'"):
        assert part in str(caught.value)


def test_refusal_of_an_option_class_names_the_place():
    """Checks that stand beside the code say where the number came from as well."""
    _file("[spend]\nday_usd = -1\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "spend.day_usd=-1" in str(caught.value)
    assert "penstock.toml:2" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spend = 5", "spend: should be a table, got 5; it holds hour_usd"),
        ("spend.tasks = 5", "spend.tasks: should be a table, got 5"),
    ],
)
def test_a_number_where_a_table_belongs_is_told_in_words_of_the_file(text, said):
    """Names of classes mean nothing to who writes settings."""
    _file(text + "\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "Options" not in str(caught.value)


def test_all_mistakes_are_told_at_once():
    """Nobody wants to mend settings one run at a time."""
    _file('lgo = "x"\n[claude]\ntimeout_seconds = "x"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "lgo" in str(caught.value)
    assert "claude.timeout_seconds" in str(caught.value)


@pytest.mark.parametrize("text", ["log = [", "log = 1\nlog = 2\n", "\x00"])
def test_file_that_is_no_toml_is_named(text):
    """Broken TOML names the file and the parser's own words."""
    _file(text)
    with pytest.raises(SettingsError, match=r"penstock\.toml is not valid TOML"):
        load_settings()


def test_file_that_was_asked_for_must_exist():
    """A missing default file is fine, a missing named one is not."""
    assert load_settings().settings.log == "sqlite:penstock.db"
    with pytest.raises(SettingsError, match=r"no settings file other\.toml"):
        load_settings(Path("other.toml"))


def test_variable_names_the_file(monkeypatch):
    """PENSTOCK_CONFIG names the file, and --config is stronger."""
    _file('log = "sqlite:one.db"', "one.toml")
    other = _file('log = "sqlite:two.db"', "two.toml")
    monkeypatch.setenv("PENSTOCK_CONFIG", "one.toml")
    assert load_settings().settings.log == "sqlite:one.db"
    assert load_settings(other).settings.log == "sqlite:two.db"


def test_secrets_are_masked_wherever_settings_are_shown(monkeypatch):
    """No entry and no repr of settings holds a secret; the log gets it in clear."""
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY", "sk-very-secret")
    _file('[kafka]\nsasl.username = "me"\nsasl.password = "hidden-word"\n"ssl.key.password" = "hidden-too"\n')
    loaded = load_settings()
    everything = repr(loaded.settings) + repr(loaded.entries()) + str(loaded.settings)
    for secret in ("sk-very-secret", "hidden-word", "hidden-too"):
        assert secret not in everything
    assert isinstance(loaded.settings.kafka["sasl.password"], SecretStr)
    assert loaded.settings.kafka_properties() == {
        "sasl.username": "me",
        "sasl.password": "hidden-word",
        "ssl.key.password": "hidden-too",
    }


def test_wrong_secret_is_not_repeated():
    """An error about a secret does not print it."""
    _file('[claude]\napi_key = ["sk-very-secret"]\n')
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "claude.api_key" in str(caught.value)
    assert "sk-very-secret" not in str(caught.value)


def test_secret_may_stand_in_a_file(monkeypatch):
    """`…_FILE` reads the secret from a file, without its newline, and the origin says so."""
    Path("key").write_text("sk-from-file\n")
    Path("password").write_text("from-file\n")
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY_FILE", "key")
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_PASSWORD_FILE", "password")
    loaded = load_settings()
    assert loaded.settings.claude.api_key == "sk-from-file"
    assert loaded.settings.kafka_properties() == {"sasl.password": "from-file"}
    assert _shown(loaded)["claude.api_key"][1] == "file key (environment PENSTOCK_CLAUDE__API_KEY_FILE)"


def test_password_that_looks_like_a_number_stays_as_it_is(monkeypatch):
    """What a variable says of a secret is text, whatever it looks like."""
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY", "1e5")
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_PASSWORD", "007.50")
    settings = load_settings().settings
    assert settings.claude.api_key == "1e5"
    assert settings.kafka_properties() == {"sasl.password": "007.50"}


def test_missing_secret_file_is_named(monkeypatch):
    """A secret's file that is not there stops the start."""
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY_FILE", "nowhere")
    with pytest.raises(SettingsError, match=r"claude\.api_key_file.*nowhere"):
        load_settings()


def test_secret_given_twice_is_refused(monkeypatch):
    """Two sources of one secret are a mistake waiting for a rotation."""
    Path("key").write_text("a")
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY_FILE", "key")
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY", "b")
    with pytest.raises(SettingsError, match="both set"):
        load_settings()


def test_usual_key_serves_where_ours_is_missing(monkeypatch):
    """ANTHROPIC_API_KEY is taken, and ours is stronger."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "usual")
    loaded = load_settings()
    assert loaded.settings.claude.api_key == "usual"
    assert _shown(loaded)["claude.api_key"][1] == "environment ANTHROPIC_API_KEY"
    monkeypatch.setenv("PENSTOCK_CLAUDE__API_KEY", "ours")
    assert load_settings().settings.claude.api_key == "ours"


def test_properties_of_librdkafka_keep_their_names(monkeypatch):
    """Dotted names work bare and quoted in TOML, with underscores in the environment, and dotted after -X."""
    _file(
        '[kafka]\nsecurity.protocol = "SASL_SSL"\n"sasl.mechanism" = "PLAIN"\nenable.ssl.certificate.verification = false\n'
    )
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_USERNAME", "me")
    settings = load_settings(None, ["kafka.client.id=here"]).settings
    assert settings.kafka_properties() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "enable.ssl.certificate.verification": False,
        "sasl.username": "me",
        "client.id": "here",
    }


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("sqlite:a/b.db", SqliteAddress(Path("a/b.db"))),
        ("kafka:one:9092", KafkaAddress("one:9092")),
        ("kafka:one:9092,[::1]:9093", KafkaAddress("one:9092,[::1]:9093")),
        ("kafka://one:9092", KafkaAddress("one:9092")),
    ],
)
def test_logs_are_told_apart(text, address):
    """The log's text says which choice it is and where."""
    assert parse_log(text) == address
    assert Settings(log=text).log_address == address


@pytest.mark.parametrize("text", ["", "sqlite:", "kafka:", "kafka:one", "kafka:one:9092,", "postgres:x", "a.db"])
def test_log_that_is_none_says_what_to_write(text):
    """A wrong log names both forms."""
    with pytest.raises(SettingsError, match="sqlite:FILE"):
        load_settings(None, [f"log={text}"])


@pytest.mark.parametrize("assignment", ["spend", "=3", "log.x=1"])
def test_assignment_that_sets_nothing_is_refused(assignment):
    """-X needs a name and a value, and a single value is no table."""
    _file('log = "sqlite:a.db"\n')
    with pytest.raises(SettingsError):
        load_settings(None, [assignment])


def test_table_as_one_variable_says_how_to_write_it(monkeypatch):
    """A table cannot be one variable's text."""
    monkeypatch.setenv("PENSTOCK_LIMITS", "many")
    with pytest.raises(SettingsError, match="PENSTOCK_LIMITS__NAME=VALUE"):
        load_settings()


def test_settings_do_not_change():
    """What was checked at the start stays so."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().log = "sqlite:b.db"


def test_the_log_on_kafka_is_set_like_the_embedded_one(monkeypatch):
    """`[kafka_log]` is ours, `[kafka]` is librdkafka's; each source reaches both, and they are not mixed up."""
    _file('[kafka_log]\nrevoke_seconds = 5\n[kafka]\n"linger.ms" = 7\n')
    monkeypatch.setenv("PENSTOCK_KAFKA_LOG__STATIC_MEMBERSHIP", "true")
    monkeypatch.setenv("PENSTOCK_KAFKA__SECURITY_PROTOCOL", "SSL")
    loaded = load_settings(None, ["kafka_log.max_record_bytes=2000000"])
    options = loaded.settings.kafka_log
    assert (options.revoke_seconds, options.static_membership, options.max_record_bytes) == (5.0, True, 2_000_000)
    assert loaded.settings.kafka_properties() == {"linger.ms": 7, "security.protocol": "SSL"}
    shown = _shown(loaded)
    assert shown["kafka_log.revoke_seconds"] == (5.0, "penstock.toml:2")
    assert shown["kafka_log.static_membership"][1] == "environment PENSTOCK_KAFKA_LOG__STATIC_MEMBERSHIP"


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("kafka_log.group_protocl=auto", "did you mean 'group_protocol'?"),
        ("kafka_log.group_protocol=new", "'auto', 'consumer' or 'classic'"),
        ("kafka_log.revoke_seconds=0", "kafka_log.revoke_seconds=0"),
        ("kafka_log.commit_timeout_seconds=nan", "kafka_log.commit_timeout_seconds"),
        ("kafka_log.replication_factor=0", "kafka_log.replication_factor=0"),
        ("kafka_log.prefetch_bytes=1", "kafka_log.prefetch_bytes=1"),
        ("kafka_log.max_record_bytes=100", "kafka_log.max_record_bytes=100"),
    ],
)
def test_wrong_options_of_the_log_on_kafka_are_named(assignment, says):
    """By name, with what may stand there and where it was written."""
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [assignment])
    assert says in str(caught.value)
    assert "command line" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("group.instance.id", "kafka_log.static_membership"),
        ("transaction.timeout.ms", "kafka_log.transaction_timeout_seconds"),
        ("message.max.bytes", "kafka_log.max_record_bytes"),
        ("bootstrap.servers", "set log"),
        ("acks", "all replicas"),
    ],
)
def test_a_property_that_protects_the_laws_names_the_setting_to_use(name, instead):
    """Told when settings are read, with the line that sets it: before anything connects."""
    _file(f'[kafka]\n"linger.ms" = 7\n"{name}" = "1"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"kafka.{name} can't be set" in str(caught.value)
    assert instead in str(caught.value)
    assert "penstock.toml:3" in str(caught.value)
