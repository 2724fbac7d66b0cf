"""Events are shown with RFC 3339 times and exact USD twins, and nothing is left out."""

from __future__ import annotations

import json

import msgspec
import pytest

from tollkeeper.events.codec import Event
from tollkeeper.events.display import as_document
from tollkeeper.events.organization import SpendCapSet
from tollkeeper.events.prices import PricesPublished
from tollkeeper.events.rules import RULES
from tollkeeper.events.usage import UsageRecorded


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_a_document_names_the_type_and_every_field(
    samples: dict[type, Event], kind: type[Event]
) -> None:
    document = as_document(samples[kind])
    assert document["event"] == kind.__name__
    assert set(kind.__struct_fields__) <= set(document)
    assert json.loads(json.dumps(document)) == document


def test_usage_is_shown_with_its_time_in_utc(samples: dict[type, Event]) -> None:
    document = as_document(samples[UsageRecorded])
    assert document["occurred_at"] == "2026-11-01T00:00:00.123456Z"
    assert document["cache_read_tokens"] == 1_000_000_000
    assert document["hold_id"] is None


def test_money_has_an_exact_twin_in_usd(samples: dict[type, Event]) -> None:
    cap = samples[SpendCapSet]
    document = as_document(cap)
    assert (document["cap_nanos"], document["cap_usd"]) == (
        9_007_199_254_740_992_000,
        "9007199254.740992",
    )
    assert isinstance(cap, SpendCapSet)
    lifted = msgspec.structs.replace(cap, setting="unlimited", cap_nanos=None)
    document = as_document(lifted)
    assert (document["cap_nanos"], document["cap_usd"]) == (None, None)


def test_r15_prices_stay_integer_picos(samples: dict[type, Event]) -> None:
    document = as_document(samples[PricesPublished])
    assert document["effective_from"] == "2026-11-02T00:00:00Z"
    rows = document["prices"]
    assert isinstance(rows, list)
    assert rows[0]["input_picos"] == 100_000
