"""One life of an emitter: its id, its directory and its sequence per organization, from 1.

A new one begins when the emitter starts, in a forked child, and after the disk failed to confirm a
write; so a sequence number is never used for two events. Must not know threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tollkeeper.errors import InvalidEvent
from tollkeeper.events.codec import encode
from tollkeeper.events.gate import GateEvent
from tollkeeper.events.ids import check_organization, new_emitter_id
from tollkeeper.metering.delivery import Delivery
from tollkeeper.metering.segments import SegmentWriter, Sync
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.spool import Place, SpoolDirectory
from tollkeeper.metering.usage import InvalidUsage, Prepared, recorded


class Group(msgspec.Struct):
    """Encoded events that go to disk together, and the sequences that they will have used."""

    entries: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)
    sequences: dict[str, int] = msgspec.field(default_factory=dict)


class Incarnation:
    """Appends to its own directory and sends from it. One thread appends, one sends."""

    def __init__(
        self,
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        predecessor: str | None = None,
        new_id: Callable[[], str] = new_emitter_id,
        sync: Sync = os.fdatasync,
    ) -> None:
        self.emitter = new_id()
        self.directory = SpoolDirectory.create(spool_dir, self.emitter, predecessor)
        self.writer = SegmentWriter(
            self.directory, segment_bytes=settings.effective_segment_bytes, sync=sync
        )
        self.delivery = Delivery(self.directory, settings, bound=self.durable)
        self.written_records = 0
        self.sent_records = 0
        self.is_announced = False
        """Its id was asked for, so it may have holds: the log is to hear of its start and its end."""
        self.is_started = False
        """Every partition has its EmitterStarted."""
        self.is_retired = False
        """Nothing will be appended any more."""
        self._sequences: dict[str, int] = {}

    def durable(self) -> Place:
        """Up to where the disk has confirmed."""
        return self.writer.durable

    def encode(self, usages: Sequence[Prepared], group: Group) -> None:
        """Add a call's events to the group. InvalidUsage: the group is as it was before."""
        entries: list[tuple[bytes, bytes]] = []
        sequences = group.sequences
        before: dict[str, int] = {}
        try:
            for prepared in usages:
                organization = prepared.usage.organization
                if type(organization) is not str:
                    check_organization("organization", organization)
                sequence = sequences.get(organization)
                if sequence is None:
                    sequence = self._sequences.get(organization, 0)
                before.setdefault(organization, sequence)
                sequence += 1
                event = recorded(prepared, emitter=self.emitter, sequence=sequence)
                value = encode(event)  # refuses what would have no encoding as a key
                entries.append((organization.encode(), value))
                sequences[organization] = sequence
        except InvalidEvent as error:
            sequences.update(before)
            raise InvalidUsage(error.field, error.rule, len(entries)) from error
        group.entries += entries

    def encode_facts(self, facts: Sequence[GateEvent], group: Group) -> None:
        """Add other facts to the group; they have no sequence. InvalidEvent: nothing was added."""
        encoded = [encode(fact) for fact in facts]
        group.entries += [(f.organization.encode(), v) for f, v in zip(facts, encoded, strict=True)]

    def announce(self) -> None:
        """Make durable that this emitter may have holds. OSError: whether it is, is unknown."""
        if not self.is_announced:
            self.directory.announce()
            self.is_announced = True

    def append(self, group: Group, spooled_at: int) -> int:
        """Make the group durable; answers the bytes. OSError: nothing of it was accepted."""
        size = self.writer.append(group.entries, spooled_at)
        self._sequences.update(group.sequences)
        self.written_records += len(group.entries)
        return size

    def retire(self) -> None:
        """Append no more: what is durable is still sent."""
        self.writer.close()
        self.is_retired = True
