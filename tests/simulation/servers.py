"""Two Redis servers of one history, as the processes see them: the real functions in a real server.

Both are databases of one process: a restart, a restore and a failover change what stands in a database and
which incarnation answers for it. The functions' clock is the simulation's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from gate.servers import CLOCK, replaced
from redis import Redis
from simulation.scheduler import Process, Scheduler

from tollkeeper.errors import GateUnavailable, TollkeeperError
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Copy, EpochKey, Granted
from tollkeeper.gate.asking import bell_key, command_of
from tollkeeper.gate.commands import Incarnation
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.gate.keys import SINGLE
from tollkeeper.gate.library import Library, assemble, lua_source

A = TypeVar("A")
CLOCK_KEY = "simulation:clock"
TOLD = f"  return tonumber(redis.call('GET', '{CLOCK_KEY}'))\n"
INCARNATION_KEY = "simulation:incarnation"
INCARNATION = """\
  local told = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
  return told:match('\\nrun_id:(%w+)'), told:match('\\nmaster_replid:(%w+)')
"""
TOLD_INCARNATION = f"  return redis.call('GET', '{INCARNATION_KEY}'):match('(%S+) (%S+)')\n"
SLOW_S = (0.2, 0.8, 2.0)
PRIMARY = "tollkeeper-primary:"
MOST_SAVED = 6


def simulated_library() -> Library:
    """The functions, with the simulation's clock and incarnations."""
    told = replaced(lua_source(), CLOCK, TOLD)
    return assemble(replaced(told, INCARNATION, TOLD_INCARNATION))


class Server:
    """One server: its data, and which run of which history it is."""

    def __init__(self, client: Redis, number: int) -> None:
        self.client = client
        self.number = number
        self.incarnation = Incarnation("none", "none")
        self.skew_micros = 0
        self.saved: list[dict[bytes, bytes]] = []
        """Older states, as a journal or a lagging replica would have them."""
        self._connection = client.connection_pool.get_connection()

    def answer_to(self, *commands: Sequence[object]) -> object:
        """What it says to the last of them; without the client's pools and retries, which take long."""
        connection: Any = self._connection
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands][-1]

    def save(self) -> None:
        """Remember this state."""
        self.saved = [*self.saved[1 - MOST_SAVED :], self.state()]

    def state(self) -> dict[bytes, bytes]:
        """All keys, as they can be restored."""
        keys: list[bytes] = self.client.keys("tollkeeper*")  # type: ignore[assignment]  # bytes, undecoded
        pipe = self.client.pipeline(transaction=False)
        for key in keys:
            pipe.dump(key)
        return dict(zip(keys, pipe.execute(), strict=True))

    def restore(self, state: dict[bytes, bytes]) -> None:
        """Have this state and no other."""
        self.client.flushdb()
        pipe = self.client.pipeline(transaction=False)
        for key, dumped in state.items():
            pipe.restore(key, 0, dumped)
        pipe.execute()


class Grant(msgspec.Struct):
    """The moment of a grant: the how-manieth of all, and the organization's state as it left it."""

    number: int
    state: Mapping[str, str]
    made_by: tuple[Incarnation, int]
    server: Server
    lease_until: int


class InFlight(msgspec.Struct):
    """A call that its caller has given up, and that will arrive all the same."""

    server: Server
    call: Call[object]


class Servers:
    """Which server is the primary, and what is under way to each."""

    def __init__(self, scheduler: Scheduler, address: str, library: Library) -> None:
        self.scheduler = scheduler
        self.library = library
        self.all = [Server(Redis.from_url(address, db=number), number) for number in (0, 1)]
        self.primary = self.all[0]
        self.in_flight: list[InFlight] = []
        self.is_faulty = False
        self.just_granted: Callable[[Process], None] = lambda process: None
        """Called while the answer is on its way to this process."""
        self.grants: dict[str, Grant] = {}
        """By hold id, the first of each server and amount: the same answer may be given again."""
        self._granted = 0
        self.touched: set[tuple[int, str]] = set()
        """At which server which organization may have changed since somebody looked."""
        self._runs = 0
        for server in self.all:
            server.client.flushdb()
        GateFunctions(self.primary.client, library).load()
        self.begin_run(self.primary, history="history-1")

    def begin_run(self, server: Server, *, history: str | None = None) -> None:
        """Another run of this server, of the history that its data is of unless told."""
        self._runs += 1
        history = history or server.incarnation.replication_id
        server.incarnation = Incarnation(f"run-{self._runs}", history)

    def restart(self, state: dict[bytes, bytes]) -> None:
        """The primary dies and comes back on this state."""
        self.primary.restore(state)
        self.begin_run(self.primary)

    def fail_over(self, state: dict[bytes, bytes]) -> Server:
        """The other server, which has seen so much, becomes the primary; the old one lives on."""
        old, new = self.primary, self.all[1 - self.primary.number]
        new.restore(state)
        self._runs += 1
        new.incarnation = Incarnation(f"run-{self._runs}", f"history-{self._runs}")
        new.saved = []
        self.primary = new
        return old

    def ask(self, server: Server, call: Call[A]) -> object:
        """Run it there now, by that server's clock."""
        here = f"{server.incarnation.run_id} {server.incarnation.replication_id}"
        clock = self.scheduler.wall + server.skew_micros
        told = ("MSET", CLOCK_KEY, clock, INCARNATION_KEY, here)
        answer = call.decode(server.answer_to(told, command_of(self.library, call)))
        if isinstance(answer, Granted):
            self._remember(server, call, answer)
        if not call.only_reads and not call.keys[0].startswith(PRIMARY):
            self.touched.add((server.number, _organization_in(call)))
        return answer

    def copy_of(self, server: Server, organization: str) -> Copy | None:
        """All that this server has of it."""
        found = self.ask(server, encoding.copy(organization))
        return found if isinstance(found, Copy) else None

    def _remember(self, server: Server, call: Call[A], answer: Granted) -> None:
        name = _organization_in(call)
        hold_id = str(call.arguments[3 if call.function == "hold" else 2])
        made_by = (server.incarnation, answer.held_micros)
        known = self.grants.get(hold_id)
        if known is None or known.made_by != made_by:
            self._granted += 1
            seen = self.copy_of(server, name)
            assert seen is not None
            self.grants[hold_id] = Grant(
                self._granted, seen.fields, made_by, server, answer.lease_until
            )
        else:
            known.lease_until = answer.lease_until

    def deliver(self, which: int) -> None:
        """One of those under way arrives."""
        late = self.in_flight.pop(which)
        self.scheduler.note("network", f"delivers a late {late.call.function}")
        self.ask(late.server, late.call)

    def close(self) -> None:
        for server in self.all:
            server.client.close()


class SimulatedFunctions(GateFunctions):
    """One process' connection: answers may be lost, calls may be late, and the process may be cut off.

    `checks` is what an SDK does on each new connection, and a consumer doesn't.
    """

    checks_connections = True
    """Taken away where that is the bug."""

    def __init__(self, servers: Servers, process: Process, *, checks: bool) -> None:
        super().__init__(servers.primary.client, servers.library)
        self._servers = servers
        self._process = process
        self._checks = checks
        self.cut_off_with: Server | None = None
        """The only server that this process can reach, while it is cut off."""
        self._connected: tuple[int, Incarnation] | None = None

    @property
    def server(self) -> Server:
        """Whom this process reaches."""
        return self.cut_off_with or self._servers.primary

    def run(self, call: Call[A]) -> A:
        process, servers = self._process, self._servers
        process.pause(f"asks {call.function}")
        server = self.server
        self._connect(server)
        random = servers.scheduler.random
        fault = random.randrange(32) if servers.is_faulty else 0
        if fault == 1:
            raise GateUnavailable("the call was lost")
        if fault == 2:
            servers.in_flight.append(InFlight(server, call))
            process.pause(f"gives {call.function} up")
            raise GateUnavailable("no answer in time")
        answer = servers.ask(server, call)
        servers.scheduler.note(
            process.name, f"{call.function} {call.arguments[1:]} at {server.number}: {answer}"
        )
        if isinstance(answer, Granted) and servers.is_faulty:
            servers.just_granted(process)
        if fault == 4:
            process.sleep(random.choice(SLOW_S))
        if fault == 3:
            process.pause(f"misses the answer to {call.function}")
            raise GateUnavailable("the answer was lost")
        process.pause(f"got {call.function}")
        if self.server is not server:
            self._connected = None
        return answer  # type: ignore[return-value]  # as decoded

    def run_many(self, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
        """One by one, since others may come between those of a pipeline."""
        return [self._settled_one(call) for call in calls]

    def wait_until_asked(self, timeout_s: float, *, tag: str = SINGLE) -> bool:
        """Whether it has rung: the bell as the functions ring it."""
        self._process.pause("listens")
        return self.server.answer_to(("LPOP", bell_key(tag))) is not None

    def incarnation(self, tag: str = SINGLE) -> Incarnation:
        self._process.pause("asks who it is")
        return self.server.incarnation

    def load(self) -> None:
        """It is loaded for all."""

    def _settled_one(self, call: Call[A]) -> A | TollkeeperError:
        try:
            return self.run(call)
        except TollkeeperError as error:
            return error

    def _connect(self, server: Server) -> None:
        """Every new connection is to a server whose incarnation the epoch key names."""
        now = (server.number, server.incarnation)
        if self._connected == now:
            return
        self._connected = None
        if self._checks and self.checks_connections:
            key = self._servers.ask(server, encoding.read_epoch())
            named = (
                Incarnation(key.run_id, key.replication_id) if isinstance(key, EpochKey) else None
            )
            if named != server.incarnation:
                raise GateUnavailable("another incarnation than the epoch key's")
        self._connected = now


def _organization_in(call: Call[A]) -> str:
    return call.keys[0].split("{")[1].split("}")[0]
