"""`webhook`: the endpoints that notifications go to."""

from __future__ import annotations

import os

import click

from tollkeeper.app.cli.common import json_option, open_app
from tollkeeper.app.cli.exit_codes import AWAY, DONE, REFUSED
from tollkeeper.app.cli.output import err, out, print_json, print_table, to_the_second
from tollkeeper.events.ids import now_micros
from tollkeeper.outbox.database import reading
from tollkeeper.reports.documents import instant
from tollkeeper.reports.organizations import find_organization
from tollkeeper.webhooks.endpoints import (
    Endpoint,
    add_endpoint,
    enable_endpoint,
    list_endpoints,
    remove_endpoint,
    url_and_secret,
)
from tollkeeper.webhooks.messages import headers_of, test_message
from tollkeeper.webhooks.sending import NotSent


@click.group()
def webhook() -> None:
    """Where notifications go, as signed webhooks (Standard Webhooks)."""


@webhook.command("add")
@click.argument("url")
@click.option("--organization", help="Only of this organization [of all].")
@json_option
def webhook_add(url: str, organization: str | None, as_json: bool) -> None:
    """Send notifications to URL from now on, and show its secret, this once.

    https anywhere but link-local and metadata addresses, http to this machine;
    TOLLKEEPER_WEBHOOK_ALLOW=http,link_local allows more.
    """
    with open_app() as app:
        if organization is not None:
            with reading(app.engine) as connection:
                find_organization(connection, organization)
        new = add_endpoint(
            app.engine,
            url,
            organization=organization,
            allowed=app.settings.webhook_allow,
            now=now_micros(),
            entropy=os.urandom,
        )
    if as_json:
        print_json({**_document(new.endpoint), "secret": new.secret})
        return
    out().print(f"{new.endpoint.endpoint_id} gets notifications of {organization or 'everybody'}")
    out().print(f"secret, shown this once: {new.secret}")


@webhook.command("list")
@json_option
def webhook_list(as_json: bool) -> None:
    """Every endpoint, without its secret."""
    with open_app() as app:
        found = [_document(one) for one in list_endpoints(app.engine)]
    if as_json:
        print_json({"endpoints": found, "count": len(found)})
        return
    columns = ("endpoint", "url", "organization", "status", "status_reason", "changed_at")
    rows = [
        [to_the_second(one[name]) if name.endswith("_at") else one[name] for name in columns]
        for one in found
    ]
    print_table("webhook endpoints", columns, rows, spare=("changed_at", "status_reason"))


@webhook.command("test")
@click.argument("endpoint")
@json_option
def webhook_test(endpoint: str, as_json: bool) -> None:
    """Send a signed message without news to ENDPOINT now, and say what it answered."""
    now = now_micros()
    message = test_message(f"ntf_test_{os.urandom(8).hex()}", now)
    with open_app() as app:
        url, secret = url_and_secret(app.engine, endpoint)
        status, detail = None, None
        try:
            status = app.webhook_sender(url, headers_of(message, secret, now), message.body)
        except NotSent as failed:
            detail = str(failed)
    is_taken = status is not None and 200 <= status < 300
    if as_json:
        found = {"endpoint": endpoint, "id": message.message_id, "http_status": status}
        print_json({**found, "detail": detail, "delivered": is_taken})
    elif is_taken:
        out().print(f"{endpoint} answered {status}")
    else:
        err().print(f"{endpoint}: {detail or f'answered {status}'}", style="red")
    raise SystemExit(DONE if is_taken else AWAY if status is None else REFUSED)


@webhook.command("enable")
@click.argument("endpoint")
@json_option
def webhook_enable(endpoint: str, as_json: bool) -> None:
    """Send to a disabled ENDPOINT again, from now on and with the same secret."""
    with open_app() as app:
        enabled, was_disabled = enable_endpoint(app.engine, endpoint, now=now_micros())
    if as_json:
        print_json({**_document(enabled), "was_disabled": was_disabled})
    else:
        again = "again" if was_disabled else "(it was enabled before; nothing new)"
        out().print(f"{endpoint} gets notifications {again}")


@webhook.command("remove")
@click.argument("endpoint")
@json_option
def webhook_remove(endpoint: str, as_json: bool) -> None:
    """Send nothing to ENDPOINT any more; what waits for it is given up."""
    with open_app() as app:
        removed = remove_endpoint(app.engine, endpoint)
    if as_json:
        print_json({**_document(removed), "removed": True})
    else:
        out().print(f"{endpoint} gets nothing any more")


def _document(one: Endpoint) -> dict[str, object]:
    return {
        "endpoint": one.endpoint_id,
        "url": one.url,
        "organization": one.organization,
        "status": one.status,
        "status_reason": one.status_reason,
        "created_at": instant(one.created_at),
        "changed_at": instant(one.changed_at),
    }
