"""What goes wrong, and what customers do meanwhile: some of it in each run, chosen by the seed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

from simulation.logs import PARTITIONS
from simulation.processes import ConsumerProcess, ServiceProcess, World
from simulation.scheduler import MICROS_PER_S, Process
from simulation.template import ARREARS, MEMBERS, ORGANIZATIONS, PREPAID, Decisions, bought, capped

from tollkeeper.events.codec import encode
from tollkeeper.events.organization import OrganizationEvent
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing

P = TypeVar("P", ConsumerProcess, ServiceProcess)
MOST_SKEWED_MICROS = 3 * MICROS_PER_S
STALLS_S = (0.1, 0.6, 3.0)
UNDER_A_GRANT = 25
"""Once in so many grants, in rough weather."""


class Installation:
    """All processes of a run, and what may happen to them."""

    def __init__(self, world: World, decisions: Decisions) -> None:
        self.world = world
        self.decisions = decisions
        self.random = world.scheduler.random
        self.consumers: list[ConsumerProcess] = []
        self.services: list[ServiceProcess] = []
        self._names = count(1)

    def begin(self) -> None:
        """Two consumers and two services."""
        for _ in range(2):
            self.start_consumer()
            self.start_service()
        self.assign_partitions()

    def start_consumer(self) -> None:
        name = f"consumer-{next(self._names)}"
        self.consumers.append(ConsumerProcess(self.world, name, skew_micros=self._skew()))

    def start_service(self) -> None:
        name = f"service-{next(self._names)}"
        self.services.append(ServiceProcess(self.world, name, skew_micros=self._skew(), callers=3))

    def assign_partitions(self) -> None:
        """A rebalance."""
        for partition in range(PARTITIONS):
            self.random.choice(self.consumers).own(partition)

    def kill_consumer(self) -> None:
        self._one_of(self.consumers).kill()
        self.start_consumer()
        self.assign_partitions()

    def kill_service(self) -> None:
        self._one_of(self.services).kill()
        self.start_service()

    def stall(self) -> None:
        """A process that gets no processor for a while, and doesn't know."""
        process = self.random.choice([one.process for one in self.processes()])
        self.stall_one(process, self.random.choice(STALLS_S))

    def stall_one(self, process: Process, duration_s: float) -> None:
        """This one, in whatever it is doing."""
        process.stall(duration_s)
        self._note(f"{process.name} stalls")

    def fail_over_under(self, process: Process) -> None:
        """A grant is on its way when its primary is replaced, and arrives late."""
        self.fail_over()
        self.stall_one(process, self.random.choice(STALLS_S))

    def save(self) -> None:
        """What a journal has, or a replica has seen."""
        self.world.servers.primary.save()

    def restart_redis(self) -> None:
        """With all that it had, with less, or with nothing."""
        servers = self.world.servers
        state = self.random.choice([servers.primary.state(), {}, *servers.primary.saved])
        servers.restart(state)
        self._note(f"Redis comes back with {len(state)} keys")

    def fail_over(self) -> None:
        """The replica may lag, and some still reach the old primary alone."""
        servers = self.world.servers
        state = self.random.choice([servers.primary.state(), *servers.primary.saved])
        old = servers.fail_over(state)
        for one in self.processes():
            if self.random.randrange(3) == 0:
                one.functions.cut_off_with = old
        self._note(f"server {servers.primary.number} is the primary, with {len(state)} keys")

    def heal(self) -> None:
        """Everybody reaches the primary."""
        for one in self.processes():
            one.functions.cut_off_with = None

    def deliver(self) -> None:
        """A call that was given up arrives."""
        under_way = self.world.servers.in_flight
        if under_way:
            self.world.servers.deliver(self.random.randrange(len(under_way)))

    def change_cap(self) -> None:
        """To a little more than is spent, or to less: so that there is always something to stop."""
        name = self.random.choice(ORGANIZATIONS)
        scope = self.random.choice(("organization", "organization", "member"))
        member = self.random.choice(MEMBERS) if scope == "member" else None
        spent = self.world.truth.cost_of(name, member)
        micros = spent + self.random.choice((-5, 10, 45, 60, 60, 90))
        self.decide(capped(self.decisions.fact, name, max(1, micros), scope=scope, member=member))

    def buy(self) -> None:
        self.decide(bought(self.decisions.fact, PREPAID, self.random.choice((5, 30, 60))))

    def decide(self, event: OrganizationEvent) -> None:
        """An owner's decision reaches the log."""
        name = event.organization
        self._put(partition_for(name, PARTITIONS), name.encode(), encode(event))
        self._note(f"{type(event).__name__} of {name}")

    def log_away(self) -> None:
        """Nothing can be appended for a while."""
        away_s = self.random.choice(STALLS_S)
        self.world.topic.away_until = self.world.scheduler.now + round(away_s * MICROS_PER_S)
        self._note(f"the log is away for {away_s} s")

    def repeat(self) -> None:
        """A record comes a second time."""
        records = self.random.choice(self.world.topic.partitions)
        record = self.random.choice(records)
        self._put(record.partition, record.key, record.value)

    def poison(self) -> None:
        self._put(
            self.random.randrange(PARTITIONS), ARREARS.encode(), b"\x00\x00\x00\x00\x01poison"
        )

    def calm_down(self) -> None:
        """Nothing goes wrong any more, and nobody calls."""
        world = self.world
        world.servers.is_faulty = world.topic.is_faulty = False
        world.topic.away_until = 0
        self.heal()
        while world.servers.in_flight:
            self.deliver()
        world.scheduler.idle_factor = 3.0
        for service in self.services:
            service.is_quiet = True
        self._note("it is quiet")

    def _put(self, partition: int, key: bytes | None, value: bytes) -> None:
        self.world.topic.put(Outgoing(partition, key, value))

    def processes(self) -> list[ConsumerProcess | ServiceProcess]:
        """All that live."""
        return [*self.consumers, *self.services]

    def _one_of(self, processes: list[P]) -> P:
        return processes.pop(self.random.randrange(len(processes)))

    def _skew(self) -> int:
        return self.random.choice(
            (0, 0, self.random.randint(-MOST_SKEWED_MICROS, MOST_SKEWED_MICROS))
        )

    def _note(self, what: str) -> None:
        self.world.scheduler.note("weather", what)


class Weather:
    """What may happen in this run, and how often: so many seconds apart on average."""

    def __init__(self, installation: Installation) -> None:
        random = installation.random
        events: dict[Callable[[], None], float] = {
            installation.kill_consumer: 2.5,
            installation.kill_service: 2.5,
            installation.assign_partitions: 1.5,
            installation.stall: 1.0,
            installation.restart_redis: 3.0,
            installation.fail_over: 3.0,
            installation.heal: 0.8,
            installation.deliver: 0.2,
            installation.change_cap: 0.25,
            installation.buy: 0.6,
            installation.log_away: 1.5,
            installation.repeat: 1.0,
            installation.poison: 2.0,
            installation.save: 0.3,
        }
        chosen = {event: often for event, often in events.items() if random.randrange(3)}
        chosen |= {installation.change_cap: 0.25, installation.buy: 0.6}
        if installation.world.is_tight:
            chosen |= {installation.fail_over: 2.0, installation.save: 0.2}
        self._apart_s = chosen
        self._scheduler = installation.world.scheduler
        self._random = random
        self._due = {event: self._next(event) for event in chosen}
        self._installation = installation
        if installation.fail_over in chosen:
            installation.world.servers.just_granted = self._just_granted

    def change(self) -> None:
        """Between two steps."""
        for event, due in self._due.items():
            if due <= self._scheduler.now:
                self._due[event] = self._next(event)
                event()

    def _next(self, event: Callable[[], None]) -> int:
        apart_s = self._random.expovariate(1 / self._apart_s[event])
        return self._scheduler.now + round(apart_s * MICROS_PER_S)

    def _just_granted(self, process: Process) -> None:
        one_in = 2 if self._installation.world.is_tight else UNDER_A_GRANT
        if self._random.randrange(one_in) == 0:
            self._installation.fail_over_under(process)
