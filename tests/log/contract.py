"""What every adapter of the log port must do. An adapter's test module inherits LogContract.

Nothing in the suite may rest on one adapter: times are compared with a tolerance, groups are driven by
polling until they settle.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from log.append_contract import AppendContract
from log.group_contract import GroupContract
from log.making import LogMaker

from tollkeeper.log.port import Log


class LogContract(AppendContract, GroupContract):
    """The suite. The subclass's factory must use `session_timeout_s`."""

    @pytest.fixture
    def make_log(self) -> Iterator[LogMaker]:
        """Overridden: yields a LogMaker on a fresh log with PARTITIONS partitions."""
        raise NotImplementedError

    @pytest.fixture
    def log(self, make_log: LogMaker) -> Log:
        """One handle on the fresh log."""
        return make_log()
