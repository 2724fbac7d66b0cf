"""What every adapter of the ledger port must do; a backend's test module inherits the suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Row, Table, insert, select
from support.events import NOON, prices

from tollkeeper.errors import BrokenInvariant, Misuse
from tollkeeper.events.codec import encode
from tollkeeper.events.quarantined import Cause
from tollkeeper.ledger import writing_changes
from tollkeeper.ledger.port import Move, Position
from tollkeeper.ledger.rows import (
    CapRow,
    ChargeRow,
    CreditRow,
    DecidedRow,
    EmitterRow,
    Letter,
    MemberRow,
    PublicationRow,
)
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.ledger.tables import charge, generation, spend
from tollkeeper.ledger.view import Changes, OrganizationTotals, View, Wanted
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.tables import decided_event

LOG = "log-1"
GENERATION = 1


def charge_row(event_id: str, offset: int, **fields: object) -> ChargeRow:
    """A charge of 3,000,000 nano-USD at (0, offset)."""
    row = ChargeRow(
        event_id=event_id,
        organization="acme",
        member="ann",
        surface="web",
        model="m",
        input_tokens=1_000,
        output_tokens=100,
        cache_read_tokens=0,
        cache_write_5m_tokens=0,
        cache_write_1h_tokens=0,
        web_search_requests=0,
        service_tier="standard",
        speed="standard",
        region="global",
        usage_source="reported",
        request_id=None,
        hold_id=None,
        occurred_at=NOON,
        emitter="em-1",
        sequence=1,
        payload_hash=b"h" * 16,
        appended_at=NOON,
        period_start=NOON,
        is_late=0,
        is_member_unknown=0,
        input_nanos=2_000_000,
        output_nanos=1_000_000,
        cache_read_nanos=0,
        cache_write_5m_nanos=0,
        cache_write_1h_nanos=0,
        web_search_nanos=0,
        charge_nanos=3_000_000,
        publication_id="p-1",
        log_partition=0,
        log_offset=offset,
        released_offset=None,
    )
    return row._replace(**fields)  # type: ignore[arg-type]  # a test names any column


def letter(offset: int, **fields: object) -> Letter:
    """An open dead letter of one usage event at (0, offset)."""
    return Letter(
        **{  # type: ignore[arg-type]  # a test names any field
            "log_partition": 0,
            "log_offset": offset,
            "cause": Cause.UNPRICED,
            "field": "model",
            "detail": "no price",
            "organization": "acme",
            "event_id": "e-1",
            "member": "ann",
            "model": "m",
            "counts": (1, 2, 3, 4, 5, 6),
            "payload_hash": b"h" * 16,
            "record_key": b"acme",
            "raw": b"\x00raw",
            "appended_at": NOON,
            **fields,
        }
    )


def totals(**fields: object) -> OrganizationTotals:
    """The organization acme, just opened."""
    return OrganizationTotals(
        **{  # type: ignore[arg-type]  # a test names any field
            "organization": "acme",
            "plan": "enterprise_self_serve",
            "channel": "self_serve",
            "primary_owner": "ann",
            "opened_at": NOON,
            "version": 1,
            "log_partition": 0,
            "last_offset": 0,
            **fields,
        }
    )


def move(first: int, end: int, partition: int = 0, log_identity: str = LOG) -> Move:
    return Move(partition, first, Position(end, log_identity, b"r" * 16, NOON))


class LedgerContract(ABC):
    """Inherit it, and say how an empty ledger of two partitions is made."""

    @abstractmethod
    def make_ledger(self, folder: object) -> SqlLedger:
        """A migrated ledger without any generation."""

    @pytest.fixture
    def ledger(self, tmp_path: object) -> Iterator[SqlLedger]:
        ledger = self.make_ledger(tmp_path)
        assert ledger.begin_generation(NOON, partitions=2, log_identity=LOG) == GENERATION
        yield ledger
        ledger.close()

    def test_a_move_from_the_known_position_is_taken_and_kept(self, ledger: SqlLedger) -> None:
        with ledger.transaction() as transaction:
            assert transaction.advance(GENERATION, [move(0, 7), move(0, 3, partition=1)])
        with ledger.transaction() as transaction:
            assert transaction.positions(GENERATION) == {
                0: Position(7, LOG, b"r" * 16, NOON),
                1: Position(3, LOG, b"r" * 16, NOON),
            }

    def test_how_far_the_gate_is_moves_with_a_move_that_says_so(self, ledger: SqlLedger) -> None:
        for first, end, applied, kept in [(0, 3, None, None), (3, 5, 3, 3), (5, 7, None, 3)]:
            place = Position(end, LOG, b"r" * 16, NOON, applied)
            with ledger.transaction() as transaction:
                assert transaction.advance(GENERATION, [Move(0, first, place)])
                assert transaction.positions(GENERATION)[0].applied_offset == kept

    @pytest.mark.parametrize("first", [6, 8])
    def test_a_move_from_any_other_position_is_refused(self, ledger: SqlLedger, first: int) -> None:
        with ledger.transaction() as transaction:
            assert transaction.advance(GENERATION, [move(0, 7)])
        with ledger.transaction() as transaction:
            assert not transaction.advance(GENERATION, [move(first, 9)])

    def test_a_move_on_another_log_or_generation_is_refused(self, ledger: SqlLedger) -> None:
        with ledger.transaction() as transaction:
            assert not transaction.advance(GENERATION, [move(0, 7, log_identity="log-2")])
            assert not transaction.advance(GENERATION + 1, [move(0, 7)])

    def test_an_exception_takes_everything_back(self, ledger: SqlLedger) -> None:
        with pytest.raises(Misuse), ledger.transaction() as transaction:
            transaction.advance(GENERATION, [move(0, 7)])
            transaction.insert_charges(GENERATION, [charge_row("e-1", 0)])
            raise Misuse("the caller changed its mind")
        with ledger.transaction() as transaction:
            assert transaction.positions(GENERATION)[0].next_offset == 0
            assert transaction.insert_charges(GENERATION, [charge_row("e-1", 0)]) == {}

    def test_how_far_the_gate_is_goes_neither_beyond_the_fold_nor_back(
        self, ledger: SqlLedger
    ) -> None:
        with ledger.transaction() as transaction:
            assert transaction.advance(GENERATION, [move(0, 7), move(0, 3, partition=1)])
        for told in ({0: 5, 1: 3}, {0: 4}, {0: 8}, {2: 1}):
            ledger.note_applied(GENERATION, told)
            _, positions = ledger.live_positions()
            assert (positions[0].applied_offset, positions[1].applied_offset) == (5, 3)
        ledger.note_applied(GENERATION + 1, {0: 7})
        ledger.note_applied(GENERATION, {0: 7})
        assert ledger.live_positions()[1][0].applied_offset == 7

    def test_new_charges_are_stored_as_they_are(self, ledger: SqlLedger) -> None:
        row = charge_row("e-1", 4, request_id="r", hold_id="h", released_offset=9)
        with ledger.transaction() as transaction:
            assert transaction.insert_charges(GENERATION, [row]) == {}
        assert self.rows(ledger, charge) == [(GENERATION, *row)]

    def test_of_equal_ids_the_first_wins_in_a_batch_and_between_batches(
        self, ledger: SqlLedger
    ) -> None:
        first, again, other = charge_row("e-1", 0), charge_row("e-1", 1), charge_row("e-2", 2)
        with ledger.transaction() as transaction:
            before = transaction.insert_charges(GENERATION, [first, again, other])
        assert before["acme", "e-1"][1:] == (0, 0)
        assert before["acme", "e-2"][1:] == (0, 2)
        with ledger.transaction() as transaction:
            later = transaction.insert_charges(
                GENERATION, [charge_row("e-1", 5, payload_hash=b"x" * 16)]
            )
        assert later == {("acme", "e-1"): (b"h" * 16, 0, 0)}
        assert [row.log_offset for row in self.rows(ledger, charge)] == [0, 2]

    def test_generations_and_organizations_keep_ids_apart(self, ledger: SqlLedger) -> None:
        second = ledger.begin_generation(NOON, partitions=2, log_identity=LOG)
        with ledger.transaction() as transaction:
            assert transaction.insert_charges(GENERATION, [charge_row("e-1", 0)]) == {}
            assert transaction.insert_charges(second, [charge_row("e-1", 0)]) == {}
            other = charge_row("e-1", 1, organization="globex")
            assert transaction.insert_charges(GENERATION, [other]) == {}

    def test_what_was_written_is_loaded_again(self, ledger: SqlLedger) -> None:
        published = PublicationRow(0, "p-1", 3, NOON, None, encode(prices()))
        changes = Changes(
            organizations={"acme"},
            members={("acme", "ann"): MemberRow("acme", "ann", "owner", NOON, None)},
            caps={("acme", "member", "ann"): CapRow("acme", "member", "ann", "capped", 5, 2, NOON)},
            credits={("acme", "b"): CreditRow("acme", "b", 7, NOON, "ann", "ref", 4)},
            letters={(0, 5): letter(5)},
            publications={(0, "p-1"): published},
            emitters={(0, "em-1"): EmitterRow(0, "em-1", 3, NOON, 5, NOON, "operator", "unseen")},
            decided=[DecidedRow("organization/acme", 1, 0, 2, b"acme", b"v", "c-1", NOON)],
        )
        view = View(organizations={"acme": totals(fingerprint=2**128 - 1, charged_nanos=2**62)})
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, changes, view)
        wanted = Wanted(
            partitions={0, 1},
            organizations={"acme", "nobody"},
            members={("acme", "ann"), ("acme", "bob")},
            purchases={("acme", "b")},
            letters={(0, 5), (0, 6)},
            emitters={(0, "em-1"), (1, "em-1"), (0, "em-2")},
            decided={("organization/acme", 1), ("organization/acme", 2)},
        )
        with ledger.transaction() as transaction:
            loaded = transaction.load(GENERATION, wanted)
        assert loaded.organizations == view.organizations
        assert loaded.members == changes.members
        assert loaded.credits == changes.credits
        assert loaded.letters == changes.letters
        assert loaded.publications == changes.publications
        assert loaded.emitters == changes.emitters
        assert loaded.decided == {("organization/acme", 1): b"v"}
        assert set(loaded.cards) == {0, 1}

    def test_many_keys_are_loaded_in_one_go(self, ledger: SqlLedger) -> None:
        members = {
            ("acme", f"m-{n}"): MemberRow("acme", f"m-{n}", "member", NOON, None)
            for n in range(1_203)
        }
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, Changes(members=dict(members)), View())
            loaded = transaction.load(GENERATION, Wanted(members=set(members)))
        assert loaded.members == members

    def test_spend_is_added_up(self, ledger: SqlLedger) -> None:
        key = ("acme", NOON, 20_762, "ann", "web", "m")
        for _ in range(2):
            with ledger.transaction() as transaction:
                transaction.write(GENERATION, Changes(spend={key: tuple(range(1, 14))}), View())
        assert self.rows(ledger, spend) == [(GENERATION, *key, *range(2, 28, 2))]

    def test_what_scopes_have_spent_is_replaced_and_found_by_its_whole_key(
        self, ledger: SqlLedger
    ) -> None:
        key, other = ("acme", NOON, ""), ("acme", NOON, "ann")
        for spent in ({key: 1, other: 2}, {key: 2**63 - 1}):
            with ledger.transaction() as transaction:
                transaction.write(GENERATION, Changes(spent=dict(spent)), View())
        wanted = {key, other, ("acme", NOON + 1, ""), ("globex", NOON, ""), ("acme", NOON, "bob")}
        with ledger.transaction() as transaction:
            assert transaction.standings(GENERATION).spent(wanted) == {key: 2**63 - 1, other: 2}
            assert transaction.standings(GENERATION + 1).spent(wanted) == {}
            assert transaction.standings(GENERATION).spent(()) == {}

    def test_a_sum_beyond_64_bits_is_refused_and_nothing_is_written(
        self, ledger: SqlLedger
    ) -> None:
        key = ("acme", NOON, 20_762, "ann", "web", "m")
        huge = (1, *[2**62] * 12)
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, Changes(spend={key: huge}), View())
        with pytest.raises(BrokenInvariant, match="64 bits"), ledger.transaction() as transaction:
            transaction.write(GENERATION, Changes(spend={key: huge}), View())
        assert self.rows(ledger, spend) == [(GENERATION, *key, *huge)]

    def test_only_open_letters_of_the_same_content_are_found_the_first_of_each(
        self, ledger: SqlLedger
    ) -> None:
        letters = [
            letter(3),
            letter(2),
            letter(4, payload_hash=b"x" * 16),
            letter(1, status="charged"),
        ]
        changes = Changes(letters={one.place: one for one in letters})
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, changes, View())
            found = transaction.open_letters(
                GENERATION, {letter(9).key, letter(9, event_id="no").key}
            )
        assert found == {letter(9).key: (0, 2)}

    def test_the_log_acknowledges_what_waits_and_adds_what_is_lacking(
        self, ledger: SqlLedger
    ) -> None:
        with ledger.engine.begin() as connection:
            connection.execute(
                insert(decided_event).values(
                    stream="organization/acme", version=1, log_partition=0, record_key=b"acme",
                    value=b"decided", command_id="c-1", decided_at=NOON,
                )
            )  # fmt: skip
        rows = [
            DecidedRow("organization/acme", 1, 0, 11, b"acme", b"decided", "c-1", NOON),
            DecidedRow("organization/acme", 2, 0, 12, b"acme", b"restored", "c-2", NOON),
            DecidedRow("prices/0", None, 0, 13, None, b"prices", "c-3", NOON),
            DecidedRow("prices/0", None, 0, 14, None, b"prices", "c-3", NOON),
            DecidedRow("prices/0", None, 0, 15, None, b"others", "c-4", NOON),
        ]
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, Changes(decided=rows), View())
        columns = decided_event.c
        with reading(ledger.engine) as connection:
            found = connection.execute(
                select(columns.stream, columns.version, columns.value, columns.log_offset)
            ).all()
        assert sorted(map(tuple, found)) == [
            ("organization/acme", 1, b"decided", 11),
            ("organization/acme", 2, b"restored", 12),
            ("prices/0", 1, b"prices", 13),
            ("prices/0", 2, b"others", 15),
        ]

    def test_of_one_version_with_two_contents_the_first_on_the_log_is_kept(
        self, ledger: SqlLedger
    ) -> None:
        """A database that was restored may have decided anew what stood on the log already."""
        for offset, value in [(7, b"second"), (5, b"first"), (9, b"third")]:
            row = DecidedRow("organization/acme", 2, 0, offset, b"acme", value, "c", NOON)
            with ledger.transaction() as transaction:
                transaction.write(GENERATION, Changes(decided=[row]), View())
        wanted = Wanted(decided={("organization/acme", 2)})
        with ledger.transaction() as transaction:
            assert transaction.load(GENERATION, wanted).decided == {
                ("organization/acme", 2): b"first"
            }

    def test_an_event_whose_version_a_command_has_just_taken_gets_the_next_one(
        self, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command was committed between the fold's look and its insert."""
        theirs = DecidedRow("prices/0", None, 0, 7, None, b"theirs", "c-1", NOON)
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, Changes(decided=[theirs]), View())
        look = writing_changes._version_in_stream

        def too_early(*_arguments: object) -> tuple[int, bool]:
            monkeypatch.setattr(writing_changes, "_version_in_stream", look)
            return 1, False

        monkeypatch.setattr(writing_changes, "_version_in_stream", too_early)
        ours = DecidedRow("prices/0", None, 0, 8, None, b"ours", "c-2", NOON)
        with ledger.transaction() as transaction:
            transaction.write(GENERATION, Changes(decided=[ours]), View())
        assert [(row.version, row.value) for row in self.rows(ledger, decided_event)] == [
            (1, b"theirs"),
            (2, b"ours"),
        ]

    def test_exactly_one_generation_is_live_and_the_others_can_be_dropped(
        self, ledger: SqlLedger
    ) -> None:
        second = ledger.begin_generation(NOON, partitions=2, log_identity=LOG)
        with ledger.transaction() as transaction:
            transaction.insert_charges(second, [charge_row("e-1", 0)])
            transaction.write(second, Changes(organizations={"acme"}), View({"acme": totals()}))
            assert transaction.live_generation() == GENERATION
        with pytest.raises(Misuse, match="live"):
            ledger.drop_generation(GENERATION)
        ledger.drop_generation(second)
        assert self.rows(ledger, charge) == []
        assert {row.generation: row.status for row in self.rows(ledger, generation)} == {
            GENERATION: "live",
            second: "dropped",  # its number is never given again
        }

    @staticmethod
    def rows(ledger: SqlLedger, table: Table) -> list[Row[Any]]:
        with reading(ledger.engine) as connection:
            return list(connection.execute(select(table)))
