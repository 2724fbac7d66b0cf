"""How a member of the consumer group works: its group, its batches, its patience."""

from __future__ import annotations

import msgspec

GROUP = "tollkeeper"


class PipelineSettings(msgspec.Struct, frozen=True):
    """`max_records` bounds a batch, `linger_s` how long it may stay open for more.

    `commit_interval_s` is how often, at most, progress is published on the log for lag tools, and
    `look_interval_s` how often an idle member looks whether the log is still the same.
    """

    group: str = GROUP
    max_records: int = 5_000
    linger_s: float = 0.25
    poll_timeout_s: float = 0.25
    commit_interval_s: float = 1.0
    look_interval_s: float = 5.0
