"""The README's Python runs as it stands there, but for what a provider answers and what `Gate.open` opens."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest
from providers import anthropic_api
from providers.stand_in import StandIn
from support.project import ROOT

from tollkeeper.gate.sdk import Gate
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.testing import FakeGate

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
MESSAGE = anthropic.types.Message.model_validate(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "model": "claude-sonnet-5-5",
        "usage": {"input_tokens": 1_200, "output_tokens": 300},
    }
)
REQUEST = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}


def carried_out(block: str, **names: object) -> None:
    """Run a block of the README with these names in place of what it leaves open."""
    exec(compile(block, "README.md", "exec"), dict(names))


@pytest.fixture
def client() -> SimpleNamespace:
    """A provider's client that answers anything."""
    return SimpleNamespace(messages=SimpleNamespace(create=lambda *_: MESSAGE))


def gate_is(fake: FakeGate, monkeypatch: pytest.MonkeyPatch) -> FakeGate:
    monkeypatch.setattr(Gate, "open", lambda: fake)
    return fake


def test_there_are_the_examples_that_are_tried() -> None:
    for block, words in zip(BLOCKS, ("metered(", ".wrap(", "open_emitter("), strict=False):
        assert words in block


def test_the_first_example_holds_calls_and_settles(
    client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = gate_is(FakeGate(credits_usd="1"), monkeypatch)
    carried_out(BLOCKS[0], client=client, answer=pytest.fail)
    (usage,) = fake.usages
    assert (usage.input_tokens, usage.output_tokens, usage.member) == (1_200, 300, "ann")
    assert usage.hold_id is not None
    assert fake.reserved_micros == 0


def test_the_first_example_answers_402_with_every_reason(
    client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate_is(FakeGate(credits_usd="0.001", member_cap_usd="0"), monkeypatch)
    answers: list[tuple[int, dict[str, Any]]] = []
    carried_out(BLOCKS[0], client=client, answer=lambda *answer: answers.append(answer))
    ((status, document),) = answers
    assert status == 402
    assert [one["reason"] for one in document["reasons"]] == ["member_cap", "credits"]


def test_the_second_example_changes_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = gate_is(FakeGate(credits_usd="1"), monkeypatch)
    with StandIn() as api:
        api.will(anthropic_api.answers())
        # Closed here, since the example's process would live on.
        with anthropic.Anthropic(api_key="none", base_url=api.url) as plain:
            made = SimpleNamespace(Anthropic=lambda: plain)
            carried_out(BLOCKS[1].replace("(...)", "(**request)"), anthropic=made, request=REQUEST)
    (usage,) = fake.usages
    assert (usage.organization, usage.member, usage.surface) == ("acme", "ann", "web")


def test_the_third_example_reports_without_asking(
    client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOLLKEEPER_HOME", str(tmp_path / "home"))
    carried_out(BLOCKS[2], client=client)
    log = SqliteLog(tmp_path / "home" / "log.sqlite", partitions=8)
    try:
        assert sum(log.end_offsets().values()) == 1
    finally:
        log.close()
