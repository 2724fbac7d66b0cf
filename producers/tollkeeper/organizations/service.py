"""Handling an organization's commands: loads its history, decides, and hands over to the desk."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from tollkeeper.errors import BrokenInvariant, InvalidInput
from tollkeeper.events.codec import decode, encode
from tollkeeper.events.display import as_document
from tollkeeper.events.ids import check_id, check_organization
from tollkeeper.events.organization import MAX_THRESHOLDS, OrganizationEvent, OrganizationFact
from tollkeeper.events.refusal import Refusal
from tollkeeper.events.rules import integer, optional_instant
from tollkeeper.log.partitioner import partition_for
from tollkeeper.money.amounts import MAX_CAP_NANOS
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    CommandContext,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetGatePolicy,
    SetRole,
    SetThresholds,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.organizations.decide import Terms, decide
from tollkeeper.organizations.state import OrganizationState, evolve
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Ask, CommandDesk, Decision, Outcome, used_before
from tollkeeper.outbox.store import Decided, read_stream
from tollkeeper.outbox.streams import organization_stream


class OrganizationCommands:
    """The write side of organizations."""

    def __init__(self, desk: CommandDesk) -> None:
        self._desk = desk

    def handle(self, command: Command, context: CommandContext) -> Outcome:
        """Carry out a command once: Done, Pending (the log is away) or Refusal.

        Raises InvalidInput for malformed ids and amounts, StoreUnavailable when SQL is away.
        """
        check_command(command, context)
        stream = organization_stream(command.organization)
        partition = partition_for(command.organization, self._desk.log.partition_count)

        def decide_now(connection: Connection, now: int) -> Decision | Refusal:
            known = history(connection, command.organization)
            first = [event for event in known if event.command_id == context.command_id]
            if first:
                return _repeated(command, context, known, first)
            decided = decide(command, _state_of(known), _terms(context, now))
            if isinstance(decided, Refusal):
                return decided
            rows = [_row(stream, partition, event, now) for event in decided]
            return Decision(rows, _answer(decided))

        content = (command, context.actor, context.occurred_at, context.reference)
        return self._desk.handle(
            Ask(command.organization, context.command_id, content, stream, partition), decide_now
        )

    def preview(self, command: Command, context: CommandContext) -> Refusal | None:
        """What would stand against the command now; None when nothing does. Changes nothing."""
        check_command(command, context)
        with reading(self._desk.engine) as connection:
            known = history(connection, command.organization)
        if any(event.command_id == context.command_id for event in known):
            return None  # it was done before: the first answer would be given again
        decided = decide(command, _state_of(known), _terms(context, self._desk.clock()))
        return decided if isinstance(decided, Refusal) else None


def load(connection: Connection, organization: str) -> OrganizationState | None:
    """The organization as of its last decided event; None when it was never opened."""
    return _state_of(history(connection, organization))


def history(connection: Connection, organization: str) -> list[OrganizationEvent]:
    """Every decided event of the organization, in order."""
    events: list[OrganizationEvent] = []
    for row in read_stream(connection, organization_stream(organization)):
        event = decode(row.value)
        if not isinstance(event, OrganizationFact):
            raise BrokenInvariant(f"{row.stream} holds a {type(event).__name__}")
        events.append(event)
    return events


def check_command(command: Command, context: CommandContext) -> None:
    """Refuse malformed ids and amounts before anything is looked up; names field and rule."""
    check_organization("organization", command.organization)
    check_id("actor", context.actor)
    check_id("command_id", context.command_id)
    if context.occurred_at is not None:
        _check_integer("occurred_at", context.occurred_at)
    match command:
        case OpenOrganization():
            check_id("owner", command.owner)
        case AddMember() | RemoveMember() | SetRole() | TransferOwnership():
            check_id("member", command.member)
        case VoidCredits():
            check_id("purchase_id", command.purchase_id)
        case SetCap():
            _check_cap(command)
        case SetThresholds():
            _check_thresholds(command)
        case SetGatePolicy():
            _check_gate_policy(command)
        case BuyCredits():
            _check_integer("credit_nanos", command.credit_nanos)


def _check_cap(command: SetCap) -> None:
    if (command.scope == "member") != (command.member is not None):
        raise InvalidInput("member", "must be given exactly for the cap of one member")
    if (command.setting == "capped") != (command.cap_nanos is not None):
        raise InvalidInput("cap_nanos", "must be given exactly for an amount")
    if command.cap_nanos is not None:
        _check_integer("cap_nanos", command.cap_nanos)
    if command.member is not None:
        check_id("member", command.member)


def _check_thresholds(command: SetThresholds) -> None:
    percents = command.cap_percents or ()
    if len(set(percents)) > MAX_THRESHOLDS:
        raise InvalidInput("cap_percents", f"must be at most {MAX_THRESHOLDS}")
    for percent in percents:
        integer(1, 100)("cap_percents", percent)
    if command.credits_low_percent is not None:
        integer(0, 100)("credits_low_percent", command.credits_low_percent)


def _check_gate_policy(command: SetGatePolicy) -> None:
    if (command.ceiling_nanos is not None) != (command.policy == "open"):
        raise InvalidInput("ceiling_nanos", "must be given exactly for the policy open")
    if command.policy == "inherit" and command.until is not None:
        raise InvalidInput("until", "must not be given for a policy that is inherited")
    if command.ceiling_nanos is not None:
        integer(0, MAX_CAP_NANOS)("ceiling_nanos", command.ceiling_nanos)
    optional_instant("until", command.until)


def _check_integer(field: str, value: object) -> None:
    if type(value) is not int:
        raise InvalidInput(field, f"must be a whole number, not {type(value).__name__}")


def _state_of(events: Iterable[OrganizationEvent]) -> OrganizationState | None:
    state: OrganizationState | None = None
    for event in events:
        state = evolve(state, event)
    return state


def _terms(context: CommandContext, now: int) -> Terms:
    return Terms(
        actor=context.actor,
        command_id=context.command_id,
        now=now,
        occurred_at=context.occurred_at,
        reference=context.reference,
    )


def _repeated(
    command: Command,
    context: CommandContext,
    known: list[OrganizationEvent],
    first: list[OrganizationEvent],
) -> Decision | Refusal:
    """The first answer again, from the events: the remembered answers went with a lost database.

    Whether it is the same command is decided by deciding it once more, as things stood then.
    """
    before = _state_of(event for event in known if event.version < first[0].version)
    decided = decide(command, before, _terms(context, first[0].occurred_at))
    if isinstance(decided, Refusal) or list(decided) != first:
        return used_before(context.command_id, first[0].occurred_at)
    return Decision((), _answer(decided), is_repeated=True)


def _row(stream: str, partition: int, event: OrganizationEvent, now: int) -> Decided:
    return Decided(
        stream=stream,
        version=event.version,
        log_partition=partition,
        record_key=event.organization.encode(),
        value=encode(event),
        command_id=event.command_id,
        decided_at=now,
    )


def _answer(events: tuple[OrganizationEvent, ...]) -> dict[str, object]:
    """What the caller hears: the organization, its new version, and each event's own fields."""
    answer: dict[str, object] = {}
    for event in events:
        answer.update(as_document(event))
    return answer
