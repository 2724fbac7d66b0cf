"""Why a record on the log was quarantined instead of folded: the closed set of causes."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Each value is stored, shown and matched by commands: never rename one."""

    UNDECODABLE = "undecodable"  # no event of a known schema: framing, body, size
    INVALID = "invalid"  # decodes, but a field breaks its rule
    WRONG_PARTITION = "wrong_partition"  # stands on a partition that isn't its organization's
    UNKNOWN_ORGANIZATION = "unknown_organization"  # releasable once the organization was opened
    UNPRICED = "unpriced"  # releasable once the price was published (R16)
    FUTURE = "future"  # occurred later than the log's own time allows; releasable
    TOO_LARGE = (
        "too_large"  # a charge, or all charges of an organization, beyond what sums can hold
    )
    ID_CONFLICT = "id_conflict"  # an event id that was charged with other content
    VERSION_CONFLICT = (
        "version_conflict"  # an organization version that was folded with other content
    )
    VERSION_GAP = "version_gap"  # an organization version whose predecessor isn't on the log
    IMPOSSIBLE = "impossible"  # an organization event that contradicts the organization's history


RELEASABLE = frozenset(
    {Cause.UNKNOWN_ORGANIZATION, Cause.UNPRICED, Cause.FUTURE, Cause.VERSION_GAP}
)
