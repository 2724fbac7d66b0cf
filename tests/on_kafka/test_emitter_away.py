"""Product services while the broker is away: bounded in memory, and nothing accepted is lost."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import psutil
import pytest
from on_kafka.conftest import Install
from on_kafka.installation import LOAD_EVENTS, load, organization_of
from services.kafka_proxy import Api, Fault, KafkaProxy
from support.waiting import eventually

from tollkeeper.errors import LogUnavailable
from tollkeeper.log.port import MAX_RECORD_BYTES, Outgoing

SEED = 61
PER_SECOND = 2_000
ENDED_S = 10.0
GOING_S = 30.0
ATTEMPTS = 9
ENDS_WITHOUT_CLOSING = """
import sys
from tollkeeper.metering.opening import open_emitter
from tollkeeper.metering.usage import Usage
emitter = open_emitter()
usage = Usage(organization=sys.argv[1], member="m", surface="web", model="claude-sonnet-5-5", input_tokens=1)
emitter.emit(usage)
assert emitter.flush(20)
emitter.emit_many([usage] * 20_000)
"""
MIB = 1024 * 1024
ROOM_BYTES = 48 * MIB
"""What a service may grow by, whatever it has accepted meanwhile: two batches, and Python's own."""


def test_failed_appends_leave_no_thread_and_no_records_behind(
    install: Install, proxy: KafkaProxy
) -> None:
    """kafka-python bounds nothing itself: each attempt leaves 4 MB if its producer isn't ended."""
    installation = install(address=proxy.address)
    installation.set_up()
    log, process = installation.app.log, psutil.Process()
    batch = [Outgoing(0, None, bytes([n]) * MAX_RECORD_BYTES) for n in range(4)]
    before = 0
    for attempt in range(ATTEMPTS):
        fault = proxy.arm(Fault(Api.PRODUCE, "request", 0.0, "swallow"))
        with pytest.raises(LogUnavailable, match="didn't acknowledge 4 records"):
            log.append(batch, timeout_s=0.5)
        assert fault.struck.is_set()
        if attempt == ATTEMPTS // 3:
            before = process.memory_info().rss
    eventually(lambda: _producer_threads() == 0, ENDED_S, what="no producer's thread is left")
    gc.collect()
    assert process.memory_info().rss - before < 4 * MAX_RECORD_BYTES * ATTEMPTS // 3


def test_a_broker_that_refuses_for_long_costs_no_file_descriptors(
    install: Install, proxy: KafkaProxy
) -> None:
    """Clients that couldn't even begin leave theirs to the collector, which must keep up."""
    installation = install(address=proxy.address)
    installation.set_up()
    proxy.refuse()
    before = psutil.Process().num_fds()
    for _ in range(25):
        with pytest.raises(LogUnavailable):
            installation.app.log.append([Outgoing(0, None, b"value")], timeout_s=0.02)
    assert psutil.Process().num_fds() < before + 15


def _producer_threads() -> int:
    return sum(thread.name.endswith("-network-thread") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("is_away_first", "away_s"),
    [
        (False, 3),
        # Longer than one attempt to append lasts, so that attempts fail and are made anew.
        pytest.param(False, 15, marks=pytest.mark.soak),
        pytest.param(True, 15, marks=pytest.mark.soak),
    ],
)
def test_a_service_whose_broker_is_away_stays_small_and_loses_nothing(
    install: Install, proxy: KafkaProxy, is_away_first: bool, away_s: int
) -> None:
    """Away from its start, or midway: it accepts all the same, into its spool and not into memory."""
    installation = install(address=proxy.address)
    installation.set_up()
    if is_away_first:
        proxy.refuse()
    service = installation.service(SEED, PER_SECOND)
    eventually(lambda: len(service.accepted) > PER_SECOND, GOING_S, what="a second's events")
    proxy.refuse()
    process = psutil.Process(service.process.pid)
    away_from, before = len(service.accepted), process.memory_info().rss
    eventually(
        lambda: len(service.accepted) > away_from + away_s * PER_SECOND,
        GOING_S,
        what=f"the events of {away_s} s are accepted while the broker is away",
    )
    assert process.memory_info().rss - before < ROOM_BYTES
    proxy.accept()
    accepted = service.stop()
    installation.fold()
    installation.assert_charged(accepted)


def test_a_service_killed_midway_loses_nothing_that_it_accepted(
    install: Install, proxy: KafkaProxy
) -> None:
    """Killed while the broker is away, so that some is on the log, some is on its way, some spooled."""
    installation = install(address=proxy.address)
    installation.set_up()
    service = installation.service(SEED, PER_SECOND)
    eventually(lambda: len(service.accepted) > PER_SECOND, GOING_S, what="a second's events")
    proxy.refuse()
    away_from = len(service.accepted)
    eventually(
        lambda: len(service.accepted) > away_from + PER_SECOND,
        GOING_S,
        what="a second's events more",
    )
    service.process.kill()
    service.process.wait()
    proxy.accept()
    accepted = {usage.event_id for usage in service.accepted}
    installation.fold()  # drains the dead one's spool first
    charged = installation.charged_ids()
    assert len(charged) == len(set(charged))
    assert accepted <= set(charged)
    assert len(set(charged) - accepted) <= PER_SECOND  # groups that were accepted and not yet said
    installation.assert_charged(load(SEED, LOAD_EVENTS, len(charged)))


def test_a_service_that_ends_without_closing_sends_all_at_once(install: Install) -> None:
    """kafka-python's own end of the process would come first, and fail what is being sent."""
    installation = install()
    installation.set_up()
    before = installation.app.log.end_offsets()[0]
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_WITHOUT_CLOSING, organization_of(0)],
        env=installation.environment(),
        capture_output=True,
        text=True,
        timeout=GOING_S,
        check=True,
    )
    assert ended.stderr == ""
    assert installation.app.log.end_offsets()[0] >= before + 20_001
