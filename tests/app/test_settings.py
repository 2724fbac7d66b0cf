"""Settings: the environment before the file before the default, and every mistake by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tollkeeper.app.settings import Settings, load_settings
from tollkeeper.errors import InvalidInput


def test_the_embedded_default_needs_no_setting() -> None:
    found = load_settings({})
    home = Path("~/.tollkeeper").expanduser()
    assert found.home == home
    assert found.sql == f"sqlite:///{home}/ledger.sqlite"
    assert (found.partitions, found.session_timeout_s, found.kafka) == (8, 6.0, None)
    assert (found.enforcement.recovery_s, found.enforcement.retire_after_s) == (30.0, 900.0)
    assert (found.redis.url, found.redis.home, found.redis.shown) == (None, home, "embedded")


def from_file(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "tollkeeper.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings({"TOLLKEEPER_CONFIG": str(file), **environ})


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    text = f'home = "{tmp_path}/file"\npartitions = 3\n'
    assert from_file(tmp_path, text).home == tmp_path / "file"
    assert from_file(tmp_path, text).partitions == 3
    both = from_file(tmp_path, text, TOLLKEEPER_HOME=f"{tmp_path}/environment")
    assert (both.home, both.partitions) == (tmp_path / "environment", 3)
    assert both.sql == f"sqlite:///{tmp_path}/environment/ledger.sqlite"
    patience = from_file(tmp_path, "recovery_s = 1\nretire_after_s = 86400").enforcement
    assert (patience.recovery_s, patience.retire_after_s) == (1.0, 86_400.0)


@pytest.mark.parametrize(
    ("environ", "field", "rule"),
    [
        ({"TOLLKEEPER_HOME": "below/here"}, "TOLLKEEPER_HOME", "absolute"),
        ({"TOLLKEEPER_PARTITIONS": "0"}, "TOLLKEEPER_PARTITIONS", "1 to 10000"),
        ({"TOLLKEEPER_PARTITIONS": "10001"}, "TOLLKEEPER_PARTITIONS", "1 to 10000"),
        ({"TOLLKEEPER_PARTITIONS": "many"}, "TOLLKEEPER_PARTITIONS", "1 to 10000"),
        ({"TOLLKEEPER_SESSION_TIMEOUT_S": "0.9"}, "TOLLKEEPER_SESSION_TIMEOUT_S", "1 to 300"),
        ({"TOLLKEEPER_SESSION_TIMEOUT_S": "300.1"}, "TOLLKEEPER_SESSION_TIMEOUT_S", "1 to 300"),
        ({"TOLLKEEPER_RECOVERY_S": "0.9"}, "TOLLKEEPER_RECOVERY_S", "1 to 600"),
        ({"TOLLKEEPER_RETIRE_AFTER_S": "86401"}, "TOLLKEEPER_RETIRE_AFTER_S", "1 to 86400"),
        ({"TOLLKEEPER_RETIRE_AFTER_S": "soon"}, "TOLLKEEPER_RETIRE_AFTER_S", "1 to 86400"),
        ({"TOLLKEEPER_SQL": "nonsense"}, "TOLLKEEPER_SQL", "SQLAlchemy URL"),
        ({"TOLLKEEPER_LOG": "pulsar://localhost"}, "TOLLKEEPER_LOG", "kafka://"),
        ({"TOLLKEEPER_SQL": "postgres://u:p@h/d"}, "TOLLKEEPER_SQL", "postgresql://"),
        ({"TOLLKEEPER_SQL": "postgresql://u:s3@cret@h/d"}, "TOLLKEEPER_SQL", "%40"),
        (
            {"TOLLKEEPER_LOG": "kafka://u:s3cret@h:9092"},
            "TOLLKEEPER_LOG",
            "TOLLKEEPER_KAFKA_PASSWORD",
        ),
        ({"TOLLKEEPER_CONFIG": "/nonexistent.toml"}, "TOLLKEEPER_CONFIG", "can't be read"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_by_its_name(
    environ: dict[str, str], field: str, rule: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_settings(environ)
    assert refused.value.field == field
    assert rule in refused.value.rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("hom = 'x'", "unknown setting hom"),
        ("home =", "isn't TOML"),
        ("[tls]\nx = 1", "unknown setting tls"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match="TOLLKEEPER_CONFIG") as refused:
        from_file(tmp_path, text)
    assert rule in refused.value.rule


@pytest.mark.parametrize("value", ["1", "300"])
def test_the_bounds_themselves_are_allowed(value: str) -> None:
    assert load_settings({"TOLLKEEPER_SESSION_TIMEOUT_S": value}).session_timeout_s == float(value)


@pytest.mark.parametrize(
    "environ",
    [
        {"TOLLKEEPER_SQL": "mysql://user:s3cret@host/db"},
        {"TOLLKEEPER_SQL": "postgresql://user:p@s3cret@host/db"},
        {"TOLLKEEPER_LOG": "kafka://user:s3cret@host:9092"},
        {"TOLLKEEPER_LOG": "user:s3cret@host:9092"},
    ],
    ids=str,
)
def test_a_password_is_never_in_the_message(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_settings(environ)
    assert "s3cret" not in str(refused.value)
