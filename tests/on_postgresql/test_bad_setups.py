"""A PostgreSQL that isn't as it must be: each command says so, with the next step, and ends with 3."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from app.commands import CommandLine, line
from services.kafka_local import free_port
from services.postgresql_local import LocalPostgres
from services.postgresql_proxy import PostgresProxy
from sqlalchemy import make_url
from support import homes
from support.waiting import eventually

SECRET = "geheimnis"
AWAY = 3
FOLD = ("consume", "--until-caught-up")
BUY = ("credits", "buy", "acme", "5")
Line = Callable[..., CommandLine]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line with its ledger at a URL; the log stays the same."""

    def with_url(url: str) -> CommandLine:
        monkeypatch.setenv("TOLLKEEPER_SQL", url)
        return CommandLine(tmp_path / "home", monkeypatch, capsys)

    return with_url


@pytest.fixture
def acme(at: Line, sql_url: str) -> CommandLine:
    """Set up; acme has one event on the log that isn't folded yet."""
    tk = at(sql_url)
    assert tk("setup").code == 0
    assert tk("org", "open", "acme", "--plan", "enterprise_self_serve", "--owner", "ann").code == 0
    assert tk("emit", "-", stdin=line("e1")).code == 0
    return tk


@contextmanager
def role_without_rights(server: LocalPostgres, sql_url: str) -> Iterator[str]:
    """The database's URL for a role that must give a password and may do nothing with tables."""
    name = f"poor_{make_url(sql_url).database}"
    execute(server.address, f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{before}")
    execute(server.address, "SELECT pg_reload_conf()")
    try:
        url = make_url(sql_url).set(username=name, password=SECRET)
        yield url.render_as_string(hide_password=False)
    finally:
        rules.write_text(before)
        execute(sql_url, f"DROP OWNED BY {name}")
        execute(server.address, f"DROP ROLE {name}")


@pytest.fixture
def poor(server: LocalPostgres, sql_url: str) -> Iterator[str]:
    with role_without_rights(server, sql_url) as url:
        yield url


def execute(url: str, statement: str) -> None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)


def assert_ends(tk: CommandLine, *arguments: str, code: int = AWAY, says: tuple[str, ...]) -> None:
    """With this exit code, on standard error alone, without a traceback or a password."""
    ended = tk(*arguments)
    assert (ended.code, ended.out) == (code, ""), ended
    for part in says:
        assert part in ended.err, ended.err
    assert "Traceback" not in ended.err
    assert "bug" not in ended.err
    assert SECRET not in ended.err


@pytest.mark.parametrize("arguments", [FOLD, BUY, ("balance", "acme"), ("replay", "verify")])
def test_a_database_that_was_never_set_up(
    at: Line, sql_url: str, arguments: tuple[str, ...]
) -> None:
    assert_ends(at(sql_url), *arguments, says=("tollkeeper setup",))


@pytest.mark.parametrize("arguments", [FOLD, BUY, ("balance", "acme"), ("setup",)])
def test_a_database_of_a_newer_release(
    acme: CommandLine, sql_url: str, arguments: tuple[str, ...]
) -> None:
    execute(sql_url, "UPDATE alembic_version SET version_num = '0099'")
    assert_ends(acme, *arguments, says=("0099", "newer"))


def test_the_doctor_sees_a_database_of_a_newer_release(acme: CommandLine, sql_url: str) -> None:
    execute(sql_url, "UPDATE alembic_version SET version_num = '0099'")
    ended = acme("doctor")
    assert ended.code == AWAY
    assert "0099" in ended.out


def test_a_database_that_doesnt_exist(at: Line, sql_url: str) -> None:
    url = make_url(sql_url).set(database="nowhere").render_as_string(hide_password=False)
    assert_ends(at(url), "setup", says=('"nowhere" does not exist', "TOLLKEEPER_SQL"))


def test_a_wrong_password_is_named_and_not_shown(at: Line, poor: str) -> None:
    url = make_url(poor).set(password=f"{SECRET}-wrong").render_as_string(hide_password=False)
    for arguments in (("setup",), ("balance", "acme")):
        assert_ends(at(url), *arguments, says=("password", "TOLLKEEPER_SQL"))
    assert SECRET not in at(url)("doctor").out


def test_a_role_that_may_not_use_the_tables(acme: CommandLine, at: Line, poor: str) -> None:
    for arguments in (FOLD, BUY, ("balance", "acme"), ("setup",)):
        assert_ends(at(poor), *arguments, says=("permission denied for table", "GRANT"))


def test_a_role_that_may_not_create_tables(at: Line, poor: str) -> None:
    assert_ends(at(poor), "setup", says=("permission denied for schema", "GRANT"))


def test_a_role_that_may_not_create_temporary_tables(
    acme: CommandLine, at: Line, poor: str, sql_url: str
) -> None:
    role, database = make_url(poor).username, make_url(poor).database
    execute(sql_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    execute(sql_url, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    assert_ends(at(poor), *FOLD, says=("temporary tables", "GRANT"))
    execute(sql_url, f"GRANT TEMPORARY ON DATABASE {database} TO {role}")
    assert at(poor)(*FOLD).code == 0  # the rights that a role needs to fold, and no more


def test_a_role_without_a_connection_left(at: Line, poor: str, sql_url: str) -> None:
    execute(sql_url, f"ALTER ROLE {make_url(poor).username} CONNECTION LIMIT 0")
    assert_ends(at(poor), "balance", "acme", says=("too many connections", "try again"))


def test_a_statement_timeout_that_is_too_short(acme: CommandLine, sql_url: str) -> None:
    database = make_url(sql_url).database
    execute(sql_url, f"ALTER DATABASE {database} SET statement_timeout = '1ms'")
    assert_ends(acme, *FOLD, says=("statement timeout", "statement_timeout"))


@pytest.mark.parametrize("option", ["foo=bar", "connect_timeout=soon", "sslmode=bogus"])
def test_an_option_of_the_url_that_isnt_one(at: Line, poor: str, option: str) -> None:
    name = option.partition("=")[0]
    code = AWAY if name == "sslmode" else 2
    assert_ends(at(f"{poor}?{option}"), "balance", "acme", code=code, says=(name, "TOLLKEEPER_SQL"))


def test_a_url_with_an_odd_port(at: Line) -> None:
    tk = at(f"postgresql://poor:{SECRET}@127.0.0.1:abc/ledger")
    assert_ends(tk, "balance", "acme", code=2, says=("TOLLKEEPER_SQL",))


def test_a_disk_that_is_full(acme: CommandLine, sql_url: str) -> None:
    """Raised by a trigger: what a real full disk says where a row is written."""
    execute(
        sql_url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'could not extend file: No space left on device' "
        "USING ERRCODE = 'disk_full'; END $$",
    )
    execute(
        sql_url,
        "CREATE TRIGGER full_disk BEFORE INSERT ON charge EXECUTE FUNCTION full_disk()",
    )
    assert_ends(acme, *FOLD, says=("No space left on device", "room"))
    execute(sql_url, "DROP TRIGGER full_disk ON charge")
    assert acme(*FOLD).code == 0


def test_a_connection_pool_in_front(
    acme: CommandLine, at: Line, server: LocalPostgres, sql_url: str
) -> None:
    """One that gives each transaction another session; what tells is that it makes up process ids."""
    pooler = PostgresProxy(free_port(), server.port, shown_pid=7)
    pooler.accept()
    try:
        url = make_url(sql_url).set(port=int(pooler.address.split(":")[1]))
        tk = at(url.render_as_string(hide_password=False))
        assert_ends(tk, "balance", "acme", says=("pool", "TOLLKEEPER_SQL"))
    finally:
        pooler.refuse()


@pytest.fixture
def standby(server: LocalPostgres) -> Iterator[LocalPostgres]:
    """A server that stays in recovery, on a copy of the other's data."""
    standby = LocalPostgres()
    server.stop()
    try:
        shutil.copytree(server.data, standby.data)
        (standby.data / "standby.signal").touch()
        standby.own()
        standby.start()
        yield standby
    finally:
        standby.close()
        server.start()


@pytest.mark.soak
def test_a_standby(acme: CommandLine, at: Line, sql_url: str, standby: LocalPostgres) -> None:
    url = make_url(sql_url).set(port=standby.port).render_as_string(hide_password=False)
    for arguments in (FOLD, BUY, ("rebuild",)):
        assert_ends(at(url), *arguments, says=("read-only", "primary"))
    assert at(url)("org", "list").code == 0  # whoever only asks is welcome


def test_a_job_waits_for_a_database_that_is_set_right(
    acme: CommandLine, at: Line, poor: str, sql_url: str
) -> None:
    """`run` names what is wrong, and goes on by itself once it is mended."""
    role, database = make_url(poor).username, make_url(poor).database
    execute(sql_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    execute(sql_url, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    child = homes.start(at(poor).home, "run", "--only", "consume", "--log-format", "text")
    try:
        assert child.stderr is not None
        for said in child.stderr:
            if "temporary tables" in said:
                break
        execute(sql_url, f"GRANT TEMPORARY ON DATABASE {database} TO {role}")
        tk = at(sql_url)
        eventually(
            lambda: tk("event", "show", "acme", "e1", "--json").document["status"] == "charged"
        )
    finally:
        child.kill()
        child.communicate()
