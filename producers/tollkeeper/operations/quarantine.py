"""Releasing and discarding dead letters: logged commands, so that a replay decides the same way."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection

from tollkeeper.errors import InvalidInput
from tollkeeper.events.codec import encode
from tollkeeper.events.ids import check_id
from tollkeeper.events.organization import OPERATOR
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.outbox.deciding import Ask, CommandDesk, Decision, Outcome
from tollkeeper.outbox.store import Decided, newest_version
from tollkeeper.outbox.streams import quarantine_stream

SCOPE = "quarantine"
MAX_LETTERS = 1_000
"""How many letters one command decides; callers with more ask again."""

Place = tuple[int, int]
"""(partition, offset) of the quarantined record."""


def parse_letter_id(text: str) -> Place:
    """A letter's id as shown, `<partition>-<offset>`, to its place on the log."""
    found = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,18})", text)
    if found is None:
        raise InvalidInput("dead letter", f"must be PARTITION-OFFSET such as 3-1042, not {text!r}")
    return int(found[1]), int(found[2])


class QuarantineCommands:
    """The write side of dead letters; the platform's operator only."""

    def __init__(self, desk: CommandDesk) -> None:
        self._desk = desk

    def release(self, letters: Sequence[Place], *, actor: str, command_id: str) -> Outcome:
        """Let these letters be folded again; those whose cause isn't gone stay open."""
        return self._decide(letters, None, actor, command_id)

    def discard(
        self, letters: Sequence[Place], *, reason: str, actor: str, command_id: str
    ) -> Outcome:
        """Close these letters for good; their usage is never charged."""
        if not reason.strip():
            raise InvalidInput("reason", "must say why the usage won't be charged")
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
            rows = [
                self._row(connection, place, reason, actor, command_id, now) for place in places
            ]
            verb = "released" if reason is None else "discarded"
            return Decision(rows, {"command_id": command_id, verb: len(rows)})

        content = (places, reason, actor)
        ask = Ask(SCOPE, command_id, content, _common_prefix(places))
        return self._desk.handle(ask, decide)

    @staticmethod
    def _row(
        connection: Connection,
        place: Place,
        reason: str | None,
        actor: str,
        command_id: str,
        now: int,
    ) -> Decided:
        partition, offset = place
        stream = quarantine_stream(partition, offset)
        event: QuarantineReleased | QuarantineDiscarded
        if reason is None:
            event = QuarantineReleased(
                letter_partition=partition,
                letter_offset=offset,
                command_id=command_id,
                actor=actor,
                occurred_at=now,
            )
        else:
            event = QuarantineDiscarded(
                letter_partition=partition,
                letter_offset=offset,
                reason=reason,
                command_id=command_id,
                actor=actor,
                occurred_at=now,
            )
        return Decided(
            stream=stream,
            version=newest_version(connection, stream) + 1,
            log_partition=partition,
            record_key=None,
            value=encode(event),
            command_id=command_id,
            decided_at=now,
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
