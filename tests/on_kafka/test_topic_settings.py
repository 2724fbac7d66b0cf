"""Wrong settings of the topic are found by `tollkeeper setup`, by name and before they cost anything."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from on_kafka.conftest import Install
from on_kafka.installation import PARTITIONS, Installation
from services.kafka_local import LocalKafka

from tollkeeper.errors import InvalidInput, LogUnavailable
from tollkeeper.log.kafka_topic import CONFIG

WRONG = {
    "message.timestamp.type": "CreateTime",
    "cleanup.policy": "compact",
    "retention.ms": "604800000",
    "retention.bytes": "1000000",
    "unclean.leader.election.enable": "true",
}


def make_topic(broker: LocalKafka, name: str, partitions: int, config: dict[str, str]) -> None:
    """By somebody else, with other settings than ours."""
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        admin.wait_for_topics([name])


def test_every_setting_that_is_relied_on_is_tried_here() -> None:
    assert set(WRONG) == set(CONFIG)


@pytest.mark.parametrize("name", [*WRONG, None])
def test_setup_names_the_setting_that_is_wrong_and_its_value(
    install: Install, broker: LocalKafka, name: str | None
) -> None:
    installation = install()
    config = dict(CONFIG)
    if name is not None:
        config[name] = WRONG[name]
    make_topic(broker, installation.topic, PARTITIONS, config)
    if name is None:
        installation.app.set_up()
        return
    with pytest.raises(InvalidInput) as found:
        installation.app.set_up()
    assert installation.topic in str(found.value)
    assert f"{name}={WRONG[name]}" in str(found.value)
    assert CONFIG[name] in str(found.value)


def test_setup_names_another_number_of_partitions(install: Install, broker: LocalKafka) -> None:
    installation = install()
    make_topic(broker, installation.topic, PARTITIONS + 1, dict(CONFIG))
    with pytest.raises(InvalidInput, match=f"is {PARTITIONS}, but .* has {PARTITIONS + 1}"):
        installation.app.set_up()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"TOLLKEEPER_REPLICATION": "3"}, "TOLLKEEPER_REPLICATION"),
        ({"TOLLKEEPER_TOPIC": "not a name"}, "TOLLKEEPER_TOPIC"),
    ],
    ids=str,
)
def test_what_kafka_refuses_is_named_as_the_setting_that_it_is(
    installation: Installation, settings: dict[str, str], name: str
) -> None:
    """It answers, so to try again would not help."""
    other = {"TOLLKEEPER_TOPIC": "another", **settings}
    with pytest.raises(InvalidInput) as refused:
        installation.opened(**other).set_up()
    assert refused.value.field == name


def test_a_number_of_partitions_that_is_not_the_topics_is_named_whatever_is_asked(
    installation: Installation,
) -> None:
    app = installation.opened(TOLLKEEPER_PARTITIONS=str(PARTITIONS + 1))
    for ask in (app.log.end_offsets, app.log.start_offsets):
        with pytest.raises(InvalidInput) as refused:
            ask()
        assert refused.value.field == "TOLLKEEPER_PARTITIONS"


def test_without_setup_the_missing_topic_is_named_and_none_is_made(
    install: Install, broker: LocalKafka
) -> None:
    installation = install()
    with pytest.raises(LogUnavailable, match="run `tollkeeper setup`"):
        installation.app.ensure_ready()
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        assert installation.topic not in admin.list_topics()
