"""Child processes of the log tests: a group member and an appender that tell what they see as JSON lines.

`Child` is the parent's side. Run as a script this file is the child: it makes its log from the same
factory and arguments as the test.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any

from support.waiting import eventually

from tollkeeper.log.port import Log, Outgoing


def open_log(factory: str, arguments: dict[str, Any]) -> Log:
    """Call `module:function` with the arguments; both sides of a test make their logs this way."""
    module, _, function = factory.partition(":")
    log: Log = getattr(importlib.import_module(module), function)(**arguments)
    return log


class Child:
    """A child process and the messages that it has printed so far; it never outlives the `with`."""

    def __init__(
        self, role: str, *arguments: str, environment: dict[str, str] | None = None
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, __file__, role, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
        )
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.messages.append(json.loads(line))

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.send_signal(signal.SIGKILL)
        self.wait()

    def go(self) -> None:
        """Let a child go on that waits for its start."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for the end and for all messages; the exit status."""
        status = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send the signal; a stop has happened when this returns."""
        self._process.send_signal(number)
        if number is signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    @property
    def assignment(self) -> frozenset[int]:
        """What a member said last that it owns."""
        return frozenset(self._assignments()[-1]["assignment"] if self._assignments() else ())

    @property
    def assignment_epoch(self) -> int:
        """The epoch that a member told last."""
        return int(self._assignments()[-1]["epoch"]) if self._assignments() else 0

    def _assignments(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if "assignment" in message]

    def says(self, name: str, timeout_s: float = 30.0) -> Any:
        """Wait until the child has told `name`, and answer its first value."""
        eventually(
            lambda: any(name in message for message in self.messages), timeout_s, what=f"{name!r}"
        )
        return next(message[name] for message in self.messages if name in message)


def _tell(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _member(log: Log, group: str) -> None:
    """Poll for ever, from the start of every partition that is newly owned."""
    consumer = log.consumer(group)
    epoch = 0
    while True:
        records = consumer.poll(max_records=100, timeout_s=0.05)
        if records:
            _tell(read=[[record.partition, record.offset] for record in records])
        if consumer.assignment_epoch != epoch:
            epoch = consumer.assignment_epoch
            for partition in consumer.assignment:
                consumer.seek(partition, 0)
            _tell(assignment=sorted(consumer.assignment), epoch=epoch)


def _appender(log: Log, name: str, batches: int, batch: int) -> None:
    """Append numbered records to all partitions in turn; tell every acknowledged batch."""
    _tell(ready=True)
    sys.stdin.readline()
    number = 0
    for _ in range(batches):
        records = []
        for _ in range(batch):
            value = f"{name}:{number}".encode()
            records.append(Outgoing(number % log.partition_count, None, value))
            number += 1
        offsets = log.append(records, timeout_s=30.0)
        _tell(
            acknowledged=[
                [record.partition, offset, record.value.decode()]
                for record, offset in zip(records, offsets, strict=True)
            ]
        )
    log.close()


def _main(role: str, factory: str, arguments: str, *rest: str) -> None:
    log = open_log(factory, json.loads(arguments))
    if role == "member":
        _member(log, rest[0])
    else:
        _appender(log, rest[0], int(rest[1]), int(rest[2]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
