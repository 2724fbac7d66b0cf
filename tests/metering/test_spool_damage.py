"""Bytes that can't be read are moved aside with a note; everything readable is sent."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, ids_on, usage
from metering.spools import SMALL, abandoned, flip, frame_starts, segments

from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.spool import CURSOR


def test_a_damaged_frame_is_set_aside_and_the_rest_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = abandoned(tmp_path, 12)
    first = segments(tmp_path)[0]
    starts = frame_starts(first)
    original = first.read_bytes()
    flip(first, starts[1] + 40)
    damaged = first.read_bytes()[starts[1] : starts[2]]
    log = MemoryLog()
    with caplog.at_level(logging.WARNING, "tollkeeper.metering"):
        result = drain_spools(tmp_path, log, timeout_s=10, clock=lambda: 99)
    assert (result.sent, result.damaged, result.torn, result.left) == (11, 1, 0, 0)
    assert ids_on(log) == [ids[0], *ids[2:]]
    kept, note = sorted((tmp_path / "damaged").iterdir())
    assert kept.name == f"{first.parent.name}-00000001-{starts[1]}"
    assert kept.read_bytes() == damaged != original[starts[1] : starts[2]]
    assert json.loads(note.read_text()) == {
        "emitter": first.parent.name,
        "segment": 1,
        "start": starts[1],
        "end": starts[2],
        "cause": "the bytes are no frame",
        "bytes": starts[2] - starts[1],
        "found_at": 99,
    }
    assert "spool_damaged" in caplog.text
    assert not first.parent.exists()


@pytest.mark.parametrize("where", ["magic", "length", "crc", "body"])
def test_damage_at_any_part_of_a_frame_costs_only_that_frame(tmp_path: Path, where: str) -> None:
    ids = abandoned(tmp_path, 12)
    first = segments(tmp_path)[0]
    offset = {"magic": 0, "length": 5, "crc": 9, "body": 30}[where]
    flip(first, frame_starts(first)[1] + offset)
    log = MemoryLog()
    assert drain_spools(tmp_path, log, timeout_s=10).damaged == 1
    assert ids_on(log) == [ids[0], *ids[2:]]


def test_a_closed_segment_that_ends_early_is_damaged_not_torn(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 12)
    first = segments(tmp_path)[0]
    in_first = len(frame_starts(first))
    os.truncate(first, first.stat().st_size - 5)
    log = MemoryLog()
    result = drain_spools(tmp_path, log, timeout_s=10)
    assert (result.damaged, result.torn) == (1, 0)
    assert ids_on(log) == ids[: in_first - 1] + ids[in_first:]


def test_a_complete_last_frame_that_does_not_verify_is_damage(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 3)
    (segment,) = segments(tmp_path)
    flip(segment, segment.stat().st_size - 1)
    log = MemoryLog()
    result = drain_spools(tmp_path, log, timeout_s=10)
    assert (result.sent, result.damaged, result.torn) == (2, 1, 0)
    assert ids_on(log) == ids[:2]


def test_unfilled_blocks_at_the_end_are_torn(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 3)
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size + 4_096)
    log = MemoryLog()
    result = drain_spools(tmp_path, log, timeout_s=10)
    assert (result.sent, result.damaged, result.torn) == (3, 0, 1)
    assert ids_on(log) == ids


def test_a_missing_segment_is_damage_without_bytes(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 30)
    second = segments(tmp_path)[1]
    before, lost = len(frame_starts(segments(tmp_path)[0])), len(frame_starts(second))
    second.unlink()
    log = MemoryLog()
    assert drain_spools(tmp_path, log, timeout_s=10).damaged == 1
    assert ids_on(log) == ids[:before] + ids[before + lost :]
    (note,) = (tmp_path / "damaged").iterdir()
    assert json.loads(note.read_text())["cause"] == "the segment is missing"


@pytest.mark.parametrize("cursor", [b"", b"\0" * 20, b"rubbish that is long", b"\xff" * 100])
def test_a_cursor_that_does_not_verify_sends_again_from_the_start(
    tmp_path: Path, cursor: bytes
) -> None:
    ids = abandoned(tmp_path, 12)
    (path,) = tmp_path.rglob(CURSOR)
    path.write_bytes(cursor)
    log = MemoryLog()
    result = drain_spools(tmp_path, log, timeout_s=10)
    assert (result.sent, result.damaged) == (12, 0)
    assert ids_on(log) == ids


def test_damage_in_a_living_emitters_spool_is_set_aside_too(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    with Emitter(log.open, tmp_path, settings=SMALL) as emitter:
        ids = [emitter.emit(usage(n)) for n in range(12)]
        newest = segments(tmp_path)[-1]
        flip(newest, newest.stat().st_size - 1)
        log.is_away = False
        assert emitter.flush(10)
        more = [emitter.emit(usage(n)) for n in range(3)]
        assert emitter.flush(10)
        stats = emitter.stats()
    assert (stats.damaged, stats.torn) == (1, 0)
    assert ids_on(log) == ids[:-1] + more
    assert len(list((tmp_path / "damaged").iterdir())) == 2


def test_while_damage_cannot_be_set_aside_nothing_is_deleted(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 3)
    (segment,) = segments(tmp_path)
    flip(segment, frame_starts(segment)[1])
    (tmp_path / "damaged").write_text("a file is in the way")
    log = MemoryLog()
    with pytest.raises(FileExistsError):
        drain_spools(tmp_path, log, timeout_s=10)
    assert ids_on(log) == ids[:1]
    (tmp_path / "damaged").unlink()
    assert drain_spools(tmp_path, log, timeout_s=10).sent == 1
    assert ids_on(log) == [ids[0], ids[2]]
