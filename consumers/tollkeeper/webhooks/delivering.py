"""Bringing notifications to endpoints: at least once, under a stable id, with a bound on the attempts.

An attempt is claimed before it is made and recorded after it. Who dies in between leaves the claim,
which runs out: the same message goes out again under the same id, by which its receiver knows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from sqlalchemy import Engine, and_, literal_column, select, update
from sqlalchemy.sql.elements import ColumnElement

from tollkeeper.failpoints import failpoint
from tollkeeper.ledger.notification_tables import (
    DELIVERED,
    ENABLED,
    GIVEN_UP,
    TOO_OLD,
    delivery,
    notification,
    webhook_endpoint,
)
from tollkeeper.logline import LogLine
from tollkeeper.money.instants import MICROS_PER_SECOND
from tollkeeper.outbox.database import reading, writing
from tollkeeper.reports.notifications import ToldNotification, told_of_row
from tollkeeper.webhooks.endpoints import disable
from tollkeeper.webhooks.messages import headers_of, message_of
from tollkeeper.webhooks.schedule import MAX_ATTEMPTS, is_too_old, next_due
from tollkeeper.webhooks.sending import NotSent, Sender

logger = logging.getLogger(__name__)

CLAIM_MICROS = 120 * MICROS_PER_SECOND
"""How long an attempt is one process's alone; far longer than a request may take."""
DELIVERIES_A_ROUND = 20
"""How many each endpoint gets before it is the next one's turn."""
GONE = 410
_IS_WAITING = delivery.c.status == literal_column("'waiting'")  # as its index says it


class Delivered(msgspec.Struct, frozen=True):
    """What a round did."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    too_old: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(
            self.delivered + other.delivered,
            self.failed + other.failed,
            self.given_up + other.given_up,
            self.too_old + other.too_old,
        )

    @property
    def count(self) -> int:
        """How many deliveries were dealt with."""
        return self.delivered + self.failed + self.given_up + self.too_old


class _Claimed(msgspec.Struct, frozen=True):
    told: ToldNotification
    endpoint_id: str
    url: str
    secret: str
    attempts: int

    def row(self) -> ColumnElement[bool]:
        """The delivery, as long as nobody else took it over."""
        columns = delivery.c
        return and_(
            columns.notification_id == self.told.notification_id,
            columns.endpoint_id == self.endpoint_id,
            columns.attempts == self.attempts,
        )


class Deliverer:
    """Delivers what is due; any number may run, each attempt is one's."""

    def __init__(self, engine: Engine, send: Sender) -> None:
        self._engine = engine
        self._send = send

    def deliver_once(
        self,
        now: int,
        *,
        clock: Callable[[], int] | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> Delivered:
        """One round: what is due at `now` (microseconds), a bounded number for each endpoint.

        With `clock` each attempt is at its own time: a round may last for minutes, while a signature is
        good for five, and a claim for two.
        `goes_on` is asked before each attempt, which may take as long as the sender lets it. An
        endpoint that fails is left alone for the rest of the round, so that it keeps nobody waiting.
        Raises StoreUnavailable when SQL is away.
        """
        done = Delivered(given_up=self._give_up_without_endpoint())
        for endpoint_id in self._endpoints():
            for _ in range(DELIVERIES_A_ROUND):
                if not goes_on():
                    return done
                step = self._next(endpoint_id, now if clock is None else clock())
                if step is None:
                    break
                done += step
                if step.failed or step.given_up:
                    break
        return done

    def _next(self, endpoint_id: str, now: int) -> Delivered | None:
        """Deal with the oldest delivery that is due there; None: there is none."""
        claimed = self._claim(endpoint_id, now)
        if not isinstance(claimed, _Claimed):
            return claimed
        failpoint("deliver.after_claim")
        message = message_of(claimed.told)
        headers = headers_of(message, claimed.secret, now)
        try:
            status = self._send(claimed.url, headers, message.body)
        except NotSent as failed:
            return self._record(claimed, None, str(failed), now)
        failpoint("deliver.after_send")
        detail = None if 200 <= status < 300 else f"HTTP {status}"
        return self._record(claimed, status, detail, now)

    def _claim(self, endpoint_id: str, now: int) -> _Claimed | Delivered | None:
        columns = delivery.c
        with reading(
            self._engine
        ) as connection:  # most rounds find nothing and should block nobody
            row = connection.execute(
                select(
                    notification,
                    columns.attempts,
                    columns.due_at,
                    columns.created_at,
                    webhook_endpoint.c.url,
                    webhook_endpoint.c.secret,
                )
                .join(delivery, columns.notification_id == notification.c.notification_id)
                .join(webhook_endpoint, webhook_endpoint.c.endpoint_id == columns.endpoint_id)
                .where(_IS_WAITING, columns.endpoint_id == endpoint_id, columns.due_at <= now)
                .where(webhook_endpoint.c.status == ENABLED)
                .order_by(columns.due_at, columns.notification_id)
                .limit(1)
            ).one_or_none()
        if row is None:
            return None
        told = told_of_row(row._mapping)
        claimed = _Claimed(told, endpoint_id, row.url, row.secret, row.attempts + 1)
        ended = _ended(row.attempts, row.created_at, now)
        going = {"attempts": row.attempts + 1, "due_at": now + CLAIM_MICROS}
        with writing(self._engine) as connection:
            taken = connection.execute(
                update(delivery)
                .where(
                    _IS_WAITING,
                    columns.notification_id == told.notification_id,
                    columns.endpoint_id == endpoint_id,
                    columns.attempts == row.attempts,
                    columns.due_at == row.due_at,
                )
                .values({"status": ended[0], "detail": ended[1]} if ended else going)
            )
        if not taken.rowcount:
            return Delivered()  # another process was faster
        if ended is None:
            return claimed
        return Delivered(too_old=1) if ended[0] == TOO_OLD else Delivered(given_up=1)

    def _record(
        self, claimed: _Claimed, status: int | None, detail: str | None, now: int
    ) -> Delivered:
        """What came of an attempt, and when the next one is due."""
        due_at = None if status == GONE else next_due(claimed.attempts, now)
        values: dict[str, object] = {"tried_at": now, "http_status": status, "detail": detail}
        if detail is None:
            values["status"], done = DELIVERED, Delivered(delivered=1)
        elif due_at is None:
            values["status"], done = GIVEN_UP, Delivered(given_up=1)
        else:
            values["due_at"], done = due_at, Delivered(failed=1)
        with writing(self._engine) as connection:
            connection.execute(update(delivery).where(claimed.row()).values(values))
            if status == GONE:
                disable(connection, claimed.endpoint_id, "it answered 410 Gone", now)
        logger.info(
            LogLine(
                "webhook_attempt",
                notification=claimed.told.notification_id,
                endpoint=claimed.endpoint_id,
                attempt=claimed.attempts,
                http_status=status,
                detail=detail,
                is_given_up=done.given_up == 1,
            )
        )
        return done

    def _give_up_without_endpoint(self) -> int:
        """What waits for an endpoint that was removed or disabled meanwhile."""
        is_enabled = select(webhook_endpoint.c.endpoint_id).where(
            webhook_endpoint.c.status == ENABLED
        )
        lost = and_(_IS_WAITING, delivery.c.endpoint_id.not_in(is_enabled))
        with reading(self._engine) as connection:
            if (
                connection.execute(select(delivery.c.endpoint_id).where(lost).limit(1)).first()
                is None
            ):
                return 0
        with writing(self._engine) as connection:
            given_up = connection.execute(
                update(delivery)
                .where(lost)
                .values(status=GIVEN_UP, detail="the endpoint was removed or disabled")
            )
        return int(given_up.rowcount)

    def _endpoints(self) -> list[str]:
        columns = webhook_endpoint.c
        with reading(self._engine) as connection:
            statement = select(columns.endpoint_id).where(columns.status == ENABLED)
            return sorted(connection.execute(statement).scalars())


def _ended(attempts: int, created_at: int, now: int) -> tuple[str, str] | None:
    """Why a delivery that is due isn't tried any more: its status, and what people are told."""
    if attempts >= MAX_ATTEMPTS:
        return GIVEN_UP, "no attempt came to its end"
    if attempts == 0 and is_too_old(created_at, now):
        return TOO_OLD, "no news any more when it was first due"
    return None
