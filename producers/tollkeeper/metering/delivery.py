"""Sends one emitter's directory to the log, a batch at a time, and forgets what the log has taken.

Append, then cursor, then delete: dying anywhere between sends some records twice and loses none.
Must not know threads or waiting.
"""

from __future__ import annotations

import msgspec

from tollkeeper.failpoints import failpoint
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Log, Outgoing
from tollkeeper.metering.damage import set_aside
from tollkeeper.metering.frames import Frame
from tollkeeper.metering.reading import Bound, SpoolReader
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.spool import Place, SpoolDirectory


class Step(msgspec.Struct, frozen=True):
    """What one batch did. `freed_bytes` is what deleted segments gave back."""

    sent: int = 0
    damaged: int = 0
    torn: int = 0
    freed_bytes: int = 0
    is_at_end: bool = False


class Delivery:
    """The sending of one directory whose lock this process holds."""

    def __init__(
        self, directory: SpoolDirectory, settings: EmitterSettings, *, bound: Bound
    ) -> None:
        self.directory = directory
        self._settings = settings
        self._reader = SpoolReader(directory.path, bound=bound, max_bytes=settings.batch_bytes)
        self.place = directory.start()
        """Up to here the log has acknowledged everything."""

    def step(self, log: Log, *, at: int) -> Step:
        """Send the next batch. LogUnavailable and OSError leave everything to be tried again."""
        settings = self._settings
        piece = self._reader.read(self.place, max_frames=settings.batch_records)
        if piece.next == self.place:
            return Step(is_at_end=True)
        if piece.frames:
            partitions = log.partition_count
            records = [outgoing(frame, partitions) for frame in piece.frames]
            failpoint("sender.before_append")
            log.append(records, timeout_s=settings.append_timeout_s)
            failpoint("sender.after_append")
        if piece.damage is not None:
            set_aside(piece.damage, self.directory.segment_path(piece.damage.segment), at=at)
        freed_bytes = self._advance(piece.next)
        return Step(
            sent=len(piece.frames),
            damaged=int(piece.damage is not None),
            torn=int(piece.torn_bytes > 0),
            freed_bytes=freed_bytes,
        )

    def _advance(self, place: Place) -> int:
        self.directory.write_cursor(place)
        failpoint("sender.after_cursor")
        freed_bytes = 0
        if place.segment > self.place.segment:
            freed_bytes = self.directory.delete_segments(place.segment)
            failpoint("sender.after_delete")
        self.place = place
        return freed_bytes


def outgoing(frame: Frame, partition_count: int) -> Outgoing:
    """The frame's record, on its organization's partition."""
    partition = partition_for(frame.key.decode(), partition_count)
    return Outgoing(partition, frame.key, frame.value)
