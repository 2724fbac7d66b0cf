"""The demo is what newcomers see first: it runs to its end, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tollkeeper.app import demo
from tollkeeper.errors import InvalidInput
from tollkeeper.gate.embedded import running_gate


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(demo, "EVENTS", 3_000)
    monkeypatch.setattr(demo, "REPEATED", 500)
    monkeypatch.setattr(demo, "HOME", tmp_path / "demo")
    monkeypatch.setenv("TOLLKEEPER_HOME", str(tmp_path / "overwritten-by-the-demo"))
    return tmp_path / "demo"


def test_the_demo_charges_each_event_once_and_proves_it(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main()
    demo.main()  # again, over the folder of the first time
    shown = capsys.readouterr().out
    assert shown.count("charged 3000, duplicates 500, dead_letters 200") == 2
    assert shown.count("this was done before; nothing new") == 2
    assert shown.count("charged 200, duplicates 0, dead_letters 0") == 2
    assert shown.count("3201 charged events") == 2
    assert shown.count("the replay agrees with the live ledger in every row") == 2


def test_the_demo_shows_who_stops_whom_and_who_opens_the_way(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main()
    shown = capsys.readouterr()
    refusals = [line for line in shown.err.splitlines() if line.startswith("refused")]
    assert [line.split(":")[1].split(" is ")[0].split(" has ")[0].strip() for line in refusals] == [
        "the cap of member ann",
        "the cap of organization studio",
        "studio",
    ]
    assert shown.out.count("granted: ") == 3
    assert "Redis and the ledger agree" in shown.out
    assert running_gate(small) is None, "it leaves no server behind"


def test_the_demo_empties_no_folder_of_others(small: Path) -> None:
    small.mkdir()
    (small / "precious.txt").touch()
    with pytest.raises(InvalidInput, match="isn't a former demo's"):
        demo.main()
    assert (small / "precious.txt").exists()


def test_a_demo_streams_at_least_a_hundred_thousand_events() -> None:
    assert demo.EVENTS >= 100_000
