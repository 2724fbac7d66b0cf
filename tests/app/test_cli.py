"""The command line keeps what CLI.md promises: keys, exit codes, one document, clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.commands import NOW, CommandLine, line, twins_are_exact

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


def test_the_figures_have_their_keys(acme: CommandLine) -> None:
    balance = acme.json("balance", "acme")
    assert {
        "organization": "acme",
        "purchased_nanos": 10**10,
        "used_nanos": 6_000_000,
        "balance_nanos": 10**10 - 6_000_000,
    }.items() <= balance.items()
    spend = acme.json("spend", "acme", "--period", "2026-11", "--by", "surface")
    assert set(spend) >= {"organization", "period", "total_nanos", "events", "rows", "freshness"}
    assert spend["total_nanos"] == 6_000_000
    assert [row["key"] for row in spend["rows"]] == ["claude_code", "web"]
    assert {"charge_nanos", "events", "input_tokens", "output_tokens"} <= set(spend["rows"][0])
    draft = acme.json("invoice", "draft", "acme", "--period", "2026-11")
    assert set(draft) >= {
        "id", "number", "kind", "status", "organization", "period", "lines", "total_nanos",
        "total_cents",
    }  # fmt: skip
    assert (draft["status"], draft["total_nanos"], draft["total_cents"]) == ("draft", 6_000_000, 1)
    assert {"member", "model", "token_type", "quantity", "amount_nanos"} <= set(draft["lines"][0])
    for document in (balance, spend, draft):
        assert set(document["freshness"]) == {"as_of", "lag_events", "lag_s", "positions"}
        twins_are_exact(document)


@pytest.mark.parametrize("by", ["member", "model", "surface", "token_type", "day"])
def test_every_breakdown_is_shown_within_80_columns_and_adds_up(acme: CommandLine, by: str) -> None:
    shown = acme("spend", "acme", "--period", "2026-11", "--by", by)
    assert shown.code == 0
    assert "0.006 USD, 2 events" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    found = acme.json("spend", "acme", "--period", "2026-11", "--by", by)
    assert sum(row["charge_nanos"] for row in found["rows"]) == found["total_nanos"] == 6_000_000


def test_figures_that_are_behind_say_so_and_what_to_run(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("e3"))
    shown = acme("spend", "acme", "--period", "2026-11")
    assert (
        "stale: 1 records wait on the log; run: tollkeeper consume --until-caught-up" in shown.out
    )
    freshness = acme.json("balance", "acme")["freshness"]
    assert freshness["lag_events"] == 1
    assert acme("doctor").code == 1
    acme.json("consume", "--until-caught-up")
    assert acme.json("balance", "acme")["freshness"]["lag_events"] == 0
    assert acme("doctor").code == 0


def test_consume_counts_what_it_did(tk: CommandLine) -> None:
    tk.json("org", "open", "acme", "--plan", "enterprise_self_serve", "--owner", "ann")
    tk.json("emit", "-", stdin=line("e1") + line("e1") + line("e2", model="unheard-of"))
    counts = tk.json("consume", "--until-caught-up")
    assert {"charged": 1, "duplicates": 1, "dead_letters": 1}.items() <= counts.items()


def test_an_event_is_found_wherever_it_is(acme: CommandLine) -> None:
    charged = acme.json("event", "show", "acme", "e1")
    assert charged["status"] == "charged"
    assert charged["charge"]["charge_nanos"] == 3_000_000
    place = charged["charge"]["position"]
    assert place["offset"] > 0
    assert sum(one["charge_nanos"] for one in charged["lines"]) == 3_000_000
    acme.json("emit", "-", stdin=line("e9"))
    assert acme.json("event", "show", "acme", "e9")["status"] == "on_log"
    acme.json("emit", "-", stdin=line("e1", output_tokens=7) + line("e5", model="unheard-of"))
    acme.json("consume", "--until-caught-up")
    first = acme.json("event", "show", "acme", "e1")
    assert first["status"] == "charged"
    assert [one["cause"] for one in first["dead_letters"]] == ["id_conflict"]
    assert acme.json("event", "show", "acme", "e5")["status"] == "quarantined"
    assert acme.json("event", "show", "acme", "never", code=1)["status"] == "unknown"
    assert "tokens x price" in acme("event", "show", "acme", "e1").out


def test_events_come_in_pages_and_as_csv(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin="".join(line(f"p{n}") for n in range(5)))
    acme.json("consume", "--until-caught-up")
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(4):
        page = acme.json("events", "acme", "--limit", "2", *cursor)
        seen += [one["event_id"] for one in page["events"]]
        if page["next_cursor"] is None:
            break
        cursor = ["--cursor", page["next_cursor"]]
    assert seen == ["e1", "e2", "p0", "p1", "p2", "p3", "p4"]
    rows = acme("events", "acme", "--csv", "--from", NOW, "--member", "ann").out.splitlines()
    assert len(rows) == 8
    assert rows[0].startswith("event_id,")
    assert acme("events", "acme", "--csv", "--json").code == 2


def test_unpriced_usage_waits_for_its_price(acme: CommandLine, tmp_path: Path) -> None:
    acme.json("emit", "-", stdin=line("n1", model="brand-new") + line("n2", model="brand-new"))
    acme.json("consume", "--until-caught-up")
    found = acme.json("dead-letters", "list")
    assert found["count"] == 2
    letter = found["dead_letters"][0]
    assert (letter["cause"], letter["organization"], letter["event_id"]) == (
        "unpriced",
        "acme",
        "n1",
    )
    assert letter["amount_at_risk_nanos"] is None
    groups = acme.json("dead-letters", "list", "--group-by", "cause,model")["groups"]
    assert [(one["cause"], one["model"], one["count"]) for one in groups] == [
        ("unpriced", "brand-new", 2)
    ]
    assert "input_tokens" in acme("dead-letters", "show", letter["id"], "--json").out
    file = tmp_path / "prices.toml"
    file.write_text(PRICES, encoding="utf-8")
    assert acme.json("prices", "publish", str(file), "--dry-run")
    assert acme.json("prices", "list", "--model", "brand-new")["prices"] == []
    acme.json("prices", "publish", str(file))
    dry = acme.json("dead-letters", "release", "--cause", "unpriced", "--dry-run")
    assert (dry["released"], dry["letters"], dry["dry_run"]) == (0, 2, True)
    acme.json("dead-letters", "release", letter["id"])
    reason = ("--reason", "a test call")
    acme.json("dead-letters", "discard", "--model", "brand-new", *reason)
    acme.json("consume", "--until-caught-up")
    assert acme.json("event", "show", "acme", "n1")["charge"]["charge_nanos"] == 6_000_000
    assert acme.json("event", "show", "acme", "n2")["status"] == "discarded"
    assert acme.json("dead-letters", "list")["count"] == 0


def test_a_preview_refuses_what_buying_would_refuse(acme: CommandLine) -> None:
    for arguments, rule in (
        (("nobody", "5"), "R24"),
        (("acme", "5", "--as", "stranger"), "R14"),
    ):
        refused = acme.json("credits", "buy", *arguments, "--preview", code=1)
        assert refused["reasons"][0]["rule"] == rule


def test_all_organizations_are_listed(acme: CommandLine) -> None:
    found = acme.json("org", "list")
    assert [one["organization"] for one in found["organizations"]] == ["acme"]
    twins_are_exact(found)
    assert "acme" in acme("org", "list").out


def test_a_question_makes_no_home_and_a_relative_one_is_refused(
    tk: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tk("balance", "acme")
    assert ended.code == 2
    assert "tollkeeper setup" in ended.err
    assert not tk.home.exists()
    monkeypatch.setenv("TOLLKEEPER_HOME", "relative/home")
    assert "must be an absolute path" in tk("setup").err


def test_the_partitions_of_a_log_need_to_be_said_only_once(
    tk: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLKEEPER_PARTITIONS", "3")
    tk.json("setup")
    monkeypatch.delenv("TOLLKEEPER_PARTITIONS")
    assert len(tk.json("doctor", code=1)["partitions"]) == 3


def test_a_backup_while_others_append_holds_all_and_restores(
    acme: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying the file alone would leave out what stands in SQLite's WAL."""
    saved = tmp_path / "saved.sqlite"
    found = acme.json("backup", str(saved))
    assert found["records"] == sum(found["positions"].values()) > 2
    assert acme("backup", str(saved)).code == 3  # never over another
    restored = tmp_path / "restored"
    restored.mkdir()
    (restored / "log.sqlite").write_bytes(saved.read_bytes())
    before = acme.json("balance", "acme")
    monkeypatch.setenv("TOLLKEEPER_HOME", str(restored))
    acme.json("consume", "--until-caught-up")
    after = acme.json("balance", "acme")
    for key in ("purchased_nanos", "used_nanos", "balance_nanos"):
        assert after[key] == before[key]
    assert acme.json("replay", "verify")["agrees"] is True


def test_a_log_that_is_missing_is_away_and_never_made_anew(acme: CommandLine) -> None:
    """An unmounted volume: what is accepted meanwhile waits in the spool."""
    aside = acme.home / "aside"
    aside.mkdir()
    parts = [path for path in acme.home.glob("log.sqlite*") if path.suffix != ".id"]
    for path in parts:
        path.rename(aside / path.name)
    bought = acme("credits", "buy", "acme", "5", "--as", "ann")
    assert bought.code == 3
    assert "is missing" in bought.err
    assert not (acme.home / "log.sqlite").exists()
    for path in parts:
        (aside / path.name).rename(path)
    assert acme.json("replay", "verify")["agrees"] is True


def test_a_spool_that_cannot_be_opened_stops_nothing(acme: CommandLine) -> None:
    (acme.home / "spool" / "em-of-another" / "lock").mkdir(parents=True)
    acme.json("emit", "-", stdin=line("e3"))
    assert acme.json("consume", "--until-caught-up")["charged"] == 1


def test_figures_of_another_log_say_so(acme: CommandLine) -> None:
    for part in ("", "-wal", "-shm", ".id"):
        (acme.home / f"log.sqlite{part}").unlink(missing_ok=True)
    shown = acme("balance", "acme")
    assert "isn't the one that this was folded from" in shown.out
    assert acme.json("balance", "acme")["freshness"]["lag_events"] is None
    doctor = acme("doctor")
    assert doctor.code == 1
    assert "put the log back" in " ".join(doctor.out.split())


def test_a_retried_purchase_buys_once_and_a_preview_buys_nothing(acme: CommandLine) -> None:
    buy = ("credits", "buy", "acme", "5", "--as", "ann", "--idempotency-key", "k")
    assert acme(*buy, "--preview").code == 0
    first = acme.json(*buy, "--reference", "PO 7")
    assert acme.json(*buy, "--reference", "PO 7") == first
    other = acme.json(*buy, code=1)
    assert (other["refused"], other["reasons"][0]["reason"]) == (True, "idempotency_key")
    acme.json("consume", "--until-caught-up")
    assert acme.json("balance", "acme")["purchased_nanos"] == 15 * 10**9
    assert [one["reference"] for one in acme.json("credits", "list", "acme")["purchases"]] == [
        None,
        "PO 7",
    ]


def test_a_refusal_is_data_and_says_who_can_lift_it(acme: CommandLine) -> None:
    refused = acme.json("cap", "set", "acme", "50", "--as", "stranger", code=1)
    (reason,) = refused["reasons"]
    assert refused["refused"] is True
    assert set(reason) >= {"reason", "rule", "message", "who_can_lift", "next_step"}
    assert (reason["reason"], reason["rule"]) == ("role", "R14")
    shown = acme("cap", "set", "acme", "50", "--as", "stranger")
    assert shown.out == ""
    assert "refused (R14)" in shown.err
    assert "next step" in shown.err


def test_the_effective_cap_names_its_source(acme: CommandLine) -> None:
    acme.json("org", "add-member", "acme", "bob")
    acme.json("cap", "set", "acme", "50")
    acme.json("cap", "set", "acme", "30", "--member-default")
    acme.json("cap", "set", "acme", "unlimited", "--member", "bob")
    acme.json("consume", "--until-caught-up")
    caps = acme.json("cap", "list", "acme")
    twins_are_exact(caps)
    by_member = {one["member"]: (one["cap_nanos"], one["source"]) for one in caps["members"]}
    assert by_member == {"ann": (30 * 10**9, "member_default"), "bob": (None, "member")}


def test_history_is_brought_in_with_at(tk: CommandLine) -> None:
    opening = ("org", "open", "old", "--plan", "enterprise_self_serve", "--owner", "o")
    tk.json(*opening, "--at", "2026-01-01T00:00:00Z")
    tk.json("credits", "buy", "old", "5", "--at", "2026-02-01T00:00:00Z")
    late = tk.json("credits", "buy", "old", "5", "--at", "2026-01-15T00:00:00Z", code=1)
    assert late["reasons"][0]["reason"] == "time"
    events = tk.json("org", "history", "old")["events"]
    assert [one["event"]["occurred_at"][:10] for one in events] == ["2026-01-01", "2026-02-01"]


def test_setup_is_idempotent_and_replay_agrees(acme: CommandLine) -> None:
    before = acme.json("balance", "acme")["freshness"]["positions"]
    assert acme.json("setup")
    assert acme.json("setup")
    assert acme.json("balance", "acme")["freshness"]["positions"] == before
    assert acme.json("replay", "verify")["agrees"] is True
    assert acme.json("rebuild", "--swap")["swapped"] is True
    assert acme.json("balance", "acme")["used_nanos"] == 6_000_000


def test_a_replay_that_differs_ends_with_1(acme: CommandLine) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(acme.home / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE charge SET output_nanos = 1 WHERE event_id = 'e1'")
    found = acme.json("replay", "verify", code=1)
    assert found["agrees"] is False
    assert [one["organization"] for one in found["differences"]] == ["acme"]
    shown = acme("replay", "verify")
    assert shown.code == 1
    assert (
        "acme: charge (organization=acme, event_id=e1): output_nanos is 1 live"
        in shown.out.replace("\n", " ")
    )


def test_help_names_a_first_round(tk: CommandLine) -> None:
    shown = tk("--help")
    assert shown.code == 0
    assert "tollkeeper org open acme" in shown.out
    assert tk("--version").out.startswith("tollkeeper")
