"""Opening the log that the settings name. Which adapter stands behind the port is decided here alone."""

from __future__ import annotations

from collections.abc import Callable

from tollkeeper.errors import LogUnavailable
from tollkeeper.log.port import Log
from tollkeeper.log.settings import LogSettings
from tollkeeper.log.sqlite import SqliteLog, now_micros


def open_log(settings: LogSettings, *, clock: Callable[[], int] = now_micros) -> Log:
    """The log; making one costs nothing, its home is made where it is missing. Close it."""
    if settings.kafka is not None:
        from tollkeeper.log.kafka import KafkaLog  # the embedded log does without its import

        return KafkaLog(settings.kafka)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LogUnavailable(
            f"TOLLKEEPER_HOME {settings.home} can't be made: {error.strerror}; name another folder"
        ) from error
    return SqliteLog(
        settings.log_path,
        partitions=settings.partitions,
        clock=clock,
        session_timeout_s=settings.session_timeout_s,
    )
