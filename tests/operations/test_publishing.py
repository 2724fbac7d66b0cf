"""A publication is one fact on every partition: decided once, retried until all have it (R16)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from app.commands import CommandLine
from sqlalchemy import func, select
from support import homes
from support.stores import Store, lose_database

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput, InvalidPrice, LogUnavailable
from tollkeeper.events.codec import decode
from tollkeeper.events.prices import PriceEvent, PriceRow, PricesPublished, PricesWithdrawn
from tollkeeper.events.refusal import Refusal
from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.tables import dead_letter, price_publication
from tollkeeper.log.port import Outgoing
from tollkeeper.money.instants import MICROS_PER_HOUR
from tollkeeper.operations.prices import PriceCommands, known_publications
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import CommandDesk, Done, Outcome, Pending
from tollkeeper.rating.publication import WITHDRAWAL_NOTICE_MICROS, Proposal

HOUR = MICROS_PER_HOUR
BUILT_IN = {"claude-2023-01-01", "claude-2026-10-07"}


@pytest.fixture(scope="module")
def template(either_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is set up, to be copied."""
    home = either_store.new(tmp_path_factory.mktemp("publishing") / "home")
    with homes.opened_app(home):
        pass
    return home


@pytest.fixture
def app(template: Path, either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.copied(template, tmp_path / "home")) as opened:
        yield opened


def proposal(publication_id: str = "p", *, at: int = 10**15 * 2, **fields: object) -> Proposal:
    """A first price of the model `brand-new`, in force from 2033 on."""
    given: dict[str, Any] = {
        "publication_id": publication_id,
        "effective_from": at,
        "source": "test",
        "source_date": "2026-11-01",
        "prices": (PriceRow(model="brand-new", input_picos=1_000),),
        **fields,
    }
    return Proposal(**given)


def publish(
    prices: PriceCommands, one: Proposal, key: str = "k", actor: str = "operator"
) -> Outcome:
    return prices.publish(one, actor=actor, command_id=key)


def on_log(app: App, partition: int) -> list[PriceEvent]:
    """What stands on this partition about prices, repeats included, without the built-in ones."""
    return [
        event
        for record in app.log.read(partition, 0, max_records=1_000)
        if isinstance(event := decode(record.value), PriceEvent)
        and event.publication_id not in BUILT_IN
    ]


def folded(app: App) -> tuple[Counter[str], int]:
    """How many partitions have each publication, and how many dead letters there are."""
    homes.fold(app)
    with reading(app.engine) as connection:
        ids = Counter(connection.execute(select(price_publication.c.publication_id)).scalars())
        letters = connection.execute(select(func.count()).select_from(dead_letter)).scalar_one()
    return ids, int(letters)


def reasons_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Refusal), outcome
    return " ".join(f"{one.reason} {one.rule} {one.message}" for one in outcome.reasons)


class PartialLog:
    """A log that loses its connection: what it has taken by then stands on it, unacknowledged."""

    def __init__(self, app: App, taken: int) -> None:
        self._log = app.log
        self.partition_count = app.log.partition_count
        self.taken = taken

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        if self.taken:
            self._log.append(records[: self.taken], timeout_s=timeout_s)
        raise LogUnavailable("the broker went away")


def publish_partly(app: App, one: Proposal, taken: int, key: str = "k") -> Outcome:
    log: Any = PartialLog(app, taken)  # the desk only appends
    desk = CommandDesk(
        app.engine, log, behind=lambda _p: 0, check_log=lambda: None, clock=app.clock
    )
    return publish(PriceCommands(desk), one, key)


def test_r16_done_means_that_every_partition_has_it(app: App) -> None:
    outcome = publish(app.prices, proposal())
    assert isinstance(outcome, Done)
    assert outcome.answer["partitions"] == app.log.partition_count > 1
    events = [on_log(app, partition) for partition in range(app.log.partition_count)]
    assert all(found == events[0] for found in events)
    assert [one.publication_id for one in events[0]] == ["p"]


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_r16_a_publication_is_retried_until_every_partition_has_it(app: App, taken: int) -> None:
    pending = publish_partly(app, proposal(), taken)
    assert isinstance(pending, Pending)
    assert "the broker went away" in pending.cause
    done = publish(app.prices, proposal())
    assert isinstance(done, Done)
    assert done.is_repeated
    for partition in range(app.log.partition_count):
        found = on_log(app, partition)
        assert len(set(map(repr, found))) == 1, "a repeat is the same fact"
    ids, letters = folded(app)
    assert (ids["p"], letters) == (app.log.partition_count, 0)


def test_r16_an_interrupted_publication_needs_no_caller(app: App) -> None:
    publish_partly(app, proposal(), 3)
    assert folded(app) == (Counter(dict.fromkeys([*BUILT_IN, "p"], app.log.partition_count)), 0)


@pytest.mark.parametrize(("taken", "is_retried_first"), [(1, True), (7, False)])
def test_r16_a_publication_that_stands_on_some_partitions_survives_a_lost_database(
    app: App, taken: int, is_retried_first: bool
) -> None:
    """What the log holds is the fact: the retry completes exactly that, and a later one comes behind it."""
    folded(app)
    publish_partly(app, proposal(), taken)
    with homes.opened_app(lose_database(app)) as rebuilt:
        homes.fold(rebuilt)
        commands = [(proposal(), "k"), (proposal("later"), "k-later")]
        for command, key in commands if is_retried_first else reversed(commands):
            outcome = publish(rebuilt.prices, command, key)
            assert isinstance(outcome, Done), outcome
            assert outcome.is_repeated == (key == "k")
            for partition in range(rebuilt.log.partition_count):
                assert command.publication_id in {
                    one.publication_id for one in on_log(rebuilt, partition)
                }
        for partition in range(rebuilt.log.partition_count):
            assert [one.publication_id for one in on_log(rebuilt, partition)] == ["p", "later"]
        ids, letters = folded(rebuilt)
        assert (ids["p"], ids["later"], letters) == (8, 8, 0)


def test_r16_a_lost_database_is_completed_without_any_caller(app: App) -> None:
    folded(app)
    publish_partly(app, proposal(), 3)
    with homes.opened_app(lose_database(app)) as rebuilt:
        homes.fold(rebuilt)
        rebuilt.set_up()
        ids, letters = folded(rebuilt)
        assert (ids["p"], letters) == (8, 0)


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_same_key_and_content_gives_the_first_answer_other_content_is_refused(
    app: App, is_lost: bool
) -> None:
    first = publish(app.prices, proposal())
    assert isinstance(first, Done)
    home = app.settings.home
    folded(app)
    if is_lost:
        lose_database(app)
    app.close()
    with homes.opened_app(home) as opened:
        homes.fold(opened)
        dearer = (PriceRow(model="brand-new", input_picos=2_000),)
        other = publish(opened.prices, proposal(prices=dearer))
        assert "idempotency_key" in reasons_of(other)
        assert "idempotency_key" in reasons_of(
            opened.prices.withdraw("p", actor="operator", command_id="k")
        )
        again = publish(opened.prices, proposal())
        assert again == Done(first.answer, is_repeated=True)
        assert len(on_log(opened, 0)) == 1


def test_r16_another_command_cannot_change_a_published_price(app: App) -> None:
    publish(app.prices, proposal())
    assert "published price never changes" in reasons_of(publish(app.prices, proposal(), "k-2"))
    assert len(on_log(app, 0)) == 1


def test_r16_one_id_at_once_with_different_prices_is_published_once(app: App) -> None:
    def attempt(number: int) -> Outcome:
        dearer = (PriceRow(model="brand-new", input_picos=number),)
        return publish(app.prices, proposal(prices=dearer), f"k-{number}")

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert sum(isinstance(one, Done) for one in outcomes) == 1
    assert sum(isinstance(one, Refusal) for one in outcomes) == 7
    assert len(on_log(app, 0)) == 1


def test_r16_a_withdrawn_publication_is_gone_and_its_id_stays_taken(app: App) -> None:
    def withdraw(key: str) -> Outcome:
        return app.prices.withdraw("p", actor="operator", command_id=key)

    assert "there is no publication p" in reasons_of(withdraw("w-0"))
    publish(app.prices, proposal())
    assert isinstance(withdraw("w-1"), Done)
    assert withdraw("w-1") == Done(
        {"event": "PricesWithdrawn", "publication_id": "p", "command_id": "w-1", "partitions": 8},
        is_repeated=True,
    )
    assert "there is no publication p" in reasons_of(withdraw("w-2"))
    for prices in ((PriceRow(model="brand-new", input_picos=7),), proposal().prices):
        refused = publish(app.prices, proposal(prices=prices), "k-3")
        assert "p was withdrawn" in reasons_of(refused)
    assert [type(one) for one in on_log(app, 0)] == [PricesPublished, PricesWithdrawn]
    assert folded(app)[1] == 0
    with reading(app.engine) as connection:
        assert {one.publication_id for one in known_publications(connection)} == BUILT_IN


def test_r16_a_dry_run_refuses_what_publishing_would_refuse(
    app: App,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = CommandLine(app.settings.home, monkeypatch, capsys)
    file = tmp_path / "prices.toml"
    file.write_text(
        'publication_id = "p"\nsource = "test"\nsource_date = "2026-11-01"\n'
        'effective_from = "2033-01-01T00:00:00Z"\n[[prices]]\nmodels = ["brand-new"]\ninput = "1"\n',
        encoding="utf-8",
    )
    assert line("prices", "publish", str(file), "--dry-run").code == 0
    assert on_log(app, 0) == []
    line.json("prices", "publish", str(file))
    line.json("prices", "withdraw", "p")
    for more in (["--dry-run"], []):
        refused = line("prices", "publish", str(file), *more)
        assert (refused.code, "p was withdrawn" in refused.err) == (1, True)


@pytest.mark.parametrize(("ahead", "is_done"), [(-1, False), (0, True), (1, True)])
def test_r16_a_withdrawal_comes_before_the_effect(
    tmp_path: Path, ahead: int, is_done: bool
) -> None:
    now = 1_793_880_000_000_000
    app = App(load_settings({"TOLLKEEPER_HOME": str(tmp_path)}), clock=lambda: now)
    try:
        app.ensure_ready()
        near = proposal(at=now + WITHDRAWAL_NOTICE_MICROS + ahead)
        assert isinstance(publish(app.prices, near), Done), "a first price may come at once"
        outcome = app.prices.withdraw("p", actor="operator", command_id="w")
        assert isinstance(outcome, Done) == is_done
        if not is_done:
            assert "takes effect at" in reasons_of(outcome)
    finally:
        app.close()


@pytest.mark.parametrize(("ahead", "is_done"), [(HOUR - 1, False), (HOUR, True)])
def test_r16_a_change_is_published_an_hour_ahead(tmp_path: Path, ahead: int, is_done: bool) -> None:
    now = 1_793_880_000_000_000
    app = App(load_settings({"TOLLKEEPER_HOME": str(tmp_path)}), clock=lambda: now)
    try:
        app.ensure_ready()
        row = PriceRow(model="claude-sonnet-5", input_picos=3_000_000)
        outcome = publish(app.prices, proposal(at=now + ahead, prices=(row,)))
        assert isinstance(outcome, Done) == is_done
        if not is_done:
            assert "input of claude-sonnet-5" in reasons_of(outcome)
    finally:
        app.close()


def test_r14_prices_belong_to_the_operator(app: App) -> None:
    assert "role R14" in reasons_of(publish(app.prices, proposal(), actor="ann"))
    assert "role R14" in reasons_of(
        app.prices.withdraw("claude-2023-01-01", actor="ann", command_id="w")
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"publication_id": "a b"}, "publication_id"),
        ({"effective_from": 0}, "effective_from"),
        ({"source_date": "soon"}, "source_date"),
        ({"source": "\n"}, "source"),
        ({"prices": ()}, "prices"),
        ({"prices": (PriceRow(model="m"),)}, "prices[0]"),
        ({"prices": (PriceRow(model="m", input_picos=-1),)}, "prices[0].input_picos"),
    ],
)
def test_what_could_not_stand_on_the_log_is_refused_before_it_is_decided(
    app: App, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidPrice) as refused:
        publish(app.prices, msgspec.structs.replace(proposal(), **fields))
    assert refused.value.field == field
    with pytest.raises(InvalidInput, match="command_id"):
        publish(app.prices, proposal(), "k k")
    assert on_log(app, 0) == []


def _bare_home(home: Path) -> None:
    """A home without any prices."""
    app = App(load_settings({"TOLLKEEPER_HOME": str(home)}))
    try:
        migrate(app.engine)
        app.ledger.begin_generation(
            app.clock(), partitions=app.log.partition_count, log_identity=app.log.identity
        )
    finally:
        app.close()


def assert_built_in_once(home: Path) -> None:
    with homes.opened_app(home) as app:
        for partition in range(app.log.partition_count):
            found = {
                event.publication_id
                for record in app.log.read(partition, 0, max_records=1_000)
                if isinstance(event := decode(record.value), PricesPublished)
            }
            assert found == BUILT_IN
        ids, letters = folded(app)
        assert (ids, letters) == (Counter(dict.fromkeys(BUILT_IN, 8)), 0)
        assert app.prices.ensure_built_in() == []


def test_the_built_in_prices_are_published_once_by_many_threads(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _bare_home(home)

    def ensure(_number: int) -> list[Outcome]:
        app = App(load_settings({"TOLLKEEPER_HOME": str(home)}))
        try:
            return app.prices.ensure_built_in()
        finally:
            app.close()

    with ThreadPoolExecutor(4) as pool:
        outcomes = [one for found in pool.map(ensure, range(8)) for one in found]
    assert all(isinstance(one, Done) for one in outcomes), outcomes
    assert sum(isinstance(one, Done) and not one.is_repeated for one in outcomes) == len(BUILT_IN)
    assert_built_in_once(home)


def test_the_built_in_prices_are_published_once_by_two_processes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    children = [homes.start(home, "setup", "--json") for _ in range(2)]
    answers = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], answers
    assert_built_in_once(home)
