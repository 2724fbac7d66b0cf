"""Who is in a Kafka consumer group and owns what, as its coordinator tells; for people who look."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.kafka_topic import asking, coordinated


def member_name() -> str:
    """What a member calls itself: where it runs, so that an owner can be found."""
    return f"tollkeeper-{socket.gethostname()}-{os.getpid()}"


def owners(settings: KafkaSettings, group: str) -> dict[int, str]:
    """The owner of each partition of the topic; a partition that nobody owns is absent."""
    with asking(settings) as admin:
        found = coordinated(lambda: admin.describe_groups([group]))[group]
    return {
        partition: f"{member['client_id']} at {str(member['client_host']).lstrip('/')}"
        for member in found.get("members", ())
        for partition in _assigned(member, settings.topic)
    }


def _assigned(member: Mapping[str, Any], topic: str) -> Iterator[int]:
    """Nothing while the group deals out anew: the assignment is no document then, but empty bytes."""
    assignment = member.get("member_assignment")
    if isinstance(assignment, Mapping):
        for one in assignment.get("assigned_partitions", ()):
            if one["topic"] == topic:
                yield from one["partitions"]
