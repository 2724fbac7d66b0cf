"""Moves bytes that can't be read aside, with a note of the cause: they may be someone's money.

Must not know the sender.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from tollkeeper.logline import LogLine
from tollkeeper.metering.frames import MAX_FRAME_BYTES
from tollkeeper.metering.spool import DAMAGED, sync_directory

logger = logging.getLogger(__name__)


class Damage(msgspec.Struct, frozen=True):
    """A stretch of a segment that holds no readable frame."""

    emitter: str
    segment: int
    start: int
    end: int
    cause: str


def set_aside(damage: Damage, segment_path: Path, *, at: int) -> Path:
    """Copy the bytes to `<spool_dir>/damaged/<emitter>-<segment>-<position>`, durably.

    A second time writes the same again: the caller may have died before it moved on.
    """
    folder = segment_path.parent.parent / DAMAGED
    folder.mkdir(exist_ok=True)
    target = folder / f"{damage.emitter}-{damage.segment:08d}-{damage.start}"
    note = {**msgspec.structs.asdict(damage), "bytes": damage.end - damage.start, "found_at": at}
    if damage.end > damage.start:
        _copy(segment_path, damage.start, damage.end, target)
    _write(target.with_name(target.name + ".json"), msgspec.json.encode(note))
    sync_directory(folder)
    logger.warning(
        LogLine(
            "spool_damaged",
            emitter=damage.emitter,
            segment=damage.segment,
            position=damage.start,
            bytes=damage.end - damage.start,
            cause=damage.cause,
            moved_to=str(target),
        )
    )
    return target


def _copy(source: Path, start: int, end: int, target: Path) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        reading.seek(start)
        left = end - start
        while left > 0:  # ends: each turn reads at least a byte or finds the file shorter
            chunk = reading.read(min(left, 16 * MAX_FRAME_BYTES))
            if not chunk:
                break
            writing.write(chunk)
            left -= len(chunk)
        writing.flush()
        os.fsync(writing.fileno())


def _write(target: Path, data: bytes) -> None:
    with target.open("wb") as writing:
        writing.write(data)
        writing.flush()
        os.fsync(writing.fileno())
