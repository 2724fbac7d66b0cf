"""Keeps one membership of a consumer group alive from a thread of its own, while its owner polls."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

from tollkeeper.errors import TollkeeperError
from tollkeeper.log import sqlite_group
from tollkeeper.log.sqlite_file import LogFile

_BEATS_PER_SESSION = 3


def monotonic_micros() -> int:
    """The machine's monotonic clock: all its processes share it and nobody sets it."""
    return time.monotonic_ns() // 1000


class Heartbeats:
    """Heartbeats of one member. Leaves the group when the owner doesn't poll for too long.

    Has a LogFile of its own: the consumer's connection must see what is committed here as a change.
    """

    def __init__(
        self,
        file: LogFile,
        group: str,
        member: str,
        *,
        session_timeout_s: float,
        max_poll_interval_s: float,
    ) -> None:
        self._file = file
        self._group = group
        self._member = member
        self._session_timeout_s = session_timeout_s
        self._max_poll_interval_s = max_poll_interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat_at = 0
        self._is_polling = False
        self._polled_at_s = 0.0

    @contextlib.contextmanager
    def polling(self) -> Iterator[None]:
        """Marks that the owner is inside `poll`."""
        self._is_polling = True
        try:
            yield
        finally:
            self._polled_at_s = time.monotonic()
            self._is_polling = False

    def joined(self, at: int) -> None:
        """The owner became a member: from now on its session is kept alive."""
        self._beat_at = at
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"log-heartbeats-{self._group}", daemon=True
            )
            self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Let the owner wait; ends early when it is closed."""
        self._stop.wait(timeout_s)

    def is_overdue(self) -> bool:
        """Whether the session ran out, as after a long stop of the process."""
        age = monotonic_micros() - self._beat_at
        return self._thread is not None and age > self._session_timeout_s * 1_000_000

    def beat(self) -> None:
        """Extend the session; when it has run out the member is expelled by this, like any other."""
        began_at = monotonic_micros()
        self._write(
            lambda connection: sqlite_group.heartbeat(
                connection, self._group, self._member, now=monotonic_micros()
            )
        )
        self._beat_at = began_at

    def close(self) -> None:
        """Stop and leave the group; when the log is away the session's end does the leaving."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * self._session_timeout_s)
            with contextlib.suppress(TollkeeperError):
                self._leave()
        self._file.close()

    def _run(self) -> None:
        while not self._stop.wait(self._session_timeout_s / _BEATS_PER_SESSION):
            # What fails here fails in `poll` as well, which raises it; the session runs on meanwhile.
            with contextlib.suppress(TollkeeperError):
                if self._is_abandoned():
                    self._leave()
                else:
                    self.beat()

    def _is_abandoned(self) -> bool:
        idle_s = time.monotonic() - self._polled_at_s
        return not self._is_polling and idle_s > self._max_poll_interval_s

    def _leave(self) -> None:
        self._write(lambda connection: sqlite_group.leave(connection, self._group, self._member))

    def _write(self, work: Callable[[sqlite3.Connection], None]) -> None:
        self._file.write(work, timeout_s=self._session_timeout_s)
