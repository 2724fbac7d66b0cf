"""What all commands share: opening the app, the common options, and how errors end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import click
import msgspec
from sqlalchemy import Connection

from tollkeeper.app.cli.output import err
from tollkeeper.app.settings import Settings, load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import check_id, new_command_id, now_micros
from tollkeeper.events.organization import OPERATOR
from tollkeeper.money.amounts import usd_to_nanos
from tollkeeper.money.instants import parse_instant
from tollkeeper.money.periods import Period, parse_period, period_at
from tollkeeper.organizations.commands import CommandContext
from tollkeeper.outbox.database import reading

P = ParamSpec("P")
R = TypeVar("R")
Command = Callable[P, R]

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


class Change(msgspec.Struct, frozen=True):
    """What every command that changes something may be told about itself."""

    actor: str
    command_id: str
    occurred_at: int | None
    reference: str | None

    @property
    def context(self) -> CommandContext:
        """For commands on organizations."""
        return CommandContext(
            actor=self.actor,
            command_id=self.command_id,
            occurred_at=self.occurred_at,
            reference=self.reference,
        )


def changing(command: Callable[Concatenate[Change, P], R]) -> Callable[P, R]:
    """Give a command --as, --at, --idempotency-key and --reference, as one `Change` in front."""

    @click.option("--as", "actor", default=OPERATOR, metavar="MEMBER", help="Who asks [operator].")
    @click.option("--at", "at", metavar="TIME", help="When it happened (operator only).")
    @click.option("--idempotency-key", metavar="KEY", help="The same key acts once.")
    @click.option("--reference", metavar="TEXT", help="Your own note.")
    @wraps(command)
    def with_change(*args: P.args, **kwargs: P.kwargs) -> R:
        at = kwargs.pop("at", None)
        key = kwargs.pop("idempotency_key", None)
        actor = kwargs.pop("actor")
        check_id("--as", actor)
        if key is not None:
            check_id("--idempotency-key", key)
        change = Change(
            str(actor),
            new_command_id() if key is None else str(key),
            None if at is None else parse_instant(str(at), field="--at"),
            _text(kwargs.pop("reference", None)),
        )
        return command(change, *args, **kwargs)

    return with_change


@contextmanager
def open_app(*, is_setup: bool = False, needs_database: bool = True) -> Iterator[App]:
    """The wired app of this process; what lives in its home is set up on first use."""
    app = App(load_settings(os.environ))
    try:
        if not is_setup and (needs_database or app.settings.is_sql_embedded):
            app.ensure_ready()
        yield app
    finally:
        app.close()


@contextmanager
def open_reports() -> Iterator[tuple[App, Connection]]:
    """The app and one consistent snapshot of its database; a question makes no home."""
    _check_home(load_settings(os.environ))
    with open_app() as app, reading(app.engine) as connection:
        yield app, connection


@contextmanager
def open_looking() -> Iterator[App]:
    """The app, for a look at the gate alone: it makes no home, and needs no database."""
    settings = load_settings(os.environ)
    _check_home(settings)
    app = App(settings)
    try:
        yield app
    finally:
        app.close()


def _check_home(settings: Settings) -> None:
    if settings.is_sql_embedded and not settings.home.exists():
        raise InvalidInput(
            "TOLLKEEPER_HOME",
            f"{settings.home} doesn't exist: run `tollkeeper setup` first, or name another folder",
        )


def chosen_period(text: str | None) -> Period:
    """`YYYY-MM`, or the period of now."""
    return period_at(now_micros()) if text is None else parse_period(text, field="--period")


def usd(text: str, *, field: str) -> int:
    """Decimal USD to nano-USD; an exponent is refused, since people misread it."""
    nanos = usd_to_nanos(text, field=field)
    if "e" in text.lower():
        raise InvalidInput(field, f"must be written out, without an exponent, not {text!r}")
    return nanos


def positive_usd(text: str, *, field: str) -> int:
    """Decimal USD above zero to nano-USD."""
    nanos = usd(text, field=field)
    if nanos == 0:
        raise InvalidInput(field, "must be above zero")
    return nanos


def confirm(question: str, *, as_json: bool) -> None:
    """Ask a person; programs (no terminal, or --json) aren't asked."""
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    if not click.confirm(question, err=True):
        err().print("nothing was done")
        raise SystemExit(1)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
