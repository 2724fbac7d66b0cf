"""Jobs end together, within a bound, whatever one of them hangs in."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tollkeeper.app.supervising import Ended, Job, Signals, Stopped, run_jobs, signals_caught


@pytest.fixture
def signals() -> Iterator[Signals]:
    with signals_caught() as caught:
        yield caught


def waiting(stop: threading.Event) -> None:
    stop.wait(30)


def supervised(signals: Signals, left: list[str], **jobs: Job) -> tuple[Ended, list[str]]:
    died: list[str] = []
    ended = run_jobs(
        jobs,
        signals,
        died=lambda name, error: died.append(f"{name}: {error}"),
        leave=lambda: left.append("group"),
        stop_within_s=0.2,
    )
    return ended, died


def test_a_signal_stops_every_job(signals: Signals) -> None:
    def signalling(stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        waiting(stop)

    left: list[str] = []
    ended, died = supervised(signals, left, a=waiting, b=signalling)
    assert (ended.failure, ended.abandoned, died, left) == (None, (), [], [])


def test_a_job_that_breaks_stops_the_others_and_is_reported(signals: Signals) -> None:
    def broken(_stop: threading.Event) -> None:
        raise ZeroDivisionError("oh")

    ended, died = supervised(signals, [], a=waiting, b=broken)
    assert isinstance(ended.failure, ZeroDivisionError)
    assert (ended.abandoned, died) == ((), ["b: oh"])


def test_a_job_that_ends_untold_is_a_failure_too(signals: Signals) -> None:
    ended, died = supervised(signals, [], a=waiting, b=lambda _stop: None)
    assert died == ["b: the job b ended, and nobody told it to"]
    assert ended.failure is not None


def test_a_job_that_hangs_is_left_behind_and_its_group_left(signals: Signals) -> None:
    hangs = threading.Event()
    left: list[str] = []
    signals.wake("test")
    try:
        ended, _ = supervised(signals, left, a=waiting, b=lambda _stop: hangs.wait(30))
    finally:
        hangs.set()
    assert (ended.failure, ended.abandoned, left) == (None, ("b",), ["group"])


def test_leaving_that_fails_or_hangs_ends_as_well(
    signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollkeeper.app.supervising.LEAVE_WITHIN_S", 0.1)
    hangs = threading.Event()

    def fail() -> None:
        raise OSError("in use")

    for leave in (fail, lambda: hangs.wait(30)):
        signals.wake("test")
        ended = run_jobs(
            {"b": lambda _stop: hangs.wait(30)},
            signals,
            died=lambda _name, _error: None,
            leave=leave,  # type: ignore[arg-type] # what it answers is ignored
            stop_within_s=0.1,
        )
        assert ended.abandoned == ("b",)
    hangs.set()


def test_before_the_jobs_a_signal_ends_the_start_where_it_stands(signals: Signals) -> None:
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_ends_at_once(signals: Signals) -> None:
    signals.is_awaited = True
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.stop.is_set()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
