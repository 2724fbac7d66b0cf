"""A refusal: the answer "no" to a command, with every reason as data (RULES R24). A value, no error."""

from __future__ import annotations

import msgspec


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that stands in the way, the rule behind it, and who can do what about it."""

    reason: str
    rule: str
    message: str
    who_can_lift: tuple[str, ...]
    next_step: str

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {**msgspec.structs.asdict(self), "who_can_lift": list(self.who_can_lift)}


class Refusal(msgspec.Struct, frozen=True):
    """A command that was understood and not carried out; nothing was changed."""

    reasons: tuple[Reason, ...]

    def as_document(self) -> dict[str, object]:
        """`{"refused": true, "reasons": [...]}`."""
        return {"refused": True, "reasons": [reason.as_document() for reason in self.reasons]}
