"""Publishing and withdrawing prices: one fact, decided once, written to every partition of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
from sqlalchemy import Connection

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import Event, decode, encode
from tollkeeper.events.ids import check_id
from tollkeeper.events.organization import OPERATOR
from tollkeeper.events.prices import PriceEvent, PricesPublished, PricesWithdrawn
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.operations.everywhere import Everywhere
from tollkeeper.outbox.database import reading, writing
from tollkeeper.outbox.deciding import Ask, CommandDesk, Decision, Done, Outcome, used_before
from tollkeeper.outbox.store import (
    Decided,
    VersionTaken,
    append_decided,
    count_waiting,
    read_stream,
)
from tollkeeper.outbox.streams import prices_stream
from tollkeeper.rating.files import built_in_proposals
from tollkeeper.rating.publication import (
    Proposal,
    check_proposal,
    decide_publication,
    decide_withdrawal,
)

SCOPE = "prices"


class PriceCommands:
    """The write side of prices; the platform's operator only (RULES R14, R16)."""

    def __init__(self, desk: CommandDesk) -> None:
        self._desk = desk
        self._everywhere = Everywhere(desk.log.partition_count, prices_stream)

    def publish(self, proposal: Proposal, *, actor: str, command_id: str) -> Outcome:
        """Publish prices: Done when every partition has them, Pending when some still wait.

        Raises InvalidPrice for a proposal that couldn't stand on the log.
        """
        check_proposal(proposal)

        def refuse(history: PriceHistory, now: int) -> Refusal | None:
            return decide_publication(
                history.publications, proposal, now=now, withdrawn=history.withdrawn
            )

        def event(now: int) -> PriceEvent:
            return PricesPublished(
                publication_id=proposal.publication_id,
                effective_from=proposal.effective_from,
                source=proposal.source,
                source_date=proposal.source_date,
                prices=proposal.prices,
                command_id=command_id,
                actor=actor,
                occurred_at=now,
            )

        return self._decide(("publish", actor, proposal), actor, command_id, refuse, event)

    def withdraw(self, publication_id: str, *, actor: str, command_id: str) -> Outcome:
        """Take a publication back that isn't in force yet."""
        check_id("publication_id", publication_id)

        def refuse(history: PriceHistory, now: int) -> Refusal | None:
            return decide_withdrawal(history.publications, publication_id, now=now)

        def event(now: int) -> PriceEvent:
            return PricesWithdrawn(
                publication_id=publication_id, command_id=command_id, actor=actor, occurred_at=now
            )

        return self._decide(("withdraw", actor, publication_id), actor, command_id, refuse, event)

    def ensure_built_in(self) -> list[Outcome]:
        """Publish the built-in prices that aren't published yet, in their order; idempotent.

        What only some partitions have (SQL was lost meanwhile) is handed to the relay for the others.
        """
        with reading(self._desk.engine) as connection:
            known = {one.publication_id for one in known_publications(connection)}
            waits = count_waiting(connection, stream_prefix=prices_stream_prefix())
            is_complete = self._everywhere.is_complete(connection)
        proposals = [
            one for one in built_in_proposals() if waits or one.publication_id not in known
        ]
        if is_complete and not proposals:
            return []
        if self._desk.count_behind(range(self._desk.log.partition_count)):
            return []  # SQL was set back: what was published is still to be folded
        if not is_complete:
            with suppress(VersionTaken), writing(self._desk.engine) as connection:
                longest = self._everywhere.longest(connection)
                append_decided(connection, self._everywhere.lacking(connection, longest))
        outcomes: list[Outcome] = []
        for proposal in proposals:
            outcome = self.publish(
                proposal, actor=OPERATOR, command_id=f"setup:{proposal.publication_id}"
            )
            outcomes.append(outcome)
            if not isinstance(outcome, Done):
                break
        return outcomes

    def _decide(
        self,
        content: object,
        actor: str,
        command_id: str,
        refuse: Callable[[PriceHistory, int], Refusal | None],
        event: Callable[[int], PriceEvent],
    ) -> Outcome:
        check_id("command_id", command_id)

        def decide(connection: Connection, now: int) -> Decision | Refusal:
            stream = self._everywhere.longest(connection)
            lacking = self._everywhere.lacking(connection, stream)
            for row in stream:
                if row.command_id == command_id:  # the remembered answer went with a lost database
                    first = decode(row.value)
                    if first != event(row.decided_at):
                        return used_before(command_id, row.decided_at)
                    return Decision(lacking, self._answer(first), is_repeated=True)
            refusal = _operator_only(actor) or refuse(_history(stream), now)
            if refusal is not None:
                return refusal
            decided = event(now)
            rows = self._everywhere.rows(
                encode(decided), len(stream) + 1, command_id=command_id, now=now
            )
            return Decision([*lacking, *rows], self._answer(decided))

        return self._desk.handle(Ask(SCOPE, command_id, content, self._everywhere.prefix), decide)

    def _answer(self, event: Event) -> dict[str, object]:
        if not isinstance(event, PriceEvent):
            raise BrokenInvariant(f"a stream of prices holds a {type(event).__name__}")
        return {
            "event": type(event).__name__,
            "publication_id": event.publication_id,
            "command_id": event.command_id,
            "partitions": self._desk.log.partition_count,
        }


class PriceHistory(msgspec.Struct, frozen=True):
    """Every publication that was decided and not withdrawn, in order; and the ids of withdrawn ones."""

    publications: list[PricesPublished]
    withdrawn: frozenset[str]


def price_history(connection: Connection) -> PriceHistory:
    """What was decided about prices, as one partition has it."""
    return _history(read_stream(connection, prices_stream(0)))


def known_publications(connection: Connection) -> list[PricesPublished]:
    """Every publication that was decided and not withdrawn, in order."""
    return price_history(connection).publications


def prices_stream_prefix() -> str:
    """What the price streams of all partitions begin with."""
    return prices_stream(0).removesuffix("0")


def _history(stream: Sequence[Decided]) -> PriceHistory:
    known: dict[str, PricesPublished] = {}
    withdrawn = set()
    for row in stream:
        event = decode(row.value)
        if isinstance(event, PricesPublished):
            known[event.publication_id] = event
        elif isinstance(event, PricesWithdrawn):
            known.pop(event.publication_id, None)
            withdrawn.add(event.publication_id)
        else:
            raise BrokenInvariant(f"{row.stream} holds a {type(event).__name__}")
    return PriceHistory(list(known.values()), frozenset(withdrawn))


def _operator_only(actor: str) -> Refusal | None:
    if actor == OPERATOR:
        return None
    return Refusal(
        (
            Reason(
                reason="role",
                rule="R14",
                message=f"prices belong to the platform: only {OPERATOR} may change them, not {actor}",
                who_can_lift=(OPERATOR,),
                next_step="leave --as out",
            ),
        )
    )
