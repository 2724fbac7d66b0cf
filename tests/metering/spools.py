"""Spools as dead emitters leave them, and ways to damage them."""

from __future__ import annotations

from pathlib import Path

from metering.fake_log import MemoryLog, usage
from support.waiting import eventually

from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.frames import MAGIC

SMALL = EmitterSettings(segment_bytes=1_000, first_backoff_s=0.005, max_backoff_s=0.02)


def abandoned(spool: Path, records: int, settings: EmitterSettings = SMALL) -> list[str]:
    """A spool left by an emitter whose log was away; answers the accepted ids."""
    log = MemoryLog()
    log.is_away = True
    emitter = Emitter(log.open, spool, settings=settings)
    ids = [emitter.emit(usage(n)) for n in range(records)]
    emitter.close(0.01)
    eventually(lambda: log.closed == 1)
    return ids


def segments(spool: Path) -> list[Path]:
    """The segment files of every emitter, oldest first."""
    return sorted(spool.glob("em-*/*.segment"))


def frame_starts(segment: Path) -> list[int]:
    """The positions of the frames."""
    data, starts, at = segment.read_bytes(), [], -1
    while (at := data.find(MAGIC, at + 1)) >= 0:
        starts.append(at)
    return starts


def flip(segment: Path, position: int) -> None:
    """Change one bit of one byte."""
    data = bytearray(segment.read_bytes())
    data[position] ^= 0x40
    segment.write_bytes(data)
