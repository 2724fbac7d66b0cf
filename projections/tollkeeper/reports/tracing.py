"""Where is my event? On its way from the spool over the log to the ledger, or quarantined."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from tollkeeper.errors import InvalidInput, UnknownSchema
from tollkeeper.events.quarantined import Cause
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.ledger.batch import decode_outcome
from tollkeeper.ledger.dialect import dialect_of
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.loading import letter_of_row
from tollkeeper.ledger.rows import Letter
from tollkeeper.ledger.tables import LETTERS_BY_EVENT, dead_letter
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Log
from tollkeeper.reports.charges import charge_document, find_charge, price_lines
from tollkeeper.reports.letters import letter_document

MAX_SCANNED = 1_000_000
"""How many records that aren't folded yet are looked through."""
RECORDS_A_READ = 5_000


def trace_event(
    connection: Connection,
    log: Log,
    name: str,
    event_id: str,
    *,
    is_spooled: Callable[[str, str], bool],
) -> dict[str, object]:
    """What became of a usage event: its `status`, and all that is known about it there.

    `charged`, `conflict`, `quarantined`, `duplicate`, `discarded` (from the ledger), `on_log`,
    `spooled` or `unknown`, looked for in this order.
    """
    found: dict[str, object] = {"event_id": event_id, "organization": name}
    letters = _letters(connection, name, event_id)
    documents = [letter_document(letter) for letter in letters]
    charged = find_charge(connection, name, event_id)
    if charged is not None:
        return {
            **found,
            "status": "charged",
            "charge": charge_document(charged),
            "lines": price_lines(connection, charged),
            "dead_letters": documents,
        }
    if letters:
        return {**found, "status": _status(letters[-1]), "dead_letters": documents}
    place = _on_log(connection, log, name, event_id)
    if place is not None:
        return {
            **found,
            "status": "on_log",
            "position": {"partition": place[0], "offset": place[1]},
            "next_step": "run `tollkeeper consume --until-caught-up`",
        }
    if is_spooled(name, event_id):
        return {
            **found,
            "status": "spooled",
            "next_step": "it goes to the log as soon as that is reachable: `tollkeeper doctor`",
        }
    return {
        **found,
        "status": "unknown",
        "next_step": "check the id and the organization; if it was emitted elsewhere, look there",
    }


def _status(letter: Letter) -> str:
    if letter.status != "open":
        return letter.status
    return "conflict" if letter.cause == Cause.ID_CONFLICT else "quarantined"


def _letters(connection: Connection, name: str, event_id: str) -> list[Letter]:
    rows = dialect_of(connection).by_keys(
        connection,
        dead_letter,
        ("organization", "event_id"),
        {(name, event_id)},
        live_generation(connection),
        LETTERS_BY_EVENT,
    )
    return sorted(map(letter_of_row, rows), key=lambda letter: letter.place)


def _on_log(connection: Connection, log: Log, name: str, event_id: str) -> tuple[int, int] | None:
    partition = partition_for(name, log.partition_count)
    known = positions(connection, live_generation(connection)).get(partition)
    offset = 0 if known is None else known.next_offset
    last = offset + MAX_SCANNED
    while offset < last:
        records = log.read(partition, offset, max_records=RECORDS_A_READ)
        if not records:
            return None
        for record in records:
            try:
                outcome = decode_outcome(record.value)
            except UnknownSchema:
                continue
            if (
                isinstance(outcome, UsageRecorded)
                and outcome.event_id == event_id
                and outcome.organization == name
            ):
                return record.partition, record.offset
        offset = records[-1].next_offset
    raise InvalidInput(
        "event_id",
        f"isn't among the first {MAX_SCANNED} records that wait to be folded; consume them",
    )
