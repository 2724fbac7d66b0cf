"""`docker compose up` gives a Tollkeeper on real services, whose figures are right and outlive a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.request import urlopen

import pytest
from compose.stack import Stack, why_unavailable
from services.finding import skip_or_fail
from support.waiting import eventually

from tollkeeper.errors import LogUnavailable
from tollkeeper.log.kafka import KafkaLog
from tollkeeper.log.kafka_settings import DEFAULT_TOPIC, KafkaSettings
from tollkeeper.log.port import Outgoing

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

MEMBERS = ("ann", "bob", "cid")
EVENTS = 300
INPUT_TOKENS, OUTPUT_TOKENS = 1_200, 300
CHARGE_NANOS = INPUT_TOKENS * 2_000 + OUTPUT_TOKENS * 10_000
"""claude-sonnet-5-5 costs 2 USD a million input tokens and 10 USD a million output tokens."""
BOUGHT_NANOS = 100 * 10**9


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Everything started from nothing, an organization opened, usage reported and folded."""
    if reason := why_unavailable():
        skip_or_fail(f"Docker Compose isn't at hand (container: {reason})")
    stack = Stack()
    try:
        stack.build()
        stack.up()
        report_usage(stack)
        yield stack
    finally:
        stack.remove()


def report_usage(stack: Stack) -> None:
    """What an operator, an owner and a product service do first; 20 events are reported twice."""
    stack.tollkeeper("org", "open", "acme", "--plan", "enterprise_self_serve", "--owner", "ann")
    for _ in range(2):
        stack.tollkeeper(
            "credits", "buy", "acme", "100", "--as", "ann", "--idempotency-key", "order-1"
        )
    lines = [event_line(number) for number in [*range(EVENTS), *range(20)]]
    emitted = stack.tollkeeper("emit", "-", stdin="\n".join(lines) + "\n")
    assert emitted == {"accepted": EVENTS + 20, "rejected": 0, "rejections": []}
    stack.catch_up()


_OCCURRED_AT = datetime.now(UTC).isoformat()


def event_line(number: int) -> str:
    """One usage event for `emit`, the same each time."""
    return json.dumps(
        {
            "event_id": f"event-{number}",
            "organization": "acme",
            "member": MEMBERS[number % len(MEMBERS)],
            "surface": "web",
            "model": "claude-sonnet-5-5",
            "occurred_at": _OCCURRED_AT,
            "input_tokens": INPUT_TOKENS,
            "output_tokens": OUTPUT_TOKENS,
        }
    )


@contextmanager
def opened(stack: Stack, topic: str = DEFAULT_TOPIC) -> Iterator[KafkaLog]:
    """The log as this machine sees it."""
    servers = (f"localhost:{stack.kafka_port}",)
    log = KafkaLog(KafkaSettings(servers=servers, topic=topic, partitions=8, replication=1))
    try:
        yield log
    finally:
        log.close()


def check_figures(stack: Stack) -> None:
    """Every event is charged once, and the credits are bought once."""
    balance = stack.tollkeeper("balance", "acme")
    used = EVENTS * CHARGE_NANOS
    assert balance["purchased_nanos"] == BOUGHT_NANOS
    assert balance["used_nanos"] == used
    assert balance["balance_nanos"] == BOUGHT_NANOS - used
    spend = stack.tollkeeper("spend", "acme", "--by", "member")
    assert {row["key"]: row["charge_nanos"] for row in spend["rows"]} == dict.fromkeys(
        MEMBERS, used // len(MEMBERS)
    )


def test_figures_are_exact(stack: Stack) -> None:
    check_figures(stack)


def test_doctor_finds_nothing_to_do(stack: Stack) -> None:
    report = stack.tollkeeper("doctor")
    assert report["healthy"], report["findings"]
    details = {one["what"]: one["detail"] for one in report["findings"]}
    assert details["log"].startswith("kafka://kafka:9092/")
    assert "@postgresql:5432/tollkeeper" in details["ledger"]
    assert details["redis"].startswith("redis://redis:6379")
    assert "is open" in details["gate"]
    assert not any(Stack.PASSWORD in detail for detail in details.values())
    assert sum(one["log_end"] for one in report["partitions"]) > EVENTS


def test_the_gate_is_asked_and_agrees_with_the_ledger(stack: Stack) -> None:
    """Held, settled by nothing, released: the other tests' figures stay."""
    ask = ("hold", "acme", "ann", "--surface", "web", "--usd", "1")
    held = stack.tollkeeper(*ask, "--hold-id", "compose")
    assert (held["granted"], held["held_nanos"]) == (True, 10**9)
    (limit,) = [
        one for one in stack.tollkeeper("status", "acme")["limits"] if one["limit"] == "credits"
    ]
    assert limit["held_nanos"] == 10**9
    assert stack.tollkeeper("reconcile")["agrees"] is True
    assert stack.tollkeeper("release", held["hold_id"])["freed_nanos"] == 10**9


def test_product_services_of_this_machine_reach_the_log(stack: Stack) -> None:
    with opened(stack) as log:
        assert sum(log.end_offsets().values()) > EVENTS


def test_the_running_service_is_healthy_and_shows_its_metrics(stack: Stack) -> None:
    eventually(lambda: stack.health("run") == "healthy", 60, what="a healthy service")
    with urlopen(f"http://127.0.0.1:{stack.http_port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert "tollkeeper_" in metrics


def test_setup_again_changes_nothing(stack: Stack) -> None:
    before = stack.tollkeeper("doctor")["partitions"]
    stack.compose("run", "--rm", "setup")
    assert stack.tollkeeper("doctor")["partitions"] == before


def test_our_services_are_not_root_and_redis_forgets_nothing(stack: Stack) -> None:
    assert stack.compose("exec", "-T", "run", "id", "-u").strip() == "10464"
    for name, value in {"maxmemory-policy": "noeviction", "appendonly": "yes"}.items():
        answer = stack.compose("exec", "-T", "redis", "redis-cli", "config", "get", name)
        assert answer.split() == [name, value]


def test_a_topic_that_setup_did_not_make_is_not_made_by_accident(stack: Stack) -> None:
    with opened(stack, topic="misspelt") as log:
        for _ in range(2):
            with pytest.raises(LogUnavailable, match="there is no topic misspelt"):
                log.append([Outgoing(0, b"acme", b"usage")])


def test_figures_outlive_a_new_start_and_reports_of_the_same_usage(stack: Stack) -> None:
    """Last, since it ends all that the others use. The containers are made anew; the volumes stay."""
    stack.down()
    stack.up()
    stack.tollkeeper("emit", "-", stdin=event_line(7) + "\n")
    stack.catch_up()
    check_figures(stack)
