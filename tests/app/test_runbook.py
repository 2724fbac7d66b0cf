"""The runbook, the alert rules and the metrics speak of the same things; each check can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.project import ROOT

from tollkeeper.app.cli.commands import PLACES
from tollkeeper.app.health import Kind
from tollkeeper.app.metrics import Metrics
from tollkeeper.events.quarantined import Cause

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
ALERTS = (ROOT / "docs" / "alerts.yml").read_text("utf-8")
COLUMNS = re.compile(r"^\| `(tollkeeper_\w+)` \| ([^|]*)\|", re.MULTILINE)
SECTION = re.compile(r"^## (Tollkeeper\w+)$", re.MULTILINE)


def declared() -> dict[str, set[str]]:
    """Every metric's name as it is scraped, and its labels."""
    metrics = Metrics()
    found = {}
    for one in vars(metrics).values():
        if hasattr(one, "_labelnames"):
            (family,) = one.describe()
            suffix = "_total" if family.type == "counter" else ""
            found[family.name + suffix] = set(one._labelnames)
    return found | {"tollkeeper_build_info": {"version", "python"}}


def scraped(name: str) -> Iterator[str]:
    """What a rule may call a metric."""
    yield name
    for suffix in ("_bucket", "_count", "_sum"):
        yield name + suffix


def documented(text: str) -> dict[str, set[str]]:
    """The table's metrics and labels."""
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in COLUMNS.findall(text)}


def unknown_metrics(rules: str) -> set[str]:
    """Names in rules that no process exports."""
    known = {alias for name in declared() for alias in scraped(name)}
    return set(re.findall(r"\btollkeeper_\w+", rules)) - known


def alarms(rules: str) -> list[str]:
    """The names of the rules."""
    return re.findall(r"^ +- alert: (\w+)$", rules, re.MULTILINE)


def test_every_metric_is_in_the_runbook_with_its_labels_and_the_other_way_round() -> None:
    assert documented(RUNBOOK) == declared()
    assert len(declared()) > 20


def test_every_metric_of_a_rule_exists() -> None:
    assert unknown_metrics(ALERTS) == set()
    assert unknown_metrics("tollkeeper_healthy + tollkeeper_misspelt") == {"tollkeeper_misspelt"}


def test_every_label_of_a_rule_exists() -> None:
    used = {
        label
        for labels in re.findall(r"\bby \(([^)]*)\)", ALERTS)
        for label in re.split(r",\s*", labels)
    }
    assert used <= {label for labels in declared().values() for label in labels} | {
        "le",
        "instance",
    }
    assert "partition" in used


def test_every_alarm_has_a_section_and_every_section_an_alarm() -> None:
    assert alarms(ALERTS) == SECTION.findall(RUNBOOK)
    assert len(alarms(ALERTS)) == len(set(alarms(ALERTS))) > 10
    assert alarms("  - alert: A\n") == ["A"]


@pytest.mark.parametrize("name", alarms(ALERTS))
def test_every_section_says_cause_action_and_when_to_ignore_it(name: str) -> None:
    section = RUNBOOK.split(f"## {name}\n")[1].split("\n#")[0]
    for part in ("- **Likely:**", "- **Do:**", "- **Ignore**"):
        assert part in section


def test_what_the_runbook_names_exists() -> None:
    commands = set(re.findall(r"`tollkeeper ([\w-]+)", RUNBOOK))
    assert commands <= set(PLACES)
    assert "doctor" in commands
    for kind in Kind.__args__:  # type: ignore[attr-defined] # a Literal's values
        assert f"| `{kind}` |" in RUNBOOK
    causes = set(re.findall(r'cause="(\w+)"', ALERTS)) | set(re.findall(r"--cause (\w+)", RUNBOOK))
    assert causes <= set(Cause)
    assert set(re.findall(r"\b(Tollkeeper[A-Z]\w+)", RUNBOOK)) <= set(alarms(ALERTS))
