"""Reads an emitter's frames in the order of writing, from the disk, in bounded pieces.

Tells frames, damaged stretches and a torn end apart. Must not know the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from tollkeeper.metering.damage import Damage
from tollkeeper.metering.frames import (
    MAX_FRAME_BYTES,
    Frame,
    find_frame,
    is_torn,
    parse,
    seed_for,
)
from tollkeeper.metering.spool import Place, segment_numbers

MAX_FRAMES_A_READ = 100_000

Bound = Callable[[], Place | None]
"""Up to where to read: what the living writer has made durable, or None for a dead one's files."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """What was read from one place to the next: frames, or damage, or neither.

    `next` is where reading goes on; it equals the place asked for exactly at the end. `torn_bytes`
    were written by a call that never got its answer: they are no damage and no usage.
    """

    next: Place
    frames: list[Frame]
    damage: Damage | None = None
    torn_bytes: int = 0


class SpoolReader:
    """Reads one emitter's directory."""

    def __init__(self, path: Path, *, bound: Bound, max_bytes: int = 1 << 20) -> None:
        self._path = path
        self._emitter = path.name
        self._bound = bound
        self._max_bytes = max(max_bytes, MAX_FRAME_BYTES)

    def read(self, place: Place, *, max_frames: int = MAX_FRAMES_A_READ) -> Piece:
        """What stands at `place`."""
        bound = self._bound()
        if bound is not None and place >= bound:
            return Piece(place, [])
        segments = segment_numbers(self._path)
        if bound is not None:
            segments = [number for number in segments if number <= bound.segment]
        if place.segment not in segments:
            return self._skip_missing(place, segments, bound)
        is_last = place.segment == segments[-1]
        end = bound.position if bound is not None and is_last else self._size(place.segment)
        if place.position >= end:
            return Piece(place if is_last else Place(place.segment + 1, 0), [])
        return self._read_within(place, end, max_frames, may_be_torn=bound is None and is_last)

    def _read_within(self, place: Place, end: int, max_frames: int, *, may_be_torn: bool) -> Piece:
        seed = seed_for(self._emitter, place.segment)
        data = self._bytes(place, min(end, place.position + self._max_bytes))
        frames, position, stop = parse(
            data, position=place.position, seed=seed, max_frames=max_frames
        )
        if frames:
            return Piece(Place(place.segment, position), frames)
        rest = self._bytes(place, end)
        resumed = find_frame(rest, position=place.position, seed=seed)
        if resumed is None and may_be_torn and is_torn(rest, position=place.position, seed=seed):
            return Piece(Place(place.segment, end), [], torn_bytes=len(rest))
        after = end if resumed is None else resumed
        damage = Damage(self._emitter, place.segment, place.position, after, stop.value)
        return Piece(Place(place.segment, after), [], damage)

    def _skip_missing(self, place: Place, segments: list[int], bound: Place | None) -> Piece:
        """A segment is deleted once the cursor has passed it; one missing before that is a loss."""
        later = [Place(number, 0) for number in segments if number > place.segment]
        following = later[0] if later else bound
        if following is None:
            return Piece(place, [])
        damage = Damage(
            self._emitter, place.segment, place.position, place.position, "the segment is missing"
        )
        return Piece(following, [], damage)

    def _size(self, segment: int) -> int:
        return os.stat(self._file(segment)).st_size

    def _bytes(self, place: Place, end: int) -> bytes:
        descriptor = os.open(self._file(place.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, end - place.position, place.position)
        finally:
            os.close(descriptor)

    def _file(self, segment: int) -> Path:
        return self._path / f"{segment:08d}.segment"
