"""The thread that drives a session's upkeep: a loop around `tick`, and nothing else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)


class Ticker:
    """Ticks each `every_s`, and at once when it is woken. A bug ends it, loudly."""

    def __init__(self, tick: Callable[[], None], every_s: float) -> None:
        self._tick = tick
        self._every_s = every_s
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._ticked = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._is_stopping:
                    self._thread = threading.Thread(
                        target=self._run, name="tollkeeper-gate", daemon=True
                    )
                    self._thread.start()

    def wake(self) -> None:
        """Tick at once."""
        self._changed.set()

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Tick until it holds; it must come to hold by time alone. Without a thread it isn't begun."""
        thread = self._thread
        with self._ticked:
            while thread is not None and thread.is_alive() and not condition():
                self.wake()
                self._ticked.wait(self._every_s)

    def stop(self, timeout_s: float) -> None:
        """End the thread after the tick that it is in."""
        with self._lock:
            self._is_stopping = True
            thread = self._thread
        self.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        said: str | None = None
        while not self._is_stopping:
            self._changed.clear()
            try:
                self._tick()
            except Exception as error:
                if self._is_stopping:  # what it works with is being closed under it
                    return
                if str(error) != said:
                    logger.error(LogLine("gate_stopped", **failure(error)), exc_info=True)
                said = str(error)
            else:
                said = None
            finally:
                with self._ticked:
                    self._ticked.notify_all()
            self._changed.wait(self._every_s)
