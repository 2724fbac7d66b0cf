"""A product service for tests that kill what it depends on: many callers at once, at the edge of a cap.

`python -m at_the_cap.service JOURNAL CALLERS asyncio|threads SEED ORGANIZATION…`, its home and Redis in the
environment. Says `ready` once holds can be asked for, ends in order when standard input is closed, and
then prints what became of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from random import Random

import msgspec
from at_the_cap.audit import Entry, Kind, line_of

from tollkeeper.gate.sdk import AsyncGate, Gate, Refused
from tollkeeper.metering.usage import Usage

MEMBERS = ("ann", "bob", "cat", "dan")
SURFACE = "web"
MODEL = "claude-haiku-4-5"
"""An input token costs one micro-USD, an output token five: no figure is rounded."""
INPUT_MICROS, OUTPUT_MICROS = 1, 5
MOST_INPUT, MOST_OUTPUT = 40, 8
TAKES_S = (0.0, 0.02, 0.1, 0.5, 10.0)
"""Long calls are open while Redis dies, and while a cap is used up that they were left out of."""
READY_S = 60.0
CLOSED_S = 60.0


class Turn(msgspec.Struct, frozen=True):
    """What one caller is about to do."""

    organization: str
    member: str
    input_tokens: int
    output_tokens: int
    takes_s: float
    extends: bool
    releases: bool
    uses_all: bool
    pause_s: float

    @property
    def call(self) -> dict[str, object]:
        """What the gate is asked."""
        return {
            "organization": self.organization,
            "member": self.member,
            "surface": SURFACE,
            "model": MODEL,
            "input_tokens": self.input_tokens,
            "max_output_tokens": self.output_tokens,
        }

    def usage(self, held_micros: int) -> Usage:
        """What the call consumed: as much as was held, or less."""
        most_output = (held_micros - self.input_tokens * INPUT_MICROS) // OUTPUT_MICROS
        return Usage(
            organization=self.organization,
            member=self.member,
            surface=SURFACE,
            model=MODEL,
            input_tokens=self.input_tokens,
            output_tokens=most_output if self.uses_all else most_output // 2,
        )


def next_turn(random: Random, organizations: list[str]) -> Turn:
    """Some take long, some extend, some are left."""
    return Turn(
        organization=random.choice(organizations),
        member=random.choice(MEMBERS),
        input_tokens=random.randint(1, MOST_INPUT),
        output_tokens=random.randint(1, MOST_OUTPUT),
        takes_s=random.choice(TAKES_S),
        extends=random.random() < 0.15,
        releases=random.random() < 0.25,
        uses_all=random.random() < 0.7,
        pause_s=random.uniform(0.2, 0.8),
    )


class JournalFile:
    """Appended to in whole lines, which outlive the process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, kind: Kind, turn: Turn, hold_id: str | None, micros: int = 0) -> None:
        """One entry, as of now."""
        now = time.monotonic_ns()
        entry = Entry(now, kind, hold_id or "-", turn.organization, turn.member, micros)
        os.write(self._file, line_of(entry).encode())


async def wait_for(stop: asyncio.Event, seconds: float) -> None:
    """As an event of a thread does it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def why(refused: Refused) -> str:
    """The first reason."""
    return refused.reasons[0].reason


async def call_async(
    gate: AsyncGate, journal: JournalFile, turn: Turn, stop: asyncio.Event
) -> bool:
    """One call; False when it was refused."""
    try:
        hold = await gate.hold(**turn.call)  # type: ignore[arg-type]  # a plan has all fields
    except Refused as refused:
        journal.write("refused", turn, why(refused))
        return False
    journal.write("granted", turn, hold.hold_id, hold.held_micros)
    await wait_for(stop, turn.takes_s)
    if turn.extends:
        try:
            await hold.extend(max_output_tokens=2 * turn.output_tokens)
            journal.write("extended", turn, hold.hold_id, hold.held_micros)
        except Refused as refused:
            journal.write("refused", turn, why(refused))
    if turn.releases:
        journal.write("releasing", turn, hold.hold_id)
        await hold.release()
    else:
        journal.write("settling", turn, hold.hold_id)
        await hold.settle(turn.usage(hold.held_micros))
        journal.write("settled", turn, hold.hold_id)
    return True


def call(gate: Gate, journal: JournalFile, turn: Turn, stop: threading.Event) -> bool:
    """The same in a thread."""
    try:
        hold = gate.hold(**turn.call)  # type: ignore[arg-type]  # a plan has all fields
    except Refused as refused:
        journal.write("refused", turn, why(refused))
        return False
    journal.write("granted", turn, hold.hold_id, hold.held_micros)
    stop.wait(turn.takes_s)
    if turn.extends:
        try:
            hold.extend(max_output_tokens=2 * turn.output_tokens)
            journal.write("extended", turn, hold.hold_id, hold.held_micros)
        except Refused as refused:
            journal.write("refused", turn, why(refused))
    if turn.releases:
        journal.write("releasing", turn, hold.hold_id)
        hold.release()
    else:
        journal.write("settling", turn, hold.hold_id)
        hold.settle(turn.usage(hold.held_micros))
        journal.write("settled", turn, hold.hold_id)
    return True


@contextmanager
def ending_the_process() -> Iterator[None]:
    """A caller that breaks must not be left unseen until all others have ended."""
    is_well = False
    try:
        yield
        is_well = True
    finally:
        if not is_well:
            traceback.print_exc()
            os._exit(1)


def say(word: object) -> None:
    """To who started this."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def in_asyncio(
    journal: JournalFile, callers: int, seed: int, organizations: list[str]
) -> None:
    """All callers are tasks of one loop."""
    stop = asyncio.Event()
    gate = AsyncGate.open()
    assert await gate.wait_until_ready(READY_S), gate.stats().trouble
    say("ready")

    async def caller(number: int) -> None:
        random = Random(seed * 10_000 + number)
        with ending_the_process():
            while not stop.is_set():
                turn = next_turn(random, organizations)
                if not await call_async(gate, journal, turn, stop):
                    await wait_for(stop, turn.pause_s)

    async def until_told() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stop.set()

    await asyncio.gather(until_told(), *map(caller, range(callers)))
    is_closed = await gate.close(CLOSED_S)
    say(json.dumps({"closed": is_closed, **msgspec.to_builtins(gate.stats())}))


def in_threads(journal: JournalFile, callers: int, seed: int, organizations: list[str]) -> None:
    """Each caller is a thread."""
    stop = threading.Event()
    gate = Gate.open()
    assert gate.wait_until_ready(READY_S), gate.stats().trouble
    say("ready")

    def caller(number: int) -> None:
        random = Random(seed * 10_000 + number)
        with ending_the_process():
            while not stop.is_set():
                turn = next_turn(random, organizations)
                if not call(gate, journal, turn, stop):
                    stop.wait(turn.pause_s)

    with ThreadPoolExecutor(callers) as pool:
        for number in range(callers):
            pool.submit(caller, number)
        sys.stdin.read()
        stop.set()
    is_closed = gate.close(CLOSED_S)
    say(json.dumps({"closed": is_closed, **msgspec.to_builtins(gate.stats())}))


def main(path: str, callers: str, way: str, seed: str, *organizations: str) -> None:
    """Call until told to stop."""
    journal = JournalFile(path)
    if way == "asyncio":
        asyncio.run(in_asyncio(journal, int(callers), int(seed), [*organizations]))
    else:
        in_threads(journal, int(callers), int(seed), [*organizations])


if __name__ == "__main__":
    main(*sys.argv[1:])
