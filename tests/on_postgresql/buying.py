"""An owner who buys credits while everything breaks, and repeats each purchase until it is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from on_kafka.installation import Installation

from tollkeeper.app.wiring import App
from tollkeeper.errors import Unavailable
from tollkeeper.organizations.commands import BuyCredits, CommandContext
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done
from tollkeeper.reports.balance import balance

CREDIT_NANOS = 10**9
MOST_TRIES = 10_000
FINISHED_S = 90.0


class Buyer:
    """Buys on a thread while `buying`; the app is his alone."""

    def __init__(self, app: App, organization: str, *, pause_s: float = 0.0) -> None:
        self._app = app
        self._organization = organization
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None
        self.bought = 0
        self.interrupted = 0

    @contextmanager
    def buying(self) -> Iterator[None]:
        """Buy meanwhile; what was begun is finished."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join(FINISHED_S)
        assert not self._thread.is_alive(), "a purchase hangs"
        if self._failure is not None:
            raise self._failure

    def assert_bought(self, installation: Installation) -> None:
        """What he was told to be done is there, each purchase once."""
        with reading(installation.app.engine) as connection:
            found = balance(
                connection, installation.app.log, self._organization, now=installation.app.clock()
            )
        assert self.bought > 0
        assert found.purchased_nanos == self.bought * CREDIT_NANOS

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._buy(f"order-{self.bought}")
                self.bought += 1
                self._stopped.wait(self._pause_s)
        except BaseException as failure:
            self._failure = failure
            raise

    def _buy(self, key: str) -> None:
        command = BuyCredits(organization=self._organization, credit_nanos=CREDIT_NANOS)
        context = CommandContext(actor="operator", command_id=key)
        for _ in range(MOST_TRIES):
            try:
                outcome = self._app.organizations.handle(command, context)
            except Unavailable:
                self.interrupted += 1
                self._stopped.wait(0.05)
                continue
            assert isinstance(outcome, Done), outcome
            return
        raise AssertionError(f"{key} was never done")
