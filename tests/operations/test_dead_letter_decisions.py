"""Dead letters are released or discarded once, by logged commands that name what they can't do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from app.commands import CommandLine
from sqlalchemy import func, select
from support import homes
from support.stores import Store

from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput
from tollkeeper.events.prices import PriceRow
from tollkeeper.events.refusal import Refusal
from tollkeeper.ledger.rows import Letter
from tollkeeper.ledger.tables import charge
from tollkeeper.metering.usage import Usage
from tollkeeper.operations.quarantine import MAX_LETTERS, Place, parse_letter_id
from tollkeeper.organizations.commands import OpenOrganization
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done, Outcome
from tollkeeper.outbox.tables import decided_event
from tollkeeper.rating.publication import Proposal
from tollkeeper.replay.verify import verify
from tollkeeper.reports.letters import LetterFilter, find_letters

NOON = 1_793_880_000_000_000
NEW_NANOS = 1_000 * 5_000 + 100 * 10_000
"""1,000 tokens in for 5 USD and 100 out for 10 USD a million."""


@pytest.fixture(scope="module")
def template(either_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two organizations; acme has unpriced usage of two models, emitted twice, and beta of one."""
    home = either_store.new(tmp_path_factory.mktemp("letters") / "home")
    with homes.opened_app(home) as app:
        for name in ("acme", "beta"):
            homes.handle(
                app, OpenOrganization(organization=name, plan="enterprise_self_serve", owner="ann")
            )
        for _ in range(2):
            homes.emit(app, [usage("n1"), usage("n2"), usage("o1", model="other")])
        homes.emit(app, [usage("b1", organization="beta"), usage("u1", organization="unknown")])
        homes.fold(app)
    return home


@pytest.fixture
def app(template: Path, either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.copied(template, tmp_path / "home")) as opened:
        yield opened


def usage(event_id: str, *, organization: str = "acme", model: str = "brand-new") -> Usage:
    return Usage(
        event_id=event_id,
        organization=organization,
        member="ann",
        surface="web",
        model=model,
        input_tokens=1_000,
        output_tokens=100,
        occurred_at=NOON,
    )


def letters(app: App, **chosen: str | None) -> list[Letter]:
    with reading(app.engine) as connection:
        return find_letters(connection, LetterFilter(**chosen))


def letter(app: App, event_id: str) -> Letter:
    (found,) = (one for one in letters(app, status=None) if one.event_id == event_id)
    return found


def release(app: App, *places: Place, key: str = "k", actor: str = "operator") -> Outcome:
    return app.quarantine.release(places, actor=actor, command_id=key)


def discard(app: App, *places: Place, key: str = "k", reason: str = "a test call") -> Outcome:
    return app.quarantine.discard(places, reason=reason, actor="operator", command_id=key)


def publish_price(app: App) -> None:
    row = PriceRow(model="brand-new", input_picos=5_000_000, output_picos=10_000_000)
    proposal = Proposal(
        publication_id="p",
        effective_from=NOON,
        source="test",
        source_date="2026-11-01",
        prices=(row,),
    )
    assert isinstance(app.prices.publish(proposal, actor="operator", command_id="p"), Done)


def charges(app: App) -> list[tuple[str, int]]:
    with reading(app.engine) as connection:
        rows = connection.execute(
            select(charge.c.event_id, charge.c.charge_nanos).order_by(charge.c.event_id)
        )
        return [(row[0], row[1]) for row in rows]


def written(app: App) -> tuple[int, int]:
    """What was decided, and what stands on the log."""
    with reading(app.engine) as connection:
        decided = connection.execute(select(func.count()).select_from(decided_event)).scalar_one()
    return int(decided), sum(app.log.end_offsets().values())


def reasons_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Refusal), outcome
    return " ".join(f"{one.reason} {one.rule} {one.message}" for one in outcome.reasons)


def test_r15_unpriced_usage_is_charged_exactly_once_when_its_price_is_there(app: App) -> None:
    first = letter(app, "n1")
    assert (first.cause, first.counts, first.amount_at_risk_nanos) == (
        "unpriced",
        (1_000, 100, 0, 0, 0, 0),
        None,
    )
    assert charges(app) == []
    publish_price(app)
    places = [one.place for one in letters(app, model="brand-new", organization="acme")]
    done = release(app, *places)
    assert isinstance(done, Done)
    assert done.answer["released"] == 2
    homes.fold(app)
    assert charges(app) == [("n1", NEW_NANOS), ("n2", NEW_NANOS)]
    assert release(app, *places) == Done(done.answer, is_repeated=True)
    homes.emit(app, [usage("n1"), usage("n2")])
    homes.fold(app)
    assert charges(app) == [("n1", NEW_NANOS), ("n2", NEW_NANOS)]
    assert (letter(app, "n1").status, letter(app, "n1").closed_by) == ("charged", "operator")
    report = verify(app.log, app.ledger, now=app.clock(), progress=lambda _records: None)
    assert report.agrees


def test_a_release_before_its_price_leaves_the_letter_open_for_another(app: App) -> None:
    place = letter(app, "n1").place
    assert isinstance(release(app, place), Done)
    homes.fold(app)
    assert letter(app, "n1").status == "open"
    publish_price(app)
    assert isinstance(release(app, place, key="k-2"), Done)
    homes.fold(app)
    assert charges(app) == [("n1", NEW_NANOS)]


def test_a_letter_that_does_not_exist_is_refused_by_its_id(app: App) -> None:
    before = written(app)
    for outcome in (
        release(app, (0, 999_999)),
        discard(app, letter(app, "n1").place, (0, 999_999)),
    ):
        assert "dead_letter" in reasons_of(outcome)
        assert "there is no dead letter 0-999999" in reasons_of(outcome)
    assert written(app) == before, "all or nothing"


def test_a_letter_that_was_decided_is_refused_by_its_id(app: App) -> None:
    charged, gone = letter(app, "n1").place, letter(app, "n2").place
    publish_price(app)
    assert isinstance(release(app, charged, key="r"), Done)
    assert isinstance(discard(app, gone, key="d"), Done)
    for place in (gone,):  # decided, though not folded yet
        assert f"{place[0]}-{place[1]} is discarded already" in reasons_of(release(app, place))
    homes.fold(app)
    before = written(app)
    for place, status in ((charged, "charged"), (gone, "discarded")):
        rule = f"{place[0]}-{place[1]} is {status} already"
        assert rule in reasons_of(release(app, place))
        assert rule in reasons_of(discard(app, place))
    assert written(app) == before
    assert charges(app) == [("n1", NEW_NANOS)]
    assert letter(app, "n2").closed_reason == "a test call"


def test_the_same_key_gives_the_first_answer_and_other_letters_are_refused(app: App) -> None:
    one, two = letter(app, "n1").place, letter(app, "n2").place
    first = discard(app, one)
    assert isinstance(first, Done)
    before = written(app)
    assert discard(app, one) == Done(first.answer, is_repeated=True)
    homes.fold(app)
    assert discard(app, one) == Done(first.answer, is_repeated=True)
    for other in (discard(app, one, two), discard(app, one, reason="else"), release(app, one)):
        assert "idempotency_key" in reasons_of(other)
    assert written(app) == before


def test_a_key_from_before_a_lost_database_decides_nothing_anew(app: App) -> None:
    publish_price(app)
    one, two = letter(app, "n1").place, letter(app, "n2").place
    first = release(app, one, two)
    assert isinstance(first, Done)
    homes.fold(app)
    home = app.settings.home
    app.close()
    for part in ("", "-wal", "-shm"):
        (home / f"ledger.sqlite{part}").unlink(missing_ok=True)
    with homes.opened_app(home) as rebuilt:
        homes.fold(rebuilt)
        before = written(rebuilt)
        assert "idempotency_key" in reasons_of(discard(rebuilt, one))
        assert release(rebuilt, one, two) == Done(first.answer, is_repeated=True)
        assert written(rebuilt) == before
        assert charges(rebuilt) == [("n1", NEW_NANOS), ("n2", NEW_NANOS)]


def test_r14_dead_letters_belong_to_the_operator(app: App) -> None:
    assert "role R14" in reasons_of(release(app, letter(app, "n1").place, actor="ann"))


@pytest.mark.parametrize("reason", ["", "  ", "a\x00b", "x" * 1_001])
def test_a_discard_says_why(app: App, reason: str) -> None:
    before = written(app)
    with pytest.raises(InvalidInput) as refused:
        discard(app, letter(app, "n1").place, reason=reason)
    assert refused.value.field == "reason"
    assert written(app) == before


@pytest.mark.parametrize(
    ("places", "rule"),
    [
        ([], "must be 1 to 1000"),
        ([(0, n) for n in range(MAX_LETTERS + 1)], "must be 1 to 1000"),
        ([(8, 0)], "partition 8 doesn't exist"),
    ],
)
def test_what_can_be_no_choice_of_letters_is_refused(
    app: App, places: list[Place], rule: str
) -> None:
    with pytest.raises(InvalidInput, match=rule):
        release(app, *places)
    with pytest.raises(InvalidInput, match="command_id"):
        release(app, (0, 0), key="k k")


@pytest.mark.parametrize("text", ["", "3", "3-", "-3-1", "3-1-1", "٣-1", "3-1\n", "1" * 7 + "-1"])
def test_a_letter_id_is_partition_and_offset(text: str) -> None:
    assert parse_letter_id("3-1042") == (3, 1042)
    with pytest.raises(InvalidInput, match="PARTITION-OFFSET"):
        parse_letter_id(text)


@pytest.mark.parametrize(
    ("chosen", "events"),
    [
        ({}, ["b1", "n1", "n2", "o1", "u1"]),
        ({"cause": "unpriced"}, ["b1", "n1", "n2", "o1"]),
        ({"cause": "unknown_organization"}, ["u1"]),
        ({"model": "brand-new"}, ["b1", "n1", "n2", "u1"]),
        ({"organization": "acme"}, ["n1", "n2", "o1"]),
        ({"organization": "acme", "model": "other"}, ["o1"]),
        ({"organization": "nobody"}, []),
    ],
)
def test_letters_are_chosen_by_cause_model_and_organization(
    app: App, chosen: dict[str, str | None], events: list[str]
) -> None:
    """Usage that was emitted twice has one letter."""
    assert sorted(str(one.event_id) for one in letters(app, **chosen)) == events


def test_a_cause_that_does_not_exist_is_refused(app: App) -> None:
    with pytest.raises(InvalidInput, match="unpriced"):
        letters(app, cause="dear")


@pytest.fixture
def line(
    app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(app.settings.home, monkeypatch, capsys)


def test_a_dry_run_decides_nothing(app: App, line: CommandLine) -> None:
    before = written(app)
    for command in (
        ("release", "--cause", "unpriced"),
        ("discard", "--cause", "unpriced", "--reason", "no"),
    ):
        found = line.json("dead-letters", *command, "--dry-run")
        assert (found["letters"], found["dry_run"]) == (4, True)
    assert written(app) == before
    assert len(letters(app)) == 5


def test_a_retried_release_answers_the_same_after_the_fold(app: App, line: CommandLine) -> None:
    publish_price(app)
    place = letter(app, "n1").place
    retried = ("dead-letters", "release", f"{place[0]}-{place[1]}", "--idempotency-key", "k")
    first = line.json(*retried)
    homes.fold(app)
    assert line.json(*retried) == first
    refused = line.json(*retried[:3], code=1)
    assert f"{place[0]}-{place[1]} is charged already" in refused["reasons"][0]["message"]
    assert line("dead-letters", "discard", retried[2]).code == 2
    homes.fold(app)
    assert charges(app) == [("n1", NEW_NANOS)]


@pytest.mark.parametrize(
    "failpoint", ["command.before_commit", "command.after_commit", "log.after_append"]
)
def test_a_release_whose_process_is_killed_charges_once(app: App, failpoint: str) -> None:
    publish_price(app)
    place = letter(app, "n1").place
    retried = ("dead-letters", "release", f"{place[0]}-{place[1]}", "--idempotency-key", "k")
    killed = homes.run(app.settings.home, *retried, failpoints=f"{failpoint}=kill@1")
    assert killed.returncode == homes.KILLED, killed.stderr
    homes.fold(app)
    again = homes.run(app.settings.home, *retried)
    assert again.returncode == 0, again.stderr
    homes.fold(app)
    assert charges(app) == [("n1", NEW_NANOS)]
