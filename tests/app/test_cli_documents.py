"""Every command's `--json` document has exactly these keys; programs rely on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from app.commands import CommandLine, line, twins_are_exact

from tollkeeper.ledger.tables import COUNT_COLUMNS

PRICES = """
publication_id = "first"
source = "test"
source_date = "2026-11-01"
effective_from = "2026-01-01T00:00:00Z"
[[prices]]
models = ["brand-new"]
input = "5"
output = "10"
"""
LITELLM = {
    "new-model": {
        "litellm_provider": "anthropic",
        "mode": "chat",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
    },
    "odd-model": {"litellm_provider": "anthropic", "mode": "chat"},
}

LETTER = {
    "id", "cause", "field", "detail", "status", "releasable", "organization", "event_id", "member",
    "model", "tokens", "amount_at_risk_nanos", "amount_at_risk_usd", "appended_at", "closed_by",
    "closed_reason",
}  # fmt: skip
CHARGE = {
    "event_id", "organization", "member", "surface", "model", "service_tier", "speed", "region",
    "usage_source", "request_id", "hold_id", "occurred_at", "appended_at", "late", "member_unknown",
    *COUNT_COLUMNS, "charge_nanos", "charge_usd", "publication_id", "position", "released_offset",
    "emitter", "sequence",
}  # fmt: skip
REPLAY = {
    "agrees", "swapped", "live_generation", "replayed_generation", "positions", "records",
    "organizations", "charged_events", "charged_nanos", "charged_usd", "differences",
    "differences_cut_short", "untied",
}  # fmt: skip
FOLDED = {"records", "charged", "duplicates", "dead_letters"}

ANSWERS: list[tuple[str, set[str]]] = [
    ("setup", {"home", "partitions", "log", "pending", "gate"}),
    (
        "doctor",
        {
            *("healthy", "findings", "services", "partitions", "spool"),
            *("dead_letters", "settings"),
        },
    ),
    ("consume --until-caught-up", FOLDED | {"relayed", "drained", "spooled", "halted"}),
    ("org list", {"organizations", "count"}),
    (
        "org show acme",
        {
            "organization", "plan", "channel", "primary_owner", "opened_at", "version", "members",
            "charged_events", "duplicate_events", "charged_nanos", "charged_usd", "member_list",
        },
    ),
    ("org history acme", {"organization", "events"}),
    ("credits list acme", {"organization", "purchases"}),
    (
        "credits buy acme 1.5 --preview",
        {"preview", "organization", "credit_nanos", "credit_usd"},
    ),
    ("cap list acme", {"organization", "cap_nanos", "cap_usd", "member_default", "members"}),
    ("events acme", {"organization", "events", "next_cursor"}),
    ("event show acme e1", {"event_id", "organization", "status", "charge", "lines", "dead_letters"}),
    ("dead-letters list", {"dead_letters", "count", "is_cut"}),
    ("dead-letters list --group-by cause,model", {"groups", "count"}),
    (
        "balance acme",
        {
            "organization", "channel", "purchased_nanos", "purchased_usd", "used_nanos", "used_usd",
            "balance_nanos", "balance_usd", "freshness",
        },
    ),
    (
        "spend acme --period 2026-11",
        {"organization", "period", "by", "total_nanos", "total_usd", "events", "rows", "freshness"},
    ),
    (
        "invoice draft acme --period 2026-11",
        {
            "id", "number", "kind", "status", "organization", "period", "period_start", "period_end",
            "lines", "total_nanos", "total_usd", "total_cents", "rounding_nanos", "rounding_usd",
            "incomplete", "freshness",
        },
    ),
    ("prices list", {"at", "prices", "publications"}),
    ("replay verify", REPLAY),
    ("rebuild", REPLAY),
    ("rebuild --swap", REPLAY),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "keys"), ANSWERS, ids=lambda one: str(one)[:40])
def test_the_document_has_exactly_its_keys(
    acme: CommandLine, arguments: str, keys: set[str]
) -> None:
    document = acme.json(*arguments.split())
    assert set(document) == keys
    twins_are_exact(document)


def test_every_row_has_exactly_its_keys(acme: CommandLine) -> None:
    def rows_of(document: Any, name: str) -> set[str]:
        assert document[name], name
        return set(document[name][0])

    acme.json("emit", "-", stdin=line("n1", model="brand-new"))
    acme.json("consume", "--until-caught-up")
    assert rows_of(acme.json("doctor", code=1), "findings") == {"what", "ok", "detail", "next_step"}
    assert rows_of(acme.json("doctor", code=1), "partitions") == {
        "partition", "next_offset", "log_end", "lag", "owner", "halted",
    }  # fmt: skip
    assert rows_of(acme.json("doctor", code=1), "services") == {"service", "latency_ms", "error"}
    assert rows_of(acme.json("doctor", code=1), "dead_letters") == {
        "cause", "count", "at_risk_nanos", "at_risk_usd", "unpriced",
    }  # fmt: skip
    spend = acme.json("spend", "acme", "--period", "2026-11", "--by", "model")
    assert rows_of(spend, "rows") == {"key", "charge_nanos", "charge_usd", "events", *COUNT_COLUMNS}
    by_type = acme.json("spend", "acme", "--period", "2026-11", "--by", "token_type")
    assert rows_of(by_type, "rows") == {"key", "charge_nanos", "charge_usd", "events", "quantity"}
    draft = acme.json("invoice", "draft", "acme", "--period", "2026-11")
    assert rows_of(draft, "lines") == {
        "member", "model", "token_type", "quantity", "amount_nanos", "amount_usd",
    }  # fmt: skip
    assert rows_of(acme.json("events", "acme"), "events") == CHARGE
    assert rows_of(acme.json("event", "show", "acme", "e1"), "lines") == {
        "token_type", "quantity", "price_picos", "price_usd", "charge_nanos", "charge_usd",
    }  # fmt: skip
    letters = acme.json("dead-letters", "list")
    assert rows_of(letters, "dead_letters") == LETTER
    one = acme.json("dead-letters", "show", letters["dead_letters"][0]["id"])
    assert set(one) == LETTER | {"raw_base64", "key_base64", "event"}
    groups = acme.json("dead-letters", "list", "--group-by", "cause,model")
    assert rows_of(groups, "groups") == {
        "cause", "model", "count", "amount_at_risk_nanos", "amount_at_risk_usd", "unpriced",
    }  # fmt: skip
    assert rows_of(acme.json("credits", "list", "acme"), "purchases") == {
        "purchase_id", "credit_nanos", "credit_usd", "purchased_at", "actor", "reference",
        "voided_at", "void_reason",
    }  # fmt: skip
    assert rows_of(acme.json("org", "history", "acme"), "events") == {
        "version", "log_partition", "log_offset", "event",
    }  # fmt: skip
    assert rows_of(acme.json("org", "show", "acme"), "member_list") == {
        "member", "role", "added_at", "removed_at",
    }  # fmt: skip


def test_changes_answer_with_what_they_decided(acme: CommandLine, tmp_path: Path) -> None:
    changes = [
        "org open globex --plan enterprise_sales_assisted --owner gil",
        "org add-member acme bob --role admin",
        "org set-role acme bob member",
        "org add-member acme cy --role owner",
        "org transfer-ownership acme cy",
        "org remove-member acme bob",
        "credits buy acme 7",
        "cap set acme 50 --member-default",
    ]
    for arguments in changes:
        answer = acme.json(*arguments.split())
        assert {"organization", "command_id", "version"} <= set(answer), arguments
        assert answer["occurred_at"].endswith("Z"), arguments
        twins_are_exact(answer)
    bought = acme.json("credits", "buy", "acme", "3")
    voided = acme.json("credits", "void", "acme", bought["purchase_id"], "--reason", "twice")
    assert voided["organization"] == "acme"
    file = tmp_path / "prices.toml"
    file.write_text(PRICES, encoding="utf-8")
    preview = acme.json("prices", "publish", str(file), "--dry-run")
    assert set(preview) == {"dry_run", "publication_id", "effective_from", "changes"}
    assert set(preview["changes"][0]) == {
        "model", "service_tier", "speed", "region", "over_prompt_tokens", "token_type", "old_picos",
        "new_picos", "ratio",
    }  # fmt: skip
    published = acme.json("prices", "publish", str(file))
    assert published["publication_id"] == "first"
    price_map = tmp_path / "map.json"
    price_map.write_text(json.dumps(LITELLM), encoding="utf-8")
    imported = acme.json(
        "prices", "import-litellm", str(price_map), "--publication-id", "lite",
        "--effective-from", "2099-01-01T00:00:00Z",
    )  # fmt: skip
    assert imported["publication_id"] == "lite"
    withdrawn = acme.json("prices", "withdraw", "lite")
    assert withdrawn["publication_id"] == "lite"


def test_warnings_and_reasons_stay_off_standard_output(acme: CommandLine) -> None:
    """One document on standard output, everything else on standard error."""
    refused = acme("credits", "buy", "acme", "5", "--as", "stranger", "--json")
    assert (refused.code, refused.err) == (1, "")
    assert set(refused.document) == {"refused", "reasons"}
    rejected = acme("emit", "-", "--json", stdin="nonsense\n")
    assert (rejected.code, rejected.err) == (1, "")
    assert set(rejected.document) == {"accepted", "rejected", "rejections"}
    misused = acme("balance", "nobody", "--json")
    assert (misused.code, misused.out) == (2, "")
