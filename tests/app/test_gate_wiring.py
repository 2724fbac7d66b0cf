"""How a process comes to its enforcement, and who the command line is at the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from app.commands import CommandLine
from support.homes import end_gate, opened_app, start
from support.waiting import eventually

from tollkeeper.app.command_line_emitter import ISSUED_S, CommandLineEmitter
from tollkeeper.app.enforcing import Enforcing, LateFollower
from tollkeeper.app.gate_watch import STATES
from tollkeeper.app.watch import Watch
from tollkeeper.app.wiring import App
from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.errors import GateUnavailable, LogUnavailable, Misuse, StoreUnavailable
from tollkeeper.events.codec import decode
from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.gate.embedded import stop_embedded_gate
from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.port import Position
from tollkeeper.log.sqlite import SqliteLog

PARTITIONS = 3


class Told:
    """An applier that remembers."""

    def __init__(self) -> None:
        self.adopted_at: list[tuple[int, dict[int, int]]] = []
        self.rounds: list[Effects] = []

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        self.adopted_at.append((generation, {one: at.next_offset for one, at in positions.items()}))

    def folded(self, effects: Effects) -> None:
        self.rounds.append(effects)

    def applied(self) -> dict[int, int]:
        return {0: 7}


class Appearing:
    """Enforcement that isn't there until it is set; what is an error is raised."""

    def __init__(self) -> None:
        self.found: Any = None

    def running(self) -> Enforcement | None:
        if isinstance(self.found, Exception):
            raise self.found
        return cast("Enforcement | None", self.found)


class Built:
    """Enforcement with an applier that remembers."""

    def __init__(self) -> None:
        self.applier = Told()


def at(**offsets: int) -> dict[int, Position]:
    return {int(name[1:]): Position(offset, "log") for name, offset in offsets.items()}


def test_a_gate_that_appears_later_is_told_that_nothing_was_told_before() -> None:
    gate, built = Appearing(), Built()
    live = at(p0=5, p1=6, p2=9)
    follower = LateFollower(cast(Enforcing, gate), lambda: (4, live))
    assert not follower.is_following
    follower.adopted(4, at(p0=1, p1=2))
    assert (follower.is_following, follower.applied()) == (False, {})
    gate.found = built
    assert follower.is_following
    assert built.applier.adopted_at == [(4, {0: 5, 1: 6})], "its own partitions, where they are now"
    assert follower.applied() == {0: 7}
    follower.adopted(5, at(p2=9))
    assert built.applier.adopted_at[1:] == [(5, {2: 9})]


@pytest.mark.parametrize("away", [GateUnavailable("away"), StoreUnavailable("away")])
def test_what_is_away_keeps_no_fold_waiting(away: Exception) -> None:
    gate = Appearing()

    def live() -> tuple[int, dict[int, Position]]:
        if isinstance(away, StoreUnavailable):
            raise away
        return 1, at(p0=5)

    gate.found = away if isinstance(away, GateUnavailable) else Built()
    follower = LateFollower(cast(Enforcing, gate), live)
    assert not follower.is_following


def test_enforcement_is_opened_once_and_finds_a_gate_that_was_started_again(tmp_path: Path) -> None:
    with opened_app(tmp_path / "home") as app:
        try:
            assert app.enforcing.running() is None
            assert not (tmp_path / "home" / "gate").exists()
            first = app.enforcing.started()
            stop_embedded_gate(tmp_path / "home")
            with pytest.raises(GateUnavailable):
                first.keep()
            assert app.enforcing.started() is first
            assert app.enforcing.running() is first
            assert first.keep()[0].epoch == 1
        finally:
            end_gate(tmp_path / "home")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.sqlite", partitions=PARTITIONS)
    yield log
    log.close()


def started(log: SqliteLog) -> list[str]:
    """The emitters of which partition 0 was told; the others were told the same."""
    told = [
        [decode(record.value) for record in log.read(partition, 0, max_records=100)]
        for partition in range(PARTITIONS)
    ]
    assert all(one == told[0] for one in told)
    return [event.emitter for event in told[0] if isinstance(event, EmitterStarted)]


def test_a_home_has_one_emitter_for_all_its_commands(tmp_path: Path, log: SqliteLog) -> None:
    first = CommandLineEmitter(tmp_path, log).identity().result()
    assert CommandLineEmitter(tmp_path, log).identity().result() == first
    assert started(log) == [first]
    emitter = CommandLineEmitter(tmp_path, log)
    emitter.begin_anew("em-another")
    assert emitter.identity().result() == first
    emitter.begin_anew(first)
    second = emitter.identity().result()
    assert second != first
    assert started(log) == [first, second]


def test_of_another_log_it_is_another_one(tmp_path: Path, log: SqliteLog) -> None:
    first = CommandLineEmitter(tmp_path, log).identity().result()
    other = SqliteLog(tmp_path / "other.sqlite", partitions=PARTITIONS)
    try:
        second = CommandLineEmitter(tmp_path, other).identity().result()
        assert (second != first, started(other)) == (True, [second])
    finally:
        other.close()


def test_it_is_told_of_before_it_is_used(
    tmp_path: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> list[int]:
        raise LogUnavailable("away")

    with monkeypatch.context() as while_away:
        while_away.setattr(SqliteLog, "append", refuse)
        emitter = CommandLineEmitter(tmp_path, log)
        assert isinstance(emitter.identity().exception(), LogUnavailable)
    assert started(log) == []
    assert started(log) == [emitter.identity().result()][1:]
    assert len(started(log)) == 1


def test_a_file_that_was_cut_off_begins_anew(tmp_path: Path, log: SqliteLog) -> None:
    first = CommandLineEmitter(tmp_path, log).identity().result()
    (tmp_path / "command-line.json").write_text('{"emitter": "em-')
    assert CommandLineEmitter(tmp_path, log).identity().result() != first


def test_a_name_means_one_hold_for_an_hour(tmp_path: Path, log: SqliteLog) -> None:
    emitter = CommandLineEmitter(tmp_path, log)
    emitter.identity().result()
    assert emitter.issued_millis("report", 1_000_000) == 1_000_000
    assert CommandLineEmitter(tmp_path, log).issued_millis("report", 1_500_000) == 1_000_000
    assert emitter.issued_millis("other", 1_500_000) == 1_500_000
    later = 1_000_000 + ISSUED_S * 1_000
    assert emitter.issued_millis("report", later) == later


def test_it_has_no_usage_of_its_own(tmp_path: Path, log: SqliteLog) -> None:
    with pytest.raises(Misuse, match="services report"):
        CommandLineEmitter(tmp_path, log).hand_in([])


def test_folding_alone_tells_the_gate(tk: CommandLine) -> None:
    """`status` only looks, so it is the other process that has told Redis of the cap."""
    tk.json("org", "open", "acme", "--plan", "enterprise_sales_assisted", "--owner", "ann")
    tk.json("hold", "acme", "ann", "--surface", "web", "--usd", "8")
    child = start(tk.home, "run", "--only", "consume")
    try:
        tk.json("cap", "set", "acme", "8")
        eventually(
            lambda: tk.json("status", "acme")["limits"][0]["open"] is False,
            what="a cap that is met",
        )
        gate = tk.json("status", "acme")["gate"]
        assert (gate["known"], gate["offset"]) == (True, gate["ledger_offset"])
    finally:
        child.terminate()
        child.communicate(timeout=30)


def test_where_a_primary_is_shows_in_metrics_and_health() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0], stuck_after_s=60)
    watch.gate.epoch("0", 7, "recovering")
    now[0] = 61.0
    (reason,) = watch.health.reasons()
    assert (reason.reason, reason.may_restart_help) == ("gate_closed", False)
    assert "epoch 7 is recovering" in reason.detail
    assert states(watch) == {"recovering"}
    watch.gate.epoch("0", 7, "superseded")
    assert watch.health.reasons() == [], "a newer release decides: nothing is wrong"
    watch.gate.epoch("0", 7, "open")
    assert states(watch) == {"open"}
    assert watch.health.reasons() == []


def states(watch: Watch) -> set[str]:
    """Those that the metrics say the primary is in."""
    shown = watch.exposition().decode()
    line = 'tollkeeper_gate_state{{primary="0",state="{}"}} 1.0'
    return {state for state in STATES if line.format(state) in shown}


def test_an_app_without_a_gate_opens_no_connection(tmp_path: Path) -> None:
    with opened_app(tmp_path / "home") as app:
        assert isinstance(app, App)
        app.enforcing.close()
        assert app.enforcing.running() is None
