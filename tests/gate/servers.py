"""Gates for tests: the functions in a real server, with a clock of the test's or the server's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Renewed
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.gate.library import Library, assemble, lua_source

CLOCK = """\
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
"""
LEASE_MICROS = 3_600_000_000_000


def replaced(source: str, old: str, new: str) -> str:
    """The source with one place changed; a place that isn't there is the test's mistake."""
    assert source.count(old) == 1, f"{old!r} is there {source.count(old)} times"
    return source.replace(old, new)


class Server:
    """The functions, changed as a test wants, in a server that other tests use, too."""

    def __init__(self, address: str, source: str | None = None) -> None:
        self.address = address
        self.client = Redis.from_url(address)
        self.token = f"t{secrets.token_hex(5)}"
        self._clock = f"tollkeeper-test:{self.token}:clock"
        told = f"  return tonumber(redis.call('GET', '{self._clock}'))\n"
        self.source = replaced(source or lua_source(), CLOCK, told)
        self.library: Library = assemble(self.source)
        self.gate = GateFunctions(self.client, self.library)
        self.gate.load()
        self.here = self.gate.incarnation()

    def set_clock(self, micros: int) -> None:
        """What the functions take for Redis' clock."""
        self.client.set(self._clock, micros)

    def close(self) -> None:
        """Leave nothing behind but a few keys."""
        self.client.function_delete(self.library.name)
        self.client.close()


@contextmanager
def told_the_time(address: str, source: str | None = None) -> Iterator[Server]:
    """A server whose functions' clock is the test's."""
    server = Server(address, source)
    try:
        yield server
    finally:
        server.close()


def open_gate(
    gate: GateFunctions,
    tag: str,
    *,
    emitters: tuple[str, ...],
    organizations: tuple[str, ...],
    epoch: int = 1,
) -> None:
    """An epoch, open and leased, in which these emitters may hold in these organizations."""
    gate.run(encoding.begin_epoch(epoch, gate.incarnation(tag=tag), tag=tag))
    gate.run(encoding.list_emitters(epoch, started=emitters, tag=tag))
    for emitter in emitters:
        gate.run(encoding.note(epoch, emitter, organizations, tag=tag))
        gate.run(encoding.answer(epoch, emitter, tag=tag))
    gate.run(encoding.open_epoch(epoch, tag=tag))
    renew(gate, tag, epoch=epoch)


def renew(gate: GateFunctions, tag: str, *, epoch: int, lease_micros: int = LEASE_MICROS) -> int:
    """A long lease; when it ends."""
    now = gate.run(encoding.read_epoch(tag=tag)).now
    here = gate.incarnation(tag=tag)
    answer = gate.run(encoding.renew(epoch, here, asked_at=now, lease_micros=lease_micros, tag=tag))
    assert isinstance(answer, Renewed), answer
    return answer.lease_until
