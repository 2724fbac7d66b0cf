"""The gate's default policy: the operator's decision, written to every partition of the log."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import Event, decode, encode
from tollkeeper.events.display import as_document
from tollkeeper.events.gate import DefaultGatePolicySet
from tollkeeper.events.ids import check_id
from tollkeeper.events.organization import OPERATOR, GatePolicy
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.events.rules import check_event
from tollkeeper.operations.everywhere import Everywhere
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Ask, CommandDesk, Decision, Outcome, used_before
from tollkeeper.outbox.streams import policies_stream

SCOPE = "policies"


class DefaultPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants to hold for every organization without a policy of its own.

    `ceiling_nanos` exactly for `open`; `until` None: no end, else it is `closed` afterwards.
    """

    policy: GatePolicy
    ceiling_nanos: int | None = None
    until: int | None = None


class PolicyCommands:
    """The write side of the default policy; the platform's operator only."""

    def __init__(self, desk: CommandDesk) -> None:
        self._desk = desk
        self._everywhere = Everywhere(desk.log.partition_count, policies_stream)

    def set_default(self, wanted: DefaultPolicy, *, actor: str, command_id: str) -> Outcome:
        """Set it: Done when every partition has it. Raises InvalidEvent for fields that don't fit."""
        check_id("actor", actor)
        check_id("command_id", command_id)

        def event(version: int, now: int) -> DefaultGatePolicySet:
            return DefaultGatePolicySet(
                version=version,
                policy=wanted.policy,
                ceiling_nanos=wanted.ceiling_nanos,
                until=wanted.until,
                command_id=command_id,
                actor=actor,
                occurred_at=now,
            )

        check_event(event(1, self._desk.clock()))

        def decide(connection: Connection, now: int) -> Decision | Refusal:
            stream = self._everywhere.longest(connection)
            lacking = self._everywhere.lacking(connection, stream)
            for row in stream:
                if row.command_id == command_id:  # the remembered answer went with a lost database
                    first = decode(row.value)
                    if first != event(row.version, row.decided_at):
                        return used_before(command_id, row.decided_at)
                    return Decision(lacking, self._answer(first), is_repeated=True)
            refusal = _obstacle(wanted, actor, now)
            if refusal is not None:
                return refusal
            decided = event(len(stream) + 1, now)
            value = encode(decided)
            rows = self._everywhere.rows(value, decided.version, command_id=command_id, now=now)
            return Decision([*lacking, *rows], self._answer(decided))

        content = ("set_default", actor, wanted)
        return self._desk.handle(Ask(SCOPE, command_id, content, self._everywhere.prefix), decide)

    def preview(self, wanted: DefaultPolicy, *, actor: str) -> Refusal | None:
        """What would stand against it now; None when nothing does. Changes nothing."""
        return _obstacle(wanted, actor, self._desk.clock())

    def in_force(self) -> DefaultGatePolicySet | None:
        """The newest that was decided; None: there never was one, and `closed` holds."""
        with reading(self._desk.engine) as connection:
            stream = self._everywhere.longest(connection)
        return _default(decode(stream[-1].value)) if stream else None

    def _answer(self, event: Event) -> dict[str, object]:
        return {**as_document(_default(event)), "partitions": self._desk.log.partition_count}


def _default(event: Event) -> DefaultGatePolicySet:
    if not isinstance(event, DefaultGatePolicySet):
        raise BrokenInvariant(f"a stream of policies holds a {type(event).__name__}")
    return event


def _obstacle(wanted: DefaultPolicy, actor: str, now: int) -> Refusal | None:
    reasons = []
    if actor != OPERATOR:
        reasons.append(
            Reason(
                reason="role",
                rule="R14",
                message=f"the gate's policies are the platform's: only {OPERATOR} sets them, not {actor}",
                who_can_lift=(OPERATOR,),
                next_step="leave --as out",
            )
        )
    if wanted.until is not None and wanted.until <= now:
        reasons.append(
            Reason(
                reason="until",
                rule="gate policy",
                message="the policy would end before it begins",
                who_can_lift=(),
                next_step="give a time to come, or leave --until out",
            )
        )
    return Refusal(tuple(reasons)) if reasons else None
