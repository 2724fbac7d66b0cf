"""Whatever stands on the log: a dead letter with its bytes, or a partition that halts by name."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import homes
from support.events import usage
from support.stores import Store

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import LogDiverged
from tollkeeper.events.codec import encode
from tollkeeper.events.quarantined import Cause
from tollkeeper.ledger.chargeable import MAX_CHARGED_NANOS
from tollkeeper.ledger.rows import Letter
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import (
    AddMember,
    OpenOrganization,
    RemoveMember,
)
from tollkeeper.outbox.database import reading
from tollkeeper.replay.verify import verify
from tollkeeper.reports.balance import balance
from tollkeeper.reports.charges import ChargeFilter, charges
from tollkeeper.reports.letters import LetterFilter, find_letters

DAY = 86_400 * 1_000_000


@pytest.fixture
def app(either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.new(tmp_path / "home")) as opened:
        homes.handle(
            opened,
            OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann"),
            AddMember(organization="acme", member="gone"),
            RemoveMember(organization="acme", member="gone"),
        )
        yield opened


def home_partition(app: App, organization: str = "acme") -> int:
    return partition_for(organization, app.log.partition_count)


def append(app: App, value: bytes, *, partition: int | None = None) -> int:
    place = home_partition(app) if partition is None else partition
    (offset,) = app.log.append([Outgoing(place, b"acme", value)])
    return offset


def call(app: App, event_id: str = "e-1", **fields: object) -> bytes:
    """Usage of right now, as an emitter would put it on the log."""
    return encode(usage(**{"event_id": event_id, "occurred_at": app.clock(), **fields}))


def letters(app: App) -> list[Letter]:
    with reading(app.engine) as connection:
        return find_letters(connection, LetterFilter())


@pytest.mark.parametrize(
    ("cause", "fields", "field"),
    [
        (Cause.UNKNOWN_ORGANIZATION, {"organization": "nobody"}, "organization"),
        (Cause.UNPRICED, {"model": "unheard-of"}, "model"),
        (Cause.UNPRICED, {"service_tier": "priority"}, "model"),
    ],
)
def test_usage_that_cannot_be_charged_is_kept_with_its_tokens(
    app: App, cause: Cause, fields: dict[str, str], field: str
) -> None:
    organization = fields.get("organization", "acme")
    value = call(app, **fields)
    offset = append(app, value, partition=home_partition(app, organization))
    assert homes.fold(app).counts.dead_letters == 1
    (letter,) = letters(app)
    assert (letter.cause, letter.field) == (cause, field)
    assert letter.place == (home_partition(app, organization), offset)
    assert letter.raw == value
    assert letter.counts == (1_000, 100, 0, 0, 0, 0)
    assert (letter.organization, letter.event_id) == (organization, "e-1")


def test_usage_from_the_future_waits_until_somebody_looked_at_the_clock(app: App) -> None:
    append(app, call(app, occurred_at=app.clock() + DAY))
    append(app, call(app, "e-2", occurred_at=app.clock() + 60 * 1_000_000))
    counts = homes.fold(app).counts
    assert (counts.charged, counts.dead_letters) == (1, 1)
    assert [one.cause for one in letters(app)] == [Cause.FUTURE]


def test_usage_from_the_future_is_charged_when_it_is_released_after_that_time(app: App) -> None:
    append(app, call(app, occurred_at=app.clock() + 301 * 1_000_000))
    assert homes.fold(app).counts.dead_letters == 1
    (letter,) = letters(app)
    app.clock = lambda: letter.appended_at + 400 * 1_000_000
    with homes.opened_app(app.settings.home, clock=app.clock) as later:
        later.quarantine.release([letter.place], actor="operator", command_id="release")
        assert homes.fold(later).counts.charged == 1
        assert letters(later) == []


def test_usage_on_a_partition_that_is_not_its_organizations_is_kept_aside(app: App) -> None:
    other = (home_partition(app) + 1) % app.log.partition_count
    append(app, call(app), partition=other)
    assert homes.fold(app).counts.dead_letters == 1
    assert [one.cause for one in letters(app)] == [Cause.WRONG_PARTITION]


def test_a_release_that_stands_on_the_log_twice_charges_once(app: App) -> None:
    """The relay sends at least once: a kill behind its append is enough."""
    append(app, call(app, organization="late"), partition=home_partition(app, "late"))
    homes.fold(app)
    homes.handle(
        app, OpenOrganization(organization="late", plan="enterprise_self_serve", owner="o")
    )
    (letter,) = letters(app)
    home = app.settings.home
    release = ("dead-letters", "release", f"{letter.log_partition}-{letter.log_offset}")
    killed = homes.run(home, *release, failpoints="relay.after_append=kill@1")
    assert killed.returncode == homes.KILLED, killed.stderr
    assert homes.fold(app).counts.charged == 1
    assert homes.charged(app) == 1
    with reading(app.engine) as connection:
        assert balance(connection, app.log, "late", now=app.clock()).used_nanos == 3_000_000
    assert verify(app.log, app.ledger, now=app.clock(), progress=lambda _: None).agrees


def test_discarded_usage_is_not_charged_when_it_is_delivered_again(app: App) -> None:
    value = call(app, organization="late")
    append(app, value, partition=home_partition(app, "late"))
    homes.fold(app)
    (letter,) = letters(app)
    app.quarantine.discard([letter.place], reason="a test", actor="operator", command_id="k")
    homes.fold(app)
    homes.handle(
        app, OpenOrganization(organization="late", plan="enterprise_self_serve", owner="o")
    )
    append(app, value, partition=home_partition(app, "late"))
    append(app, call(app, "e-2", organization="late"), partition=home_partition(app, "late"))
    counts = homes.fold(app).counts
    assert (counts.charged, counts.duplicates) == (1, 1)
    assert verify(app.log, app.ledger, now=app.clock(), progress=lambda _: None).agrees


def test_the_same_usage_on_two_wrong_partitions_is_two_letters_in_any_order(app: App) -> None:
    wrong = [p for p in range(app.log.partition_count) if p != home_partition(app)]
    value = call(app)
    for partition in (wrong[-1], wrong[0]):
        append(app, value, partition=partition)
        homes.fold(app)
    assert len(letters(app)) == 2
    assert verify(app.log, app.ledger, now=app.clock(), progress=lambda _: None).agrees


def test_an_absurd_charge_is_kept_aside_and_stops_nobody(app: App) -> None:
    for number in range(12):
        append(app, call(app, f"e-{number}", web_search_requests=10**9))
    append(app, call(app, "fine"))
    counts = homes.fold(app).counts
    assert (counts.charged, counts.dead_letters) == (1, 12)
    assert {one.cause for one in letters(app)} == {Cause.TOO_LARGE}
    assert all(one.amount_at_risk_nanos for one in letters(app))


def test_an_organization_at_the_end_of_64_bits_stops_nobody_else(app: App) -> None:
    homes.fold(app)
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE organization SET charged_nanos = {MAX_CHARGED_NANOS + 1}"
        )
    append(app, call(app))
    assert homes.fold(app).counts.dead_letters == 1
    assert [one.cause for one in letters(app)] == [Cause.TOO_LARGE]


def test_the_same_id_with_other_content_is_a_conflict_and_never_charged(app: App) -> None:
    first, second = (
        call(app, occurred_at=1_793_880_000_000_000),
        call(app, occurred_at=1_793_880_000_000_000, output_tokens=7),
    )
    for value in (first, second, first, second):
        append(app, value)
    counts = homes.fold(app).counts
    assert (counts.charged, counts.duplicates, counts.dead_letters) == (1, 2, 1)
    (letter,) = letters(app)
    assert (letter.cause, letter.raw) == (Cause.ID_CONFLICT, second)


@pytest.mark.parametrize("member", ["gone", "never-there"])
def test_r18_usage_of_somebody_who_is_no_member_is_charged_and_flagged(
    app: App, member: str
) -> None:
    append(app, call(app, member=member))
    append(app, call(app, "e-2", member="ann"))
    assert homes.fold(app).counts.charged == 2
    with reading(app.engine) as connection:
        rows = charges(connection, "acme", ChargeFilter(), limit=10)
    assert {row.member: row.is_member_unknown for row in rows} == {member: 1, "ann": 0}


def test_late_usage_is_charged_in_its_own_period_and_marked(app: App) -> None:
    append(app, call(app, occurred_at=app.clock() - 62 * DAY))
    append(app, call(app, "e-2"))
    assert homes.fold(app).counts.charged == 2
    with reading(app.engine) as connection:
        rows = charges(connection, "acme", ChargeFilter(), limit=10)
    assert {row.event_id: row.is_late for row in rows} == {"e-1": 1, "e-2": 0}
    assert len({row.period_start for row in rows}) == 2


def test_an_unknown_schema_halts_its_partition_by_name_and_the_others_go_on(app: App) -> None:
    elsewhere = next(
        f"org-{n}" for n in range(99) if home_partition(app, f"org-{n}") != home_partition(app)
    )
    homes.handle(
        app, OpenOrganization(organization=elsewhere, plan="enterprise_self_serve", owner="o")
    )
    homes.fold(app)
    append(app, call(app))
    offset = append(app, b"\x00" + (4711).to_bytes(4) + b"from the future")
    append(app, call(app, "e-2"))
    append(app, call(app, organization=elsewhere), partition=home_partition(app, elsewhere))
    found = homes.fold(app)
    assert found.counts.charged == 2  # what stands before it, and the other partition
    assert list(found.halted) == [home_partition(app)]
    assert "schema id 4711" in found.halted[home_partition(app)]
    assert f"offset {offset}" in found.halted[home_partition(app)]
    assert letters(app) == []


def test_a_hole_in_the_log_halts_its_partition_by_name(app: App) -> None:
    homes.fold(app)
    offsets = [append(app, call(app, f"e-{n}")) for n in range(3)]
    with closing(sqlite3.connect(app.settings.log_path)) as connection, connection:
        connection.execute(
            f'DELETE FROM partition_{home_partition(app)} WHERE "offset" = ?', (offsets[1],)
        )
    found = homes.fold(app)
    assert f"offset {offsets[1]} is missing" in found.halted[home_partition(app)]
    assert homes.charged(app) == 1


def test_a_log_that_was_made_anew_is_not_folded_into_the_old_ledger(app: App) -> None:
    append(app, call(app))
    homes.fold(app)
    home = app.settings.home
    app.close()
    for part in ("", "-wal", "-shm", ".id"):
        (home / f"log.sqlite{part}").unlink(missing_ok=True)
    with closing(App(load_settings(homes.settings_of(home)))) as anew:
        with pytest.raises(LogDiverged, match="belongs to the log"):
            anew.set_up()
        found = homes.fold(anew)
        assert set(found.halted) == set(range(8))
        assert all("recreated" in text for text in found.halted.values()), found.halted
        assert homes.charged(anew) == 1


@pytest.mark.parametrize("either_store", ["sqlite"], indirect=True)
def test_a_full_disk_under_the_ledger_is_a_clear_end_and_no_loss(app: App) -> None:
    import resource

    homes.emit(
        app,
        (
            Usage(event_id=f"e-{n}", organization="acme", member="ann", surface="web",
                  model="claude-sonnet-5", input_tokens=n, occurred_at=1_793_880_000_000_000)
            for n in range(1, 4_001)
        ),
    )  # fmt: skip
    home = app.settings.home
    room = max(one.stat().st_size for one in home.iterdir() if one.is_file()) + 65_536
    full = homes.run(
        home,
        "consume",
        "--until-caught-up",
        limits=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert full.returncode == 3, full.stderr
    assert "refused" in full.stderr
    assert "has room" in full.stderr
    assert homes.fold(app).counts.charged == 4_000


@given(
    values=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.binary(max_size=60).map(lambda body: b"\x00\x00\x00\x00\x01" + body),
            st.tuples(st.integers(5, 150), st.integers(0, 255)).map(
                lambda change: _mutated(*change)
            ),
        ),
        min_size=1,
        max_size=300,
    )
)
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_stop_a_partition(app: App, values: list[bytes]) -> None:
    """Random and mutated bytes are dead letters with their bytes, or rightly formed usage."""
    known = [
        value
        for value in values
        if value[:1] != b"\x00" or value[:5] == b"\x00\x00\x00\x00\x01" or len(value) < 5
    ]
    before = {one.place for one in letters(app)}
    for value in known:
        append(app, value)
    found = homes.fold(app)
    assert found.halted == {}
    counts = found.counts
    assert counts.charged + counts.duplicates + counts.dead_letters == len(known)
    raw = [one.raw for one in letters(app) if one.place not in before]
    assert all(value in known for value in raw)
    assert len(raw) == counts.dead_letters


def _mutated(place: int, byte: int) -> bytes:
    value = bytearray(encode(usage(event_id="mutated")))
    value[place % len(value)] = byte
    return bytes(value)


@pytest.mark.parametrize("field", ["member", "event_id", "request_id"])
def test_a_nul_in_a_string_is_a_dead_letter_that_names_its_field(app: App, field: str) -> None:
    """SQLite and PostgreSQL would cut the text off, or refuse the whole batch."""
    marked = call(app, **{field: "a-XX-b"})
    assert marked.count(b"a-XX-b") == 1
    value = marked.replace(b"a-XX-b", b"a-\x00X-b")
    offset = append(app, value)
    append(app, call(app, "e-2"))
    found = homes.fold(app)
    assert (found.halted, found.counts.charged, found.counts.dead_letters) == ({}, 1, 1)
    (letter,) = letters(app)
    assert (letter.cause, letter.field, letter.raw) == (Cause.INVALID, field, value)
    assert letter.place == (home_partition(app), offset)


def test_undecodable_bytes_are_shown_with_their_cause_and_can_be_discarded(app: App) -> None:
    offset = append(app, b"\x00\x00\x00\x00\x01\xff")
    ended = homes.run(app.settings.home, "consume", "--until-caught-up", "--json")
    assert ended.returncode == 0, ended.stderr
    letter_id = f"{home_partition(app)}-{offset}"
    shown = homes.run(app.settings.home, "dead-letters", "show", letter_id, "--json")
    document = json.loads(shown.stdout)
    assert (document["cause"], document["status"]) == (str(Cause.UNDECODABLE), "open")
    assert b64decode(document["raw_base64"]) == b"\x00\x00\x00\x00\x01\xff"
    discarded = homes.run(
        app.settings.home, "dead-letters", "discard", letter_id, "--reason", "line noise"
    )
    assert discarded.returncode == 0, discarded.stderr
    homes.fold(app)
    assert letters(app) == []
