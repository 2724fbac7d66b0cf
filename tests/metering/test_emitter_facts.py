"""Other facts than usage go the same way: durable when `report` returns, and then on the log."""

from __future__ import annotations

from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, usage, usages_on
from metering.lives import reached
from support.waiting import eventually

from tollkeeper.errors import InvalidEvent, InvalidInput, Misuse
from tollkeeper.log.partitioner import partition_for
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter

PARTITIONS = 4


def test_another_fact_than_usage_reaches_its_organizations_partition(tmp_path: Path) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path) as emitter:
        emitter.emit(usage(1))
        emitter.report(reached())
        emitter.emit(usage(2))
        assert emitter.flush(10)
        assert emitter.stats().acknowledged == 3
    (record,) = (r for r in log.read(partition_for("acme", PARTITIONS), 1, max_records=1))
    assert record.key == b"acme"
    assert [(e.input_tokens, e.sequence) for e in usages_on(log)] == [(1, 1), (2, 2)]


def test_a_reported_fact_is_durable_when_report_returns(tmp_path: Path) -> None:
    away = MemoryLog()
    away.is_away = True
    emitter = Emitter(away.open, tmp_path)
    emitter.report(reached())
    emitter.close(0.01)
    log = MemoryLog()
    eventually(lambda: drain_spools(tmp_path, log, timeout_s=10).owned == 0)
    assert sum(log.end_offsets().values()) == 1


def test_a_fact_that_breaks_its_rule_is_refused(tmp_path: Path) -> None:
    with Emitter(MemoryLog().open, tmp_path) as emitter:
        with pytest.raises(InvalidEvent, match="requested_micros"):
            emitter.report(reached(requested_micros=-1))
        with pytest.raises(InvalidInput, match="fact"):
            emitter.report("limit reached")  # type: ignore[arg-type] # what a caller may do all the same


def test_a_closed_emitter_takes_no_fact(tmp_path: Path) -> None:
    emitter = Emitter(MemoryLog().open, tmp_path)
    assert emitter.close()
    with pytest.raises(Misuse):
        emitter.report(reached())
