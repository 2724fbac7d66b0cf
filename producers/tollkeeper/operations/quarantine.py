"""Releasing and discarding dead letters: logged commands, so that a replay decides the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from tollkeeper.errors import InvalidInput
from tollkeeper.events.codec import decode, encode
from tollkeeper.events.ids import check_id
from tollkeeper.events.organization import OPERATOR
from tollkeeper.events.quarantine import (
    QuarantineDiscarded,
    QuarantineEvent,
    QuarantineReleased,
)
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.events.rules import free_text
from tollkeeper.outbox.deciding import Ask, CommandDesk, Decision, Outcome, used_before
from tollkeeper.outbox.store import Decided, read_stream
from tollkeeper.outbox.streams import quarantine_stream

SCOPE = "quarantine"
MAX_LETTERS = 1_000
"""How many letters one command decides; callers with more ask again."""
MAX_NAMED = 20
"""How many letters a refusal names."""

Place = tuple[int, int]
"""(partition, offset) of the quarantined record."""
StatusOf = Callable[[Connection, Place], str | None]
"""A letter's status as the ledger has it, `open` or how it was closed; None: there is none."""


def parse_letter_id(text: str) -> Place:
    """A letter's id as shown, `<partition>-<offset>`, to its place on the log."""
    found = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,18})", text)
    if found is None:
        raise InvalidInput("dead letter", f"must be PARTITION-OFFSET such as 3-1042, not {text!r}")
    return int(found[1]), int(found[2])


class QuarantineCommands:
    """The write side of dead letters; the platform's operator only."""

    def __init__(self, desk: CommandDesk, status_of: StatusOf) -> None:
        self._desk = desk
        self._status_of = status_of

    def release(self, letters: Sequence[Place], *, actor: str, command_id: str) -> Outcome:
        """Let these letters be folded again; those whose cause isn't gone stay open.

        Refused as a whole when one doesn't exist or is closed.
        """
        return self._decide(letters, None, actor, command_id)

    def discard(
        self, letters: Sequence[Place], *, reason: str, actor: str, command_id: str
    ) -> Outcome:
        """Close these letters for good; their usage is never charged. Refused like `release`."""
        if not reason.strip():
            raise InvalidInput("reason", "must say why the usage won't be charged")
        free_text("reason", reason)
        return self._decide(letters, reason, actor, command_id)

    def _decide(
        self, letters: Sequence[Place], reason: str | None, actor: str, command_id: str
    ) -> Outcome:
        check_id("command_id", command_id)
        places = sorted(set(letters))
        if not 0 < len(places) <= MAX_LETTERS:
            raise InvalidInput(
                "dead letters", f"must be 1 to {MAX_LETTERS} a command, not {len(places)}"
            )
        for partition, _ in places:
            if partition >= self._desk.log.partition_count:
                raise InvalidInput("dead letter", f"partition {partition} doesn't exist")

        def decide(connection: Connection, now: int) -> Decision | Refusal:
            if actor != OPERATOR:
                return _operator_only(actor)
            rows: list[Decided] = []
            obstacles: list[Reason] = []
            for place in places:
                stream = read_stream(connection, quarantine_stream(*place))
                first = next((row for row in stream if row.command_id == command_id), None)
                if first is None:
                    event = _event(place, reason, actor, command_id, now)
                    rows.append(_row(place, len(stream) + 1, event))
                    obstacles += self._obstacles(connection, place, stream)
                # The remembered answer went with a lost database; the decision itself didn't.
                elif decode(first.value) != _event(
                    place, reason, actor, command_id, first.decided_at
                ):
                    return used_before(command_id, first.decided_at)
            if obstacles:
                return Refusal(tuple(obstacles[:MAX_NAMED]))
            verb = "released" if reason is None else "discarded"
            answer: dict[str, object] = {"command_id": command_id, verb: len(places)}
            return Decision(rows, answer, is_repeated=not rows)

        content = (places, reason, actor)
        ask = Ask(SCOPE, command_id, content, _common_prefix(places))
        return self._desk.handle(ask, decide)

    def _obstacles(
        self, connection: Connection, place: Place, stream: Sequence[Decided]
    ) -> list[Reason]:
        """Why nothing can be decided about this letter; a discard counts before it is folded."""
        status = self._status_of(connection, place)
        if status is None:
            return [_obstacle(f"there is no dead letter {place[0]}-{place[1]}")]
        if stream and isinstance(decode(stream[-1].value), QuarantineDiscarded):
            status = "discarded"
        if status == "open":
            return []
        return [_obstacle(f"the dead letter {place[0]}-{place[1]} is {status} already")]


def _event(
    place: Place, reason: str | None, actor: str, command_id: str, now: int
) -> QuarantineEvent:
    if reason is None:
        return QuarantineReleased(
            letter_partition=place[0],
            letter_offset=place[1],
            command_id=command_id,
            actor=actor,
            occurred_at=now,
        )
    return QuarantineDiscarded(
        letter_partition=place[0],
        letter_offset=place[1],
        reason=reason,
        command_id=command_id,
        actor=actor,
        occurred_at=now,
    )


def _row(place: Place, version: int, event: QuarantineEvent) -> Decided:
    return Decided(
        stream=quarantine_stream(*place),
        version=version,
        log_partition=place[0],
        record_key=None,
        value=encode(event),
        command_id=event.command_id,
        decided_at=event.occurred_at,
    )


def _obstacle(message: str) -> Reason:
    return Reason(
        reason="dead_letter",
        rule="one decision a letter",
        message=message,
        who_can_lift=(),
        next_step="see the open ones: tollkeeper dead-letters list",
    )


def _common_prefix(places: Sequence[Place]) -> str:
    """The relay's scope: the one stream of a single letter, else all of the quarantine's."""
    if len(places) == 1:
        return quarantine_stream(*places[0])
    return f"{SCOPE}/"


def _operator_only(actor: str) -> Refusal:
    return Refusal(
        (
            Reason(
                reason="role",
                rule="R14",
                message=f"dead letters belong to the platform: only {OPERATOR} decides, not {actor}",
                who_can_lift=(OPERATOR,),
                next_step="leave --as out",
            ),
        )
    )
