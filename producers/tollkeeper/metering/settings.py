"""The emitter's bounds, each with its unit. Knows nothing of what keeps them."""

from __future__ import annotations

import msgspec

from tollkeeper.errors import Misuse

MIB = 1024 * 1024


class EmitterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound that the emitter keeps. The defaults suit a service with some thousand calls/s."""

    max_spool_bytes: int = 1024 * MIB
    """What the whole spool directory may hold, other emitters' spools included as last measured."""
    segment_bytes: int = 8 * MIB
    """A segment file is closed at this size; it is deleted once the log has acknowledged all of it."""
    max_waiting_records: int = 50_000
    """Usages in memory that aren't on disk yet; also the most that one `emit_many` takes."""
    max_group_records: int = 5_000
    """Usages that share one write and one sync, unless a single `emit_many` brings more."""
    full_timeout_s: float = 5.0
    """How long `emit` waits for room, in memory or on disk, before it raises SpoolFull."""
    sync_timeout_s: float = 60.0
    """How long `emit` waits for a disk that doesn't answer, before it raises SpoolFailed."""
    batch_records: int = 2_000
    """Records that the sender appends to the log at once."""
    batch_bytes: int = MIB // 2
    """Bytes that the sender reads from the spool at once."""
    append_timeout_s: float = 10.0
    """The bound on one attempt to append to the log."""
    first_backoff_s: float = 0.1
    max_backoff_s: float = 15.0
    """After a failed attempt the sender waits, doubling from first to max, with jitter."""
    takeover_interval_s: float = 10.0
    """How often the spools of processes that died are looked for."""
    exit_timeout_s: float = 2.0
    """How long the end of the process waits for the log; what is left stays in the spool."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise Misuse(f"{name} must be greater than zero")
        if self.first_backoff_s > self.max_backoff_s:
            raise Misuse("first_backoff_s must be at most max_backoff_s")

    @property
    def effective_segment_bytes(self) -> int:
        """Small enough that a full spool always has a closed segment that sending can free."""
        return min(self.segment_bytes, max(1, self.max_spool_bytes // 4))
