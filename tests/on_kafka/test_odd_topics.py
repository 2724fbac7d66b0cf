"""A topic that isn't what was folded: each partition concerned halts by name, the others go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from on_kafka.installation import PARTITIONS, Installation, organization_of
from on_kafka.spoiling import (
    append,
    append_in_a_transaction,
    call,
    damage,
    delete_before,
    empty,
    recreate,
)
from services.kafka_local import LocalKafka
from services.kafka_proxy import KafkaProxy
from support import homes
from support.waiting import eventually

from tollkeeper.app.wiring import App
from tollkeeper.errors import Halted, LogUnavailable
from tollkeeper.events import codec
from tollkeeper.events.quarantined import Cause
from tollkeeper.pipeline.loop import Pipeline

HERE, ELSEWHERE = 2, 3
HALTED_S = 20.0
Spoil = Callable[[Installation, LocalKafka], None]


def usage_on(installation: Installation, partition: int, *event_ids: str) -> list[int]:
    """Usage of the partition's own organization."""
    name = organization_of(partition)
    return append(installation, partition, *(call(name, event_id) for event_id in event_ids))


def running(installation: Installation, app: App | None = None) -> Pipeline:
    """A member that has folded all there is and goes on."""
    pipeline = (app or installation.app).pipeline()
    ends = installation.app.log.end_offsets()

    def is_folded() -> bool:
        pipeline.step()
        return installation.next_offsets() == ends

    eventually(is_folded, HALTED_S, what="the member has folded all")
    return pipeline


def halts_of(pipeline: Pipeline, *partitions: int) -> dict[int, Halted]:
    """Step until exactly these partitions halted."""

    def is_halted() -> bool:
        with suppress(LogUnavailable):  # as a job waits for it
            pipeline.step()
        return set(pipeline.halted) >= set(partitions)

    eventually(is_halted, HALTED_S, what=f"partitions {partitions} halt")
    assert set(pipeline.halted) == set(partitions)
    return pipeline.halted


def delete_unfolded(installation: Installation, broker: LocalKafka) -> None:
    """Records that nobody has folded."""
    offsets = usage_on(installation, HERE, "lost-1", "lost-2", "kept")
    delete_before(installation, broker, HERE, offsets[2])


def delete_folded(installation: Installation, broker: LocalKafka) -> None:
    """Records that were folded, the last one among them."""
    usage_on(installation, HERE, "late")
    delete_before(installation, broker, HERE, installation.next_offsets()[HERE])


def empty_partition(installation: Installation, broker: LocalKafka) -> None:
    """The partition is shorter than what was folded."""
    empty(installation, broker, HERE)


def refill_partition(installation: Installation, broker: LocalKafka) -> None:
    """It was shorter, and others wrote past the position meanwhile."""
    folded = installation.next_offsets()[HERE]
    empty(installation, broker, HERE)
    usage_on(installation, HERE, *(f"other-{n}" for n in range(folded + 2)))


SPOILS = [
    (delete_unfolded, "deleted"),
    (delete_folded, "deleted"),
    pytest.param(empty_partition, "truncated", marks=pytest.mark.soak),  # a broker restarts here
    pytest.param(refill_partition, "rewritten", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("spoil", "cause"), SPOILS)
def test_a_spoiled_partition_halts_by_name_when_it_is_taken_up_and_the_others_go_on(
    installation: Installation, broker: LocalKafka, spoil: Spoil, cause: str
) -> None:
    usage_on(installation, HERE, "before")
    installation.fold()
    spoil(installation, broker)
    usage_on(installation, ELSEWHERE, "after")
    found = installation.fold()
    assert list(found.halted) == [HERE]
    assert f"partition {HERE}" in found.halted[HERE]
    assert cause in found.halted[HERE]
    assert "after" in installation.charged_ids()
    assert not {"late", "kept", "other-0"} & set(installation.charged_ids())


@pytest.mark.parametrize(("spoil", "cause"), [SPOILS[0], (empty_partition, "truncated")])
def test_a_partition_spoiled_under_a_running_member_halts_by_name_and_the_others_go_on(
    installation: Installation, broker: LocalKafka, proxy: KafkaProxy, spoil: Spoil, cause: str
) -> None:
    """It is cut off meanwhile: it would read ahead else, and have what is to be deleted."""
    usage_on(installation, HERE, "before")
    behind = installation.opened(TOLLKEEPER_LOG=f"kafka://{proxy.address}")
    pipeline = running(installation, behind)
    try:
        proxy.refuse()
        spoil(installation, broker)
        proxy.accept()
        assert cause in str(halts_of(pipeline, HERE)[HERE])
        usage_on(installation, ELSEWHERE, "after")
        eventually(
            lambda: pipeline.step() and "after" in installation.charged_ids(),
            HALTED_S,
            what="the other partition is folded",
        )
        assert set(pipeline.halted) == {HERE}
    finally:
        pipeline.close()


def test_damaged_records_halt_their_partition_by_name_and_the_others_go_on(
    installation: Installation, broker: LocalKafka
) -> None:
    usage_on(installation, HERE, "damaged")
    usage_on(installation, ELSEWHERE, "sound")
    damage(installation, broker, HERE)
    found = installation.fold()
    assert list(found.halted) == [HERE]
    assert f"partition {HERE}" in found.halted[HERE]
    assert "damaged" in found.halted[HERE]
    assert installation.charged_ids() == ["sound"]


def test_records_deleted_before_the_first_fold_are_a_named_loss(
    installation: Installation, broker: LocalKafka
) -> None:
    """SQL stands at 0, where there is no record before to compare with."""
    assert installation.next_offsets()[HERE] == 0
    usage_on(installation, HERE, "seen-by-nobody")
    delete_before(installation, broker, HERE, 1)
    usage_on(installation, ELSEWHERE, "after")
    found = installation.fold()
    assert list(found.halted) == [HERE]
    assert "deleted" in found.halted[HERE]
    assert "after" in installation.charged_ids()


@pytest.mark.parametrize("is_running", [False, True])
def test_a_recreated_topic_is_not_folded_into_the_old_ledger(
    installation: Installation, broker: LocalKafka, is_running: bool
) -> None:
    usage_on(installation, HERE, "before")
    pipeline = running(installation)
    try:
        if not is_running:
            pipeline.close()
        recreate(installation, broker)
        for partition, end in installation.next_offsets().items():
            usage_on(installation, partition, *(f"anew-{partition}-{n}" for n in range(end + 2)))
        if not is_running:
            pipeline = installation.opened().pipeline()
        halts = halts_of(pipeline, *range(PARTITIONS))
    finally:
        pipeline.close()
    assert all("recreated" in str(halt) for halt in halts.values()), halts
    assert installation.charged_ids() == ["before"]


def test_an_offset_without_a_record_halts_its_partition_and_the_others_go_on(
    installation: Installation, broker: LocalKafka
) -> None:
    """The end of a Kafka transaction takes an offset: whatever stood there, it isn't a record."""
    name = organization_of(HERE)
    installation.fold()
    append_in_a_transaction(installation, broker, HERE, call(name, "in-a-transaction"))
    marker = installation.app.log.end_offsets()[HERE] - 1
    usage_on(installation, HERE, "behind-it")
    usage_on(installation, ELSEWHERE, "after")
    found = installation.fold()
    assert list(found.halted) == [HERE]
    assert f"offset {marker} is missing" in found.halted[HERE]
    assert sorted(installation.charged_ids()) == ["after", "in-a-transaction"]


def test_an_offset_without_a_record_at_the_end_halts_its_partition_too(
    installation: Installation, broker: LocalKafka
) -> None:
    """Nothing follows that would show the hole; waiting for it would look like a stuck consumer."""
    installation.fold()
    append_in_a_transaction(installation, broker, HERE, call(organization_of(HERE), "last"))
    marker = installation.app.log.end_offsets()[HERE] - 1
    found = installation.fold()
    assert list(found.halted) == [HERE]
    assert f"offset {marker} is missing" in found.halted[HERE]
    assert installation.charged_ids() == ["last"]


def test_a_record_on_a_partition_that_is_not_its_organizations_is_a_dead_letter(
    installation: Installation,
) -> None:
    value = call(organization_of(HERE), "astray")
    (offset,) = append(installation, ELSEWHERE, value)
    usage_on(installation, ELSEWHERE, "after")
    found = installation.fold()
    assert found.halted == {}
    (letter,) = installation.letters()
    assert (letter.cause, letter.place) == (Cause.WRONG_PARTITION, (ELSEWHERE, offset))
    assert letter.raw == value
    assert installation.charged_ids() == ["after"]


def test_an_unknown_schema_halts_its_partition_until_an_upgrade(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release that knows the schema folds what waited, and nothing was skipped."""
    name = organization_of(HERE)
    known = call(name, "of-a-newer-release")
    newer = b"\x00" + (4711).to_bytes(4) + known[5:]
    (offset,) = append(installation, HERE, newer)
    usage_on(installation, HERE, "behind-it")
    usage_on(installation, ELSEWHERE, "after")
    found = installation.fold()
    assert list(found.halted) == [HERE]
    assert "schema id 4711" in found.halted[HERE]
    assert f"offset {offset}" in found.halted[HERE]
    assert "upgrade" in found.halted[HERE]
    assert installation.charged_ids() == ["after"]
    upgraded = {**codec._forms(), newer[:5]: codec._forms()[known[:5]]}
    monkeypatch.setattr(codec, "_forms", lambda: upgraded)
    assert homes.fold(installation.opened()).halted == {}
    assert sorted(installation.charged_ids()) == ["after", "behind-it", "of-a-newer-release"]
    installation.assert_replays()
