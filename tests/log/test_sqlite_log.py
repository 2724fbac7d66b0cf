"""The embedded log under the contract of every log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from log.contract import LogContract
from log.making import PARTITIONS, LogMaker

from tollkeeper.log.port import Log
from tollkeeper.log.sqlite import SqliteLog


def open_sqlite(
    path: str,
    session_timeout_s: float,
    max_poll_interval_s: float = 300.0,
    partitions: int = PARTITIONS,
) -> Log:
    """The factory that tests and their child processes share."""
    return SqliteLog(
        Path(path),
        partitions=partitions,
        session_timeout_s=session_timeout_s,
        max_poll_interval_s=max_poll_interval_s,
    )


class TestSqliteLog(LogContract):
    """Kafka's semantics in one SQLite file."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> Iterator[LogMaker]:
        path = tmp_path / "log.db"

        def recreate() -> None:
            for file in tmp_path.glob("log.db*"):
                file.unlink()

        maker = LogMaker(
            "log.test_sqlite_log:open_sqlite",
            {"path": str(path), "session_timeout_s": self.session_timeout_s},
            recreate,
        )
        yield maker
        maker.close()
