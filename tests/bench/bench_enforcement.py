"""How soon the gate knows: of a cap raised, of credits bought, and of usage.

On Kafka, PostgreSQL and Redis, kept by one `tollkeeper run`; idle, and while another process emits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles
from time import perf_counter

from bench.bench_latency import EVENTS_PER_S, LOOK_EVERY_S, running
from bench.gate_ground import CALL, MODEL, OWNER, Installation, installation
from bench.load_child import ORGANIZATIONS

from tollkeeper.events.ids import now_micros
from tollkeeper.gate.answers import Status
from tollkeeper.gate.encoding import status
from tollkeeper.gate.sdk import Gate, Hold, Refused
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.opening import open_emitter
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import BuyCredits, SetCap

USD = 1_000_000_000
PLENTY = 1_000_000 * USD
LOST_S = 120.0


def run(probes: int) -> dict[str, float]:
    """Milliseconds from each change to when a hold is granted, or `status` shows it."""
    figures: dict[str, float] = {"probes": probes}
    with installation(1_000) as made, made.kept(), made.gate() as gate:
        service = Service(gate)
        capped, bought = _Capped(made, service), _Bought(made, service)
        _once_warm(made, service)
        figures |= _times("cap_raised_to_hold", _taken(capped.probe, probes))
        figures |= _times("credits_bought_to_hold", _taken(bought.probe, probes))
        with _loaded(made) as reached, open_emitter(made.environment_of_settings) as emitter:
            charged = _Charged(made, service, emitter)
            figures |= _times("usage_to_gate_under_load", _taken(charged.probe, probes))
            figures |= _times("cap_raised_to_hold_under_load", _taken(capped.probe, probes))
            figures |= _times("credits_bought_to_hold_under_load", _taken(bought.probe, probes))
        figures["load_events_per_s"] = round(reached[0])
    return figures


class _Capped:
    """An organization that has held all that its cap lets it."""

    def __init__(self, made: Installation, service: Service) -> None:
        self._made, self._service, self._usd = made, service, 0
        made.open("capped")
        made.done(BuyCredits(organization="capped", credit_nanos=PLENTY))
        _until(lambda: service.may("capped", "1"), perf_counter())
        self._raise()
        _until(lambda: not service.may("capped", "1.01"), perf_counter())
        service.granted("capped", "1")

    def probe(self) -> float:
        """Raise the cap by what one more hold needs."""
        assert not self._service.may("capped", "1")
        self._raise()
        return self._service.granted("capped", "1")

    def _raise(self) -> None:
        self._usd += 1
        cap_nanos = self._usd * USD
        self._made.done(
            SetCap(
                organization="capped", scope="organization", setting="capped", cap_nanos=cap_nanos
            )
        )


class _Bought:
    """An organization that has held all of its credits."""

    def __init__(self, made: Installation, service: Service) -> None:
        self._made, self._service = made, service
        made.open("bought")
        self._buy()
        service.granted("bought", "1")

    def probe(self) -> float:
        """Buy what one more hold needs."""
        assert not self._service.may("bought", "1")
        self._buy()
        return self._service.granted("bought", "1")

    def _buy(self) -> None:
        self._made.done(BuyCredits(organization="bought", credit_nanos=USD))


class _Charged:
    """An organization without other usage, whose total the gate has."""

    def __init__(self, made: Installation, service: Service, emitter: Emitter) -> None:
        self._made, self._emitter = made, emitter
        made.open("charged")
        made.done(BuyCredits(organization="charged", credit_nanos=PLENTY))
        service.granted("charged", "0.01")

    def probe(self) -> float:
        """Emit a call."""
        before = self._spent()
        usage = Usage(
            organization="charged",
            member=OWNER,
            surface="web",
            model=MODEL,
            input_tokens=1_000,
            output_tokens=1,
        )
        began = perf_counter()
        self._emitter.emit(usage)
        _until(lambda: self._spent() > before, began)
        return perf_counter() - began

    def _spent(self) -> int:
        found = self._made.functions.run(status("charged", member=OWNER))
        assert isinstance(found, Status)
        own = [one for one in found.limits if one.scope == "organization/charged"]
        return own[0].spent_micros if own else -1


def _once_warm(made: Installation, service: Service) -> None:
    """The load's organizations are known to the gate, so that their usage is applied."""
    for number in range(1, ORGANIZATIONS + 1):
        name = f"org-{number:03d}"
        made.done(BuyCredits(organization=name, credit_nanos=PLENTY))
        service.granted(name, "0.01")


@contextmanager
def _loaded(made: Installation) -> Iterator[list[float]]:
    """Another process emits meanwhile; how many events a second it was in the end."""
    reached: list[float] = []
    load = [sys.executable, "-m", "bench.load_child", str(EVENTS_PER_S), str(now_micros())]
    with running(made.environment, *load) as loading:
        assert loading.stdout is not None
        assert loading.stdout.readline().strip() == "ready"
        began = perf_counter()
        yield reached
        seconds = perf_counter() - began
        reached.append(int(loading.communicate()[0]) / seconds)


class Service:
    """A product service, whose holds stay open: one that nobody keeps is released."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._kept: list[Hold] = []

    def is_granted(self, organization: str, usd: str) -> bool:
        """Hold, if it may."""
        try:
            self._kept.append(self._gate.hold(organization=organization, max_cost_usd=usd, **CALL))
        except Refused:
            return False
        return True

    def may(self, organization: str, usd: str) -> bool:
        """Whether it may hold."""
        if self.is_granted(organization, usd):
            self._kept.pop().release()
            return True
        return False

    def granted(self, organization: str, usd: str) -> float:
        """Ask until it is granted; how many seconds that took."""
        began = perf_counter()
        _until(lambda: self.is_granted(organization, usd), began)
        return perf_counter() - began


def _until(is_so: Callable[[], bool], began: float) -> None:
    pause = threading.Event()
    while not is_so():
        assert perf_counter() - began < LOST_S, "the gate doesn't come to know it"
        pause.wait(LOOK_EVERY_S)


def _taken(probe: Callable[[], float], probes: int) -> list[float]:
    for _ in range(max(3, probes // 10)):
        probe()
    return [probe() for _ in range(probes)]


def _times(name: str, seconds: list[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=100)
    return {
        f"{name}_p50_ms": round(cuts[49] * 1_000, 1),
        f"{name}_p99_ms": round(cuts[98] * 1_000, 1),
    }
