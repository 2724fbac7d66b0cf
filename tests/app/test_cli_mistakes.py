"""Every mistake ends in its exit code and a message that names the field, the rule and the next step."""

from __future__ import annotations

import pytest
from app.commands import CommandLine, line

WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("balance", "nobody"), 2, "nobody"),
    (("spend", "acme", "--period", "2026-13"), 2, "--period: must be YYYY-MM"),
    (("spend", "acme", "--by", "moon"), 2, "--by"),
    (("credits", "buy", "acme", "much"), 2, "must be a decimal number in USD"),
    (("credits", "buy", "acme", "-5"), 2, "-5"),
    (("credits", "buy", "acme", "0"), 2, "must be above zero"),
    (("credits", "buy", "acme", "0.0000000001"), 2, "nano-USD"),
    (("credits", "buy", "ac me", "5"), 2, "organization"),
    (("credits", "buy", "acme", "5", "--at", "yesterday"), 2, "--at"),
    (("credits", "buy", "acme", "5", "--as", "a b"), 2, "--as"),
    (("cap", "set", "acme", "some"), 2, "decimal number"),
    (("org", "open", "acme"), 2, "--plan"),
    (("org", "add-member", "acme", "x@y.z"), 2, "member"),
    (("emit", "/nonexistent.jsonl"), 2, "nonexistent"),
    (("dead-letters", "show", "seven"), 2, "PARTITION-OFFSET"),
    (("dead-letters", "show", "0-999999"), 2, "0-999999"),
    (("dead-letters", "discard", "0-1"), 2, "--reason"),
    (("dead-letters", "list", "--group-by", "moon"), 2, "--group-by"),
    (("prices", "publish", "/nonexistent.toml"), 2, "nonexistent"),
    (("prices", "withdraw", "unknown"), 1, "unknown"),
    (("events", "acme", "--limit", "0"), 2, "--limit"),
    (("run", "--only", "moon"), 2, "moon"),
    (("frobnicate",), 2, "frobnicate"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG, ids=lambda one: str(one)[:60])
def test_a_mistake_is_named_with_its_field(
    acme: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = acme(*arguments)
    assert ended.code == code, ended
    assert message in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_rejected_lines_are_named_and_the_rest_is_accepted(acme: CommandLine) -> None:
    lines = line("ok1") + "nonsense\n" + line("bad", input_tokens=-1) + line("ok2", colour="red")
    ended = acme("emit", "-", "--json", stdin=lines)
    assert ended.code == 1
    found = ended.document
    assert (found["accepted"], found["rejected"]) == (1, 3)
    assert [(one["line"], one["field"]) for one in found["rejections"]][1:] == [
        (3, "input_tokens"),
        (4, "colour"),
    ]
    assert all(one["reason"] for one in found["rejections"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TOLLKEEPER_PARTITIONS": "0"}, "TOLLKEEPER_PARTITIONS: must be 1 to 10000"),
        ({"TOLLKEEPER_PARTITIONS": "9"}, "partitions"),
        ({"TOLLKEEPER_SESSION_TIMEOUT_S": "nan"}, "TOLLKEEPER_SESSION_TIMEOUT_S: must be 1 to 300"),
        ({"TOLLKEEPER_SQL": "nonsense"}, "TOLLKEEPER_SQL"),
        ({"TOLLKEEPER_CONFIG": "/nonexistent.toml"}, "TOLLKEEPER_CONFIG"),
    ],
)
def test_a_wrong_setting_is_named(
    acme: CommandLine, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    ended = acme("balance", "acme")
    assert ended.code == 2, ended
    assert message in ended.err


def test_a_home_that_cannot_be_made_is_away(
    tk: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tk.home.parent.mkdir(exist_ok=True)
    tk.home.touch()
    monkeypatch.setenv("TOLLKEEPER_HOME", str(tk.home / "below-a-file"))
    ended = tk("setup")
    assert ended.code == 3
    assert "TOLLKEEPER_HOME" in ended.err


def test_a_bug_ends_with_70_and_no_bare_traceback(
    acme: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("tollkeeper.app.cli.figures.balance_of", broken)
    ended = acme("balance", "acme")
    assert (ended.code, ended.out) == (70, "")
    assert "a bug in Tollkeeper: ZeroDivisionError: oh" in ended.err
    assert "Traceback" not in ended.err
    monkeypatch.setenv("TOLLKEEPER_DEBUG", "1")
    assert "Traceback" in acme("balance", "acme").err
