"""Publishing and withdrawing prices: one fact, decided once, written to every partition of the log."""

from __future__ import annotations

from sqlalchemy import Connection

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import decode, encode
from tollkeeper.events.ids import check_id
from tollkeeper.events.organization import OPERATOR
from tollkeeper.events.prices import PriceEvent, PricesPublished, PricesWithdrawn
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Ask, CommandDesk, Decision, Done, Outcome
from tollkeeper.outbox.store import Decided, count_waiting, newest_version, read_stream
from tollkeeper.outbox.streams import prices_stream
from tollkeeper.rating.files import built_in_proposals
from tollkeeper.rating.publication import Proposal, decide_publication, decide_withdrawal

SCOPE = "prices"


class PriceCommands:
    """The write side of prices; the platform's operator only (RULES R14, R16)."""

    def __init__(self, desk: CommandDesk) -> None:
        self._desk = desk

    def publish(self, proposal: Proposal, *, actor: str, command_id: str) -> Outcome:
        """Publish prices: Done when every partition has them, Pending when some still wait."""
        check_id("publication_id", proposal.publication_id)
        check_id("command_id", command_id)

        def decide(connection: Connection, now: int) -> Decision | Refusal:
            refusal = _operator_only(actor) or decide_publication(
                known_publications(connection), proposal, now=now
            )
            if refusal is not None:
                return refusal
            event = PricesPublished(
                publication_id=proposal.publication_id,
                effective_from=proposal.effective_from,
                source=proposal.source,
                source_date=proposal.source_date,
                prices=proposal.prices,
                command_id=command_id,
                actor=actor,
                occurred_at=now,
            )
            return self._to_every_partition(connection, event, now)

        return self._desk.handle(self._ask(command_id, ("publish", actor, proposal)), decide)

    def withdraw(self, publication_id: str, *, actor: str, command_id: str) -> Outcome:
        """Take a publication back that isn't in force yet."""
        check_id("publication_id", publication_id)
        check_id("command_id", command_id)

        def decide(connection: Connection, now: int) -> Decision | Refusal:
            refusal = _operator_only(actor) or decide_withdrawal(
                known_publications(connection), publication_id, now=now
            )
            if refusal is not None:
                return refusal
            event = PricesWithdrawn(
                publication_id=publication_id, command_id=command_id, actor=actor, occurred_at=now
            )
            return self._to_every_partition(connection, event, now)

        return self._desk.handle(self._ask(command_id, ("withdraw", actor, publication_id)), decide)

    def ensure_built_in(self) -> list[Outcome]:
        """Publish the built-in prices that aren't published yet, in their order; idempotent."""
        with reading(self._desk.engine) as connection:
            known = {one.publication_id for one in known_publications(connection)}
            waits = count_waiting(connection, stream_prefix=prices_stream_prefix())
        outcomes: list[Outcome] = []
        for proposal in built_in_proposals():
            if proposal.publication_id in known and not waits:
                continue
            outcome = self.publish(
                proposal, actor=OPERATOR, command_id=f"setup:{proposal.publication_id}"
            )
            outcomes.append(outcome)
            if not isinstance(outcome, Done):
                break
        return outcomes

    def _ask(self, command_id: str, content: object) -> Ask:
        return Ask(SCOPE, command_id, content, prices_stream_prefix())

    def _to_every_partition(self, connection: Connection, event: PriceEvent, now: int) -> Decision:
        value = encode(event)
        rows = []
        for partition in range(self._desk.log.partition_count):
            stream = prices_stream(partition)
            rows.append(
                Decided(
                    stream=stream,
                    version=newest_version(connection, stream) + 1,
                    log_partition=partition,
                    record_key=None,
                    value=value,
                    command_id=event.command_id,
                    decided_at=now,
                )
            )
        return Decision(
            rows,
            {
                "event": type(event).__name__,
                "publication_id": event.publication_id,
                "command_id": event.command_id,
                "partitions": len(rows),
            },
        )


def prices_stream_prefix() -> str:
    """What the price streams of all partitions begin with."""
    return prices_stream(0).removesuffix("0")


def known_publications(connection: Connection) -> list[PricesPublished]:
    """Every publication that was decided and not withdrawn, in order. All partitions have the same."""
    known: dict[str, PricesPublished] = {}
    for row in read_stream(connection, prices_stream(0)):
        event = decode(row.value)
        if isinstance(event, PricesPublished):
            known[event.publication_id] = event
        elif isinstance(event, PricesWithdrawn):
            known.pop(event.publication_id, None)
        else:
            raise BrokenInvariant(f"{row.stream} holds a {type(event).__name__}")
    return list(known.values())


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
