"""Every error that Tollkeeper raises, split by what the caller should do about it.

TollkeeperError
├── InvalidInput            mend the input: names the field and the rule, and nothing was done
│   ├── InvalidEvent        a usage or organization event breaks its contract
│   ├── Undecodable         bytes that are no event at all
│   └── InvalidPrice        a price file or publication breaks a rule
├── Unavailable             try again: a service or the disk refused, and nothing was accepted
│   ├── LogUnavailable
│   ├── StoreUnavailable
│   ├── GateUnavailable     nothing may be taken for granted; a hold may be there all the same
│   ├── SpoolFull           the spool's bound or the disk is reached
│   └── SpoolFailed         the disk didn't confirm a write
├── Refused                 (gate.sdk) don't make the call: the gate said no, with every reason as data
├── Halted                  stop this partition: an operator must look, going on would lose money
│   ├── UnknownSchema       a newer producer than this consumer
│   ├── LogDiverged         the topic was recreated, truncated or rewritten
│   ├── LogGap              offsets are missing
│   ├── LogCorrupt          stored bytes don't match their checksum
│   └── BrokenInvariant     our own books contradict each other: a bug or a hand-made change
└── Misuse                  the program is wrong: closed emitter, unknown setting

A *refusal* of a command is a value (RULES R24), never an exception; only product services, which must not
go on with their call, get the gate's as one.
"""

from __future__ import annotations


class TollkeeperError(Exception):
    """The root of all errors raised by Tollkeeper."""


class InvalidInput(TollkeeperError):
    """Input that breaks a rule. `field` is the field's name, `rule` says what would be right."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class InvalidEvent(InvalidInput):
    """An event that decodes but breaks its contract."""


class Undecodable(InvalidInput):
    """Bytes that are no event of a known schema."""


class InvalidPrice(InvalidInput):
    """A price, a rate card or a publication that breaks a rule (RULES R15, R16)."""


class Unavailable(TollkeeperError):
    """A service is away or a resource is exhausted; nothing was accepted, so trying again is safe."""


class LogUnavailable(Unavailable):
    """The log can't be read or didn't acknowledge."""


class StoreUnavailable(Unavailable):
    """The projections can't be reached or are locked."""


class GateUnavailable(Unavailable):
    """Redis can't be asked, or its answer got lost; the same call again is safe, since it acts once."""


class SpoolFull(Unavailable):
    """The emitter's spool has reached its bound or the disk is full: the usage was *not* accepted."""


class SpoolFailed(Unavailable):
    """The disk didn't confirm a write: the usage counts as not accepted; emit it again by its id."""


class Halted(TollkeeperError):
    """Going on would lose or double money; `partition` stops until an operator has looked."""

    def __init__(self, message: str, *, partition: int | None = None) -> None:
        super().__init__(message)
        self.partition = partition


class UnknownSchema(Halted):
    """A schema id that this release doesn't know: upgrade the consumers before the producers."""

    def __init__(
        self, schema_id: int, *, partition: int | None = None, offset: int | None = None
    ) -> None:
        place = "" if partition is None else f"partition {partition}, offset {offset}: "
        super().__init__(
            f"{place}schema id {schema_id} is unknown to this release: upgrade the consumers, "
            "then start them again; nothing was skipped",
            partition=partition,
        )
        self.schema_id = schema_id


class LogDiverged(Halted):
    """The log isn't the one that the projections were folded from."""


class LogGap(Halted):
    """Offsets are missing between two records: records were lost."""


class LogCorrupt(Halted):
    """Bytes that the log stores don't match their checksum, asked for again and again."""


class BrokenInvariant(Halted):
    """Two of our own records contradict each other."""


class Misuse(TollkeeperError):
    """A call that can't be right whatever the data, for example `emit` on a closed emitter."""
