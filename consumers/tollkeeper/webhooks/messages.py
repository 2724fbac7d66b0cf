"""What a webhook carries: the notification as JSON, and the three headers of Standard Webhooks. Pure.

The same notification gives the same body at every attempt, under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from standardwebhooks import Webhook

from tollkeeper.money.instants import format_instant, to_datetime
from tollkeeper.reports.notifications import ToldNotification

USER_AGENT = "tollkeeper"


class Message(msgspec.Struct, frozen=True):
    """A body and what it is signed under."""

    message_id: str
    body: bytes


def message_of(told: ToldNotification) -> Message:
    """The message of a notification: type, time, and everything that is known of it."""
    content = {
        "type": told.kind,
        "timestamp": format_instant(told.occurred_at),
        "data": told.as_document(),
    }
    return Message(told.notification_id, msgspec.json.encode(content))


def test_message(message_id: str, now: int) -> Message:
    """A message that is about nothing, to try an endpoint."""
    content = {"type": "webhook.test", "timestamp": format_instant(now), "data": {}}
    return Message(message_id, msgspec.json.encode(content))


def headers_of(message: Message, secret: str, now: int) -> Mapping[str, str]:
    """The headers of an attempt at the instant `now`, microseconds."""
    sent_at = to_datetime(now)
    signature = Webhook(secret).sign(message.message_id, sent_at, message.body.decode())
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message.message_id,
        "webhook-timestamp": str(now // 1_000_000),
        "webhook-signature": signature,
    }
