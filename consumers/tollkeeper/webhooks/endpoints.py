"""The endpoints that webhooks go to: the operator's configuration, in SQL and nowhere else.

A secret is shown once, when it is made. It is on no log, in no answer and in no message afterwards.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import check_organization
from tollkeeper.ledger.notification_tables import DISABLED, ENABLED, webhook_endpoint
from tollkeeper.outbox.database import reading, writing
from tollkeeper.webhooks.addresses import parse_target

SECRET_BYTES = 32
MAX_ENDPOINTS = 100
"""Each notification makes a delivery for each of them, in the fold's transaction."""


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint; `organization` None: it hears of all of them."""

    endpoint_id: str
    url: str
    organization: str | None
    status: str
    status_reason: str | None
    created_at: int
    changed_at: int


class NewEndpoint(msgspec.Struct, frozen=True):
    """An endpoint and its secret, this one time."""

    endpoint: Endpoint
    secret: str


def add_endpoint(
    engine: Engine,
    url: str,
    *,
    organization: str | None,
    allowed: frozenset[str],
    now: int,
    entropy: Callable[[int], bytes],
) -> NewEndpoint:
    """Let webhooks go there from now on. InvalidInput for a URL that may not be."""
    parse_target(url, allowed)
    if organization is not None:
        check_organization("organization", organization)
    endpoint = Endpoint(f"we_{entropy(8).hex()}", url, organization, ENABLED, None, now, now)
    secret = "whsec_" + base64.b64encode(entropy(SECRET_BYTES)).decode()
    with writing(engine) as connection:
        if len(_endpoints(connection)) >= MAX_ENDPOINTS:
            raise InvalidInput("url", f"must be one of at most {MAX_ENDPOINTS} endpoints")
        connection.execute(
            insert(webhook_endpoint).values(**msgspec.structs.asdict(endpoint), secret=secret)
        )
    return NewEndpoint(endpoint, secret)


def list_endpoints(engine: Engine) -> list[Endpoint]:
    """All of them, by when they were added."""
    with reading(engine) as connection:
        return _endpoints(connection)


def disabled_endpoints(connection: Connection) -> list[Endpoint]:
    """Those that get nothing until the operator enables them again."""
    return [one for one in _endpoints(connection) if one.status == DISABLED]


def enable_endpoint(engine: Engine, endpoint_id: str, *, now: int) -> tuple[Endpoint, bool]:
    """Send there again, with the same secret; the endpoint, and whether it was disabled.

    What was given up meanwhile stays given up. InvalidInput: there is no such endpoint.
    """
    with writing(engine) as connection:
        found = _endpoint_of(connection, endpoint_id)
        if found.status == ENABLED:
            return found, False
        connection.execute(
            update(webhook_endpoint)
            .where(webhook_endpoint.c.endpoint_id == endpoint_id)
            .values(status=ENABLED, status_reason=None, changed_at=now)
        )
        return _endpoint_of(connection, endpoint_id), True


def remove_endpoint(engine: Engine, endpoint_id: str) -> Endpoint:
    """Send nothing there any more. InvalidInput: there is no such endpoint."""
    with writing(engine) as connection:
        found = _endpoint_of(connection, endpoint_id)
        connection.execute(
            delete(webhook_endpoint).where(webhook_endpoint.c.endpoint_id == endpoint_id)
        )
    return found


def disable(connection: Connection, endpoint_id: str, reason: str, now: int) -> None:
    """Send nothing there until the operator enables it again."""
    connection.execute(
        update(webhook_endpoint)
        .where(webhook_endpoint.c.endpoint_id == endpoint_id)
        .values(status=DISABLED, status_reason=reason, changed_at=now)
    )


def url_and_secret(engine: Engine, endpoint_id: str) -> tuple[str, str]:
    """For sending. InvalidInput: there is no such endpoint."""
    columns = webhook_endpoint.c
    with reading(engine) as connection:
        row = connection.execute(
            select(columns.url, columns.secret).where(columns.endpoint_id == endpoint_id)
        ).one_or_none()
    if row is None:
        raise _unknown(endpoint_id)
    return str(row.url), str(row.secret)


def _endpoints(connection: Connection) -> list[Endpoint]:
    columns = webhook_endpoint.c
    shown = [columns[name] for name in Endpoint.__struct_fields__]
    rows = connection.execute(select(*shown).order_by(columns.created_at, columns.endpoint_id))
    return [_endpoint(row) for row in rows]


def _endpoint_of(connection: Connection, endpoint_id: str) -> Endpoint:
    for one in _endpoints(connection):
        if one.endpoint_id == endpoint_id:
            return one
    raise _unknown(endpoint_id)


def _endpoint(row: Row[tuple[object, ...]]) -> Endpoint:
    return msgspec.convert(
        {name: row._mapping[name] for name in Endpoint.__struct_fields__}, Endpoint
    )


def _unknown(endpoint_id: str) -> InvalidInput:
    return InvalidInput(
        "endpoint", f"must be one of those in `tollkeeper webhook list`, not {endpoint_id!r}"
    )
