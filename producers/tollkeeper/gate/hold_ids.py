"""Ids of holds: organization, emitter and time of issue, so that one is enough to release it. Pure."""

from __future__ import annotations

import re

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import MAX_ID_LENGTH, check_key

_SHAPE = re.compile(
    r"(?P<organization>[^/]+)/(?P<emitter>[^/]+)/(?P<issued>[0-9]{1,15})/(?P<suffix>[^/]+)"
)


class HoldId(msgspec.Struct, frozen=True):
    """`ORGANIZATION/EMITTER/ISSUED/SUFFIX`; the suffix tells holds of one millisecond apart."""

    organization: str
    emitter: str
    issued_millis: int
    suffix: str

    def __str__(self) -> str:
        return f"{self.organization}/{self.emitter}/{self.issued_millis}/{self.suffix}"


def hold_id(organization: str, emitter: str, *, issued_millis: int, suffix: str) -> str:
    """A hold's id. InvalidInput when the event that will carry it couldn't."""
    text = str(HoldId(organization, emitter, issued_millis, suffix))
    parse_hold_id(text)
    return text


def parse_hold_id(text: str) -> HoldId:
    """The parts of an id. InvalidInput names what it has to look like."""
    check_key("hold_id", text)
    parts = _SHAPE.fullmatch(text)
    if parts is None:
        raise InvalidInput(
            "hold_id",
            f"must be ORGANIZATION/EMITTER/ISSUED/SUFFIX in at most {MAX_ID_LENGTH} characters",
        )
    return HoldId(parts["organization"], parts["emitter"], int(parts["issued"]), parts["suffix"])
