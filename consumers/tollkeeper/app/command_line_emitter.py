"""Who the command line is at the gate: one emitter a home, told of in a file, with no process that lives on.

Its holds outlive the command that made them. Nobody re-asserts them when Redis is replaced, and they go
when the emitter is retired: when no command has touched it for so long, or by an operator.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tollkeeper.errors import GateUnavailable, LogUnavailable, Misuse
from tollkeeper.events.codec import encode
from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.events.gate import GateEvent
from tollkeeper.events.ids import new_command_line_id, now_micros
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Log, Outgoing
from tollkeeper.metering.usage import Usage

FILE = "command-line.json"
APPEND_TIMEOUT_S = 5.0
ISSUED_S = 3_600
"""An id that is older is refused by the gate, so that its time needs no more to be remembered."""
MOST_ISSUED = 10_000


class _Kept(msgspec.Struct):
    """What the file has. `issued` is when a named hold was first asked for, in milliseconds, by its name."""

    emitter: str
    log: str
    is_started: bool = False
    issued: dict[str, int] = {}


class CommandLineEmitter:
    """Implements the SDK's Recorder, on the log itself. Nothing is spooled: it reports no usage."""

    def __init__(self, home: Path, log: Log) -> None:
        self._path = home / FILE
        self._log = log
        self._emitter: str | None = None

    def identity(self) -> Future[str]:
        """The emitter's id; the log was told of it."""
        future: Future[str] = Future()
        try:
            self._emitter = self._emitter or self._known()
        except (GateUnavailable, LogUnavailable) as away:
            future.set_exception(away)
        else:
            future.set_result(self._emitter)
        return future

    def begin_anew(self, emitter: str) -> None:
        """It was retired: the next `identity` is another one."""
        with self._kept() as kept:
            if kept.emitter == emitter:
                kept.emitter, kept.is_started = new_command_line_id(), False
        self._emitter = None

    def issued_millis(self, name: str, now_millis: int) -> int:
        """When the hold of this name was first asked for: asked for again it is the same one."""
        with self._kept() as kept:
            recent = {
                one: at
                for one, at in kept.issued.items()
                if abs(now_millis - at) < ISSUED_S * 1_000
            }
            kept.issued = dict([*recent.items()][-MOST_ISSUED:])
            return kept.issued.setdefault(name, now_millis)

    def hand_in(self, usages: Sequence[Usage]) -> Future[None]:
        """The command line has no usage of its own: see `emit`."""
        raise Misuse("the command line's holds are settled by usage that services report")

    def mark(self) -> Callable[[], bool]:
        """There is no usage that the log could lack."""
        return lambda: True

    def report(self, facts: Sequence[GateEvent]) -> Future[None]:
        """Facts about refusals, for the log."""
        future: Future[None] = Future()
        count = self._log.partition_count
        records = [
            Outgoing(
                partition_for(fact.organization, count), fact.organization.encode(), encode(fact)
            )
            for fact in facts
            if not isinstance(fact, EmitterStarted)
        ]
        try:
            self._log.append(records, timeout_s=APPEND_TIMEOUT_S)
        except LogUnavailable as away:
            future.set_exception(away)
        else:
            future.set_result(None)
        return future

    def close(self, timeout_s: float) -> bool:
        """Nothing waits here."""
        return True

    def _known(self) -> str:
        with self._kept() as kept:
            if kept.log != self._log.identity:  # of another log, on which nobody heard of it
                kept.emitter, kept.log, kept.is_started = (
                    *(new_command_line_id(), self._log.identity),
                    False,
                )
            if not kept.is_started:
                value = encode(EmitterStarted(emitter=kept.emitter, occurred_at=now_micros()))
                partitions = range(self._log.partition_count)
                records = [Outgoing(partition, None, value) for partition in partitions]
                self._log.append(records, timeout_s=APPEND_TIMEOUT_S)
                kept.is_started = True
            return kept.emitter

    @contextmanager
    def _kept(self) -> Iterator[_Kept]:
        """What the file has; what is changed in it is written. One process at a time."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise GateUnavailable(f"{self._path} can't be written: {error.strerror}") from error
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.read()
            kept = _read(before)
            yield kept
            after = msgspec.json.encode(kept)
            if after != before:
                file.seek(0)
                file.truncate()
                file.write(after)


def _read(data: bytes) -> _Kept:
    """A file that was cut off by a crash says nothing: who was in it is retired when nobody sees it."""
    try:
        return msgspec.json.decode(data, type=_Kept)
    except msgspec.MsgspecError:
        return _Kept(emitter=new_command_line_id(), log="")
