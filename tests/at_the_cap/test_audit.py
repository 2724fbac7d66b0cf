"""The auditor of the proofs here finds what it is there to find."""

from __future__ import annotations

from pathlib import Path

import pytest
from at_the_cap.audit import CapAsked, Entry, Journal, Kind, audited, line_of

CAPS = [CapAsked(0, "acme", 100, 60), CapAsked(50, "acme", 120, 120)]


def entry(at_ns: int, kind: Kind, hold_id: str, micros: int = 0, member: str = "ann") -> Entry:
    return Entry(at_ns, kind, hold_id, "acme", member, micros)


def test_what_stays_below_every_cap_is_well() -> None:
    entries = [
        entry(1, "granted", "a", 60),
        entry(2, "granted", "b", 40, "bob"),
        entry(3, "releasing", "b", member="bob"),
        entry(4, "settling", "a"),
        entry(5, "granted", "c", 50, "bob"),
        entry(6, "refused", "organization_cap"),
        entry(50, "extended", "c", 70, "bob"),
    ]
    found = audited(entries, CAPS, {"a": 50})
    assert found.overspent == []
    assert found.most_micros == {"acme": 120, "acme/ann": 60, "acme/bob": 70}
    assert found.grants == 3


@pytest.mark.parametrize(
    ("entries", "charged"),
    [
        ([entry(1, "granted", "a", 60), entry(2, "granted", "b", 41, "bob")], {}),
        ([entry(1, "granted", "a", 61)], {}),
        ([entry(1, "granted", "a", 60), entry(2, "extended", "a", 61)], {}),
        ([entry(49, "granted", "a", 60), entry(49, "granted", "b", 60, "bob")], {}),
        (
            [
                entry(1, "granted", "a", 60),
                entry(2, "settling", "a"),
                entry(3, "granted", "b", 1),
            ],
            {"a": 60},
        ),
        ([entry(1, "granted", "a", 60), entry(2, "settling", "a")], {"a": 61}),
    ],
    ids=["together", "member", "extended", "before the cap rose", "spent", "above the hold"],
)
def test_a_micro_dollar_too_many_is_found(entries: list[Entry], charged: dict[str, int]) -> None:
    assert audited(entries, CAPS, charged).overspent != []


def test_a_journal_is_read_in_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.refresh() == []
    line = line_of(entry(1, "granted", "a", 60))
    (tmp_path / "journal").write_text(line + line[:10])
    assert journal.refresh() == [entry(1, "granted", "a", 60)]
    (tmp_path / "journal").write_text(line + line)
    assert journal.refresh() == [entry(1, "granted", "a", 60)] * 2
