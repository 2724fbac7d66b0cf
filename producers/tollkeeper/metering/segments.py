"""Appends groups of frames to an emitter's newest segment; durable when `append` returns.

Must not know events, threads or the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from tollkeeper.failpoints import failpoint
from tollkeeper.metering.frames import frame_group, framed_bytes, seed_for
from tollkeeper.metering.spool import (
    FIRST,
    Place,
    SpoolDirectory,
    close_tracked,
    open_tracked,
    sync_directory,
)

Sync = Callable[[int], None]


class SegmentWriter:
    """Writes one emitter's segments. `durable` is up to where the disk has confirmed.

    `is_broken` means that what lies after `durable` is unknown: the kernel may report a failed sync
    once and then claim success, so the segment is never appended to again. Readers stop at `durable`.
    """

    def __init__(
        self, directory: SpoolDirectory, *, segment_bytes: int, sync: Sync = os.fdatasync
    ) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._descriptor: int | None = None
        self._seed = 0
        self.durable = FIRST
        self.is_broken = False

    def append(self, entries: Sequence[tuple[bytes, bytes]], spooled_at: int) -> int:
        """Write (organization, event) pairs as one group; answers the bytes that were added.

        OSError: none of them counts as written. Either the segment is again as it was before, or
        `is_broken` is set.
        """
        if self._descriptor is None:
            self._begin(self.durable)
        elif 0 < self.durable.position > self._segment_bytes - framed_bytes(entries):
            self._rotate()
        durable = self.durable
        data = frame_group(entries, spooled_at, position=durable.position, seed=self._seed)
        self._write(data)
        self.durable = Place(durable.segment, durable.position + len(data))
        return len(data)

    def close(self) -> None:
        """Close the file; every appended group is durable already."""
        if self._descriptor is not None:
            close_tracked(self._descriptor)
            self._descriptor = None

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None
        try:
            failpoint("spool.before_write")
            write_all(self._descriptor, data, self.durable.position)
            failpoint("spool.after_write")
        except OSError:
            self._truncate()
            raise
        try:
            self._sync(self._descriptor)
        except OSError:
            self.is_broken = True
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.durable.position)
            raise
        failpoint("spool.after_sync")

    def _truncate(self) -> None:
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, self.durable.position)
        except OSError:
            self.is_broken = True

    def _rotate(self) -> None:
        full = self._descriptor
        self._begin(Place(self.durable.segment + 1, 0))
        assert full is not None
        close_tracked(full)

    def _begin(self, place: Place) -> None:
        path = self._directory.segment_path(place.segment)
        descriptor = open_tracked(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        try:
            failpoint("spool.after_new_segment")
            sync_directory(self._directory.path)
        except BaseException:
            self.is_broken = True  # whether the name is durable is unknown
            close_tracked(descriptor)
            raise
        self._descriptor = descriptor
        self._seed = seed_for(self._directory.emitter, place.segment)
        self.durable = place


def write_all(descriptor: int, data: bytes, position: int) -> None:
    """Write all of `data` at `position`: a full disk may take a part and refuse the rest."""
    left = memoryview(data)
    while left:  # ends: every write takes at least a byte or raises
        written = os.pwrite(descriptor, left, position)
        left = left[written:]
        position += written
