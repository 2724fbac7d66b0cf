"""A real server of a test's own, real threads and real clocks; the test does what consumers would do."""

from __future__ import annotations

import base64

from gate.books import periods_at
from gate_sdk.desk import MODEL
from metering.fake_log import MemoryLog
from support.waiting import eventually

from tollkeeper.events.codec import decode, encode
from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.events.prices import PricesPublished
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Cap, Snapshot
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.sdk.core import Core

LONG_MICROS = 3_600_000_000


class Consumer:
    """Epoch 1 of a new server, open; `acme` is warm, with caps of 500 and 300 micro-USD unless told."""

    def __init__(self, address: str, *, caps: tuple[int, int] = (500, 300)) -> None:
        self.log = MemoryLog()
        self.functions = GateFunctions(connect(address))
        self.functions.load()
        here = self.functions.incarnation()
        self.functions.run(encoding.begin_epoch(1, here))
        self.functions.run(encoding.open_epoch(1))
        now = self.functions.run(encoding.read_epoch()).now
        self.functions.run(encoding.renew(1, here, asked_at=now, lease_micros=LONG_MICROS))
        self.functions.run(encoding.publish(1, "prices", 1, [prices_word(now)]))
        self.functions.run(encoding.warm("acme", snapshot_at(now, caps=caps)))

    def until_ready(self, core: Core) -> None:
        """List the emitters that the log tells of, until this one may hold."""
        core.check_open()

        def is_ready() -> bool:
            started = {one.emitter for one in self.events() if isinstance(one, EmitterStarted)}
            if started:
                self.functions.run(encoding.list_emitters(1, started=sorted(started)))
            core.session.wake()
            return core.trouble is None

        eventually(is_ready, what="a gate that is ready")

    def events(self) -> list[object]:
        """All that is on the log."""
        return [
            decode(record.value)
            for partition, end in self.log.end_offsets().items()
            for record in self.log.read(partition, 0, max_records=end or 1)
        ]

    def usages(self) -> list[UsageRecorded]:
        """All usage that is on the log."""
        return [one for one in self.events() if isinstance(one, UsageRecorded)]

    def held_micros(self) -> int:
        """What the organization's open holds reserve."""
        return sum(one.held_micros for one in self.open_holds())

    def open_holds(self) -> tuple[a.OpenHold, ...]:
        """The table."""
        return self.functions.run(encoding.open_holds("acme"))

    def close(self) -> None:
        """End the connections."""
        self.functions.close()


def prices_word(now: int) -> str:
    """The prices as they are published."""
    event = PricesPublished(
        publication_id="p-1",
        effective_from=now - LONG_MICROS,
        source="test",
        source_date="2026-10-31",
        prices=(MODEL,),
        command_id="cmd-1",
        actor="operator",
        occurred_at=now,
    )
    return base64.b64encode(encode(event)).decode()


def snapshot_at(now: int, *, caps: tuple[int, int] = (500, 300)) -> Snapshot:
    """Caps of the organization and of a member, as much again of credits, nothing spent."""
    return Snapshot(
        epoch=1,
        phase="open",
        offset=3,
        position=10,
        periods=periods_at(now),
        funding="prepaid",
        seats="every_member",
        levels=("organization", "member"),
        caps=(Cap("organization", caps[0]), Cap("member", caps[1])),
        spent=(),
        used_micros=0,
        purchased_micros=2 * caps[0],
        members=("ann", "bob"),
    )
