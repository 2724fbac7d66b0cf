"""Tables for people: readable within the terminal's width, and never an id or an amount cut."""

from __future__ import annotations

import pytest

from tollkeeper.app.cli.output import compact, print_fields, print_table, to_the_second

MEMBER = "a-member-with-an-id-of-fifty-characters-0123456789"
DETAIL = "one sentence about what was found in place 0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_least_columns_are_left_out_and_named_where_the_terminal_is_narrow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("member", "charge_usd", "events", "input", "output", "searches")
    rows = [(MEMBER, "9223372036.854775807", 10, 5, 6, 7)]
    print_table("spend", columns, rows, spare=("input", "output", "searches"))
    shown = capsys.readouterr().out
    assert MEMBER in shown
    assert "9223372036.854775807" in shown
    assert "left out: input, output, searches;" in shown
    monkeypatch.setenv("COLUMNS", "120")
    print_table("spend", columns, rows, spare=("input", "output", "searches"))
    wide = capsys.readouterr().out
    assert "searches" in wide
    assert "left out" not in wide


def test_ids_stay_whole_while_the_sentence_beside_them_wraps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table("t", ("organization", "member", "detail"), [(MEMBER, MEMBER, DETAIL)])
    shown = capsys.readouterr().out
    assert shown.count(MEMBER) == 2
    assert "0123456789abcdef0123456789abcdef" in shown
    assert DETAIL not in shown  # the sentence around it wraps


def test_a_table_that_is_too_wide_is_folded_and_its_ids_stay_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        ("x" * 100, MEMBER, "2.00", DETAIL, "2026-11-20T12:00:00Z"),
        ("y" * 79, "ann", "11.5", "", "2026-11-20T12:00:01Z"),
    ]
    print_table("holds", ("hold_id", "member", "held_usd", "detail", "granted_at"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "holds",
        "held_usd  granted_at",
        "─" * 30,
        "    2.00  2026-11-20T12:00:00Z",
        "  hold_id:",
        "x" * 100,
        f"  member: {MEMBER}",
        "  detail: one sentence about what was found in place",
        "          0123456789abcdef0123456789abcdef",
        "   11.50  2026-11-20T12:00:01Z",
        "  hold_id:",
        "y" * 79,
        "  member: ann",
    ]


def test_of_two_columns_only_the_line_that_must_be_is_wide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table("settings", ("setting", "value"), [("home", "/h"), ("sql", "s" * 90), ("log", "")])
    assert capsys.readouterr().out.splitlines() == [
        "settings",
        "setting  value",
        "─" * 80,
        "home     /h",
        "sql",
        "s" * 90,
        "log",
    ]
    print_fields("event", {"id": "i" * 90, "why": DETAIL})
    assert capsys.readouterr().out.splitlines() == [
        *("event", "id", "i" * 90),
        "why  one sentence about what was found in place 0123456789abcdef0123456789abcdef",
    ]


def test_money_stands_right_with_its_points_below_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("a", "1.50"), ("b", "-12.123456789"), ("c", "unlimited"), ("d", None)]
    print_table("caps", ("member", "cap_usd"), rows)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()[3:]]
    assert lines == [
        "a         1.500000000",
        "b       -12.123456789",
        "c           unlimited",
        "d",
    ]


def test_ids_that_look_like_numbers_are_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("members", ("member", "model"), [("1.5", "4.1"), ("10.25", "4.25")])
    shown = capsys.readouterr().out.split()
    assert {"1.5", "10.25", "4.1", "4.25"} <= set(shown)


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("dead letters", ("id", "cause"), [])
    assert capsys.readouterr().out == "dead letters: none\n"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (999_949, "999.9k"),
        (999_999, "1.0M"),
        (1_000_000, "1.0M"),
        (12_900_000, "12.9M"),
        (999_999_999, "1.0G"),
        (1_500_000_000, "1.5G"),
    ],
)
def test_counts_are_short_for_people(count: int, shown: str) -> None:
    assert compact(count) == shown


def test_times_for_people_end_with_the_second() -> None:
    assert to_the_second("2026-11-21T07:43:41.072493Z") == "2026-11-21T07:43:41Z"
    assert to_the_second("2026-11-21T07:43:41Z") == "2026-11-21T07:43:41Z"
    assert to_the_second(None) == ""
