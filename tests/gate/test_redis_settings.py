"""TOLLKEEPER_REDIS: which addresses there are, every mistake by its name, and never the password."""

from __future__ import annotations

from pathlib import Path

import pytest

from tollkeeper.errors import InvalidInput
from tollkeeper.gate.redis_settings import SETTING, RedisSettings, load_redis_settings


def test_without_an_address_it_is_the_home_s_own(tmp_path: Path) -> None:
    found = load_redis_settings({"TOLLKEEPER_HOME": str(tmp_path)})
    assert found == RedisSettings(tmp_path, None)
    assert found.is_embedded
    assert found.shown == "embedded"


def test_it_may_stand_in_the_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "tollkeeper.toml"
    file.write_text('redis = "redis+cluster://10.0.0.1:7000"\n', encoding="utf-8")
    found = load_redis_settings({"TOLLKEEPER_CONFIG": str(file)})
    assert (found.is_embedded, found.is_cluster) == (False, True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6380/3", "redis://localhost:6380/3"),
        ("redis://[::1]:6380", "redis://[::1]:6380"),
        ("redis://:s3cret@host", "redis://:hidden@host"),
        (
            "rediss://gate:s3cret%40@host:6380?ssl_ca_certs=/etc/ca.pem",
            "rediss://gate:hidden@host:6380?ssl_ca_certs=/etc/ca.pem",
        ),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://:s3cret@/run/redis.sock", "unix://:hidden@/run/redis.sock"),
        ("redis+cluster://:s3cret@host:7000", "redis+cluster://:hidden@host:7000"),
    ],
)
def test_an_address_is_taken_and_shown_without_its_password(url: str, shown: str) -> None:
    found = load_redis_settings({SETTING: url})
    assert (found.url, found.shown) == (url, shown)
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://:s3cret@host", "redis+cluster://"),
        ("localhost:6379", "redis://"),
        ("redis://", "HOST:PORT"),
        ("redis://host:s3cret", "port number"),
        ("redis://user:p@s3cret@host", "%40"),
        ("redis://user:s3cret#1@host", "port number"),
        ("redis://host/#s3cret", "%23"),
        ("redis://host/nine", "number of a database"),
        ("redis+cluster://host/1", "a cluster has none"),
        ("redis://host?password=s3cret", "unknown option password"),
        ("redis://host?ssl_ca_certs=/ca.pem", "unknown option ssl_ca_certs"),
        ("rediss://host?ssl_cert_reqs=none", "unknown option ssl_cert_reqs"),
        ("unix://run/redis.sock", "unix:///PATH"),
    ],
)
def test_a_wrong_address_is_refused_by_its_name_and_without_its_password(
    url: str, rule: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_redis_settings({SETTING: url})
    assert refused.value.field == SETTING
    assert rule in refused.value.rule
    assert "s3cret" not in str(refused.value)
