"""Price files and LiteLLM's map: read exactly, and refused by field and rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollkeeper.errors import InvalidPrice, TollkeeperError
from tollkeeper.rating.files import built_in_proposals, read_price_file
from tollkeeper.rating.litellm import Imported, read_litellm

HEAD = """
publication_id = "p"
source = "test"
source_date = "2026-11-01"
effective_from = "2026-12-01T00:00:00Z"
"""
GOOD = HEAD + '[[prices]]\nmodels = ["m"]\ninput = "0.06875"\n'


def test_a_price_is_a_decimal_text_and_exact() -> None:
    (row,) = read_price_file(GOOD).prices
    assert row.input_picos == 68_750
    assert row.output_picos is None


def test_entries_expand_over_tiers_regions_speeds_and_factors() -> None:
    text = (
        HEAD
        + 'not_offered = [{service_tier = "batch", speed = "fast"}]\n'
        + '[multipliers]\nbatch = "0.5"\nus = "1.1"\nfast = "2"\n'
        + '[[prices]]\nmodels = ["a", "b"]\ninput = "10"\nweb_search = "0.01"\n'
        + 'service_tiers = ["standard", "batch"]\nregions = ["global", "us"]\n'
        + 'speeds = ["standard", "fast"]\n'
    )
    rows = {
        (r.model, r.service_tier, r.region, r.speed): (r.input_picos, r.web_search_picos)
        for r in read_price_file(text).prices
    }
    assert len(rows) == 2 * 6
    assert rows["a", "batch", "us", "standard"] == (5_500_000, 10**10)
    assert rows["b", "standard", "us", "fast"] == (22_000_000, 10**10)


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("", "price file", "publication_id"),
        ("nonsense [", "price file", ""),
        (HEAD, "price file", "prices"),
        (HEAD + "prices = []\n", "price file", "length"),
        (GOOD.replace('"0.06875"', "0.06875"), "price file", "str"),
        (GOOD.replace("0.06875", "0.0000001"), "input of m", "exact"),
        (GOOD.replace("0.06875", "-1"), "input of m", ""),
        (GOOD.replace("0.06875", "nan"), "input of m", ""),
        (GOOD.replace("0.06875", "1e30"), "input of m", ""),
        (GOOD.replace("0.06875", "9" * 41), "price file", "40"),
        (GOOD.replace("input", "inptu"), "price file", "inptu"),
        (GOOD.replace('["m"]', "[]"), "price file", "length"),
        (GOOD.replace('["m"]', '["m", "m"]'), "models", "twice"),
        (GOOD.replace('["m"]', '["m m"]'), "models", ""),
        (GOOD.replace('id = "p"', 'id = "p p"'), "publication_id", ""),
        (GOOD.replace("2026-12-01T00:00:00Z", "tomorrow"), "effective_from", "RFC 3339"),
        (GOOD + 'service_tiers = ["b"]\n[multipliers]\nb = "x"\n', "multipliers.b", "decimal"),
        (GOOD + 'service_tiers = ["b"]\n[multipliers]\nb = "0"\n', "multipliers.b", "above 0"),
        (GOOD + 'service_tiers = ["b"]\n[multipliers]\nb = "101"\n', "multipliers.b", "100"),
        (GOOD + "over_prompt_tokens = -1\n", "price file", "over_prompt_tokens"),
    ],
)
def test_a_bad_price_file_is_refused_by_field_and_rule(text: str, field: str, rule: str) -> None:
    with pytest.raises(TollkeeperError) as refused:
        read_price_file(text)
    assert getattr(refused.value, "field", None) == field
    assert rule in str(refused.value)


def test_the_built_in_prices_are_published_older_ones_last() -> None:
    newest, oldest = built_in_proposals()
    assert newest.effective_from > oldest.effective_from
    assert {row.model for row in newest.prices} == {"claude-sonnet-5-5"}


def imported(entries: object, **options: object) -> Imported:
    text = entries if isinstance(entries, str) else json.dumps(entries)
    given: dict[str, Any] = {
        "publication_id": "p",
        "effective_from": 0,
        "source_date": "d",
        **options,
    }
    return read_litellm(text, **given)


def test_litellm_prices_are_read_exactly_and_never_through_a_float() -> None:
    found = imported(
        '{"m": {"input_cost_per_token": 2.5e-07, "output_cost_per_token": 0.0000001,'
        ' "cache_read_input_token_cost": 3e-8, "cache_creation_input_token_cost": 1.25e-6,'
        ' "cache_creation_input_token_cost_above_1hr": 2e-6,'
        ' "input_cost_per_token_above_200k_tokens": 5e-07,'
        ' "output_cost_per_token_batches": 5e-08,'
        ' "search_context_cost_per_query": {"low": 0.01, "high": 0.01}}}'
    )
    rows = {(row.service_tier, row.over_prompt_tokens): row for row in found.proposal.prices}
    plain = rows["standard", 0]
    assert (plain.input_picos, plain.output_picos, plain.cache_read_picos) == (
        250_000,
        100_000,
        30_000,
    )
    assert (plain.cache_write_5m_picos, plain.cache_write_1h_picos) == (1_250_000, 2_000_000)
    assert plain.web_search_picos == 10**10
    assert rows["standard", 200_000].input_picos == 500_000
    assert rows["batch", 0].output_picos == 50_000


def test_litellm_factors_become_variants() -> None:
    entry = {
        "input_cost_per_token": 1e-6,
        "provider_specific_entry": {"us": 1.1, "fast": 2},
    }
    rows = {
        (row.region, row.speed): row.input_picos for row in imported({"m": entry}).proposal.prices
    }
    assert rows == {
        ("global", "standard"): 1_000_000,
        ("us", "standard"): 1_100_000,
        ("global", "fast"): 2_000_000,
        ("us", "fast"): 2_200_000,
    }


def test_what_cant_be_carried_over_is_listed_with_its_reason() -> None:
    found = imported(
        {
            "sample_spec": {"input_cost_per_token": 0},
            "good": {"input_cost_per_token": 1e-6},
            "images": {"output_cost_per_image": 0.04},
            "odd": {"input_cost_per_token": 1e-20},
            "text": {"input_cost_per_token": "cheap"},
            "negative": {"input_cost_per_token": -1e-6},
            "bool": {"input_cost_per_token": True},
            "list": [1],
        }
    )
    assert [row.model for row in found.proposal.prices] == ["good"]
    assert set(found.skipped) == {"images", "odd", "text", "negative", "bool", "list"}
    assert "by the token" in found.skipped["images"]
    assert "input_cost_per_token" in found.skipped["text"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("[]", "one JSON object"),
        ("{}", "it is empty"),
        ('{"m": {"input_cost_per_token": NaN}}', "no price by the token"),
        ('{"m": {"input_cost_per_token": Infinity}}', "no price by the token"),
    ],
)
def test_what_is_no_price_map_is_refused(text: str, rule: str) -> None:
    with pytest.raises(InvalidPrice, match=rule):
        imported(text)


def test_a_model_that_isnt_in_the_map_is_named() -> None:
    with pytest.raises(InvalidPrice, match="nonesuch"):
        imported({"m": {"input_cost_per_token": 1e-6}}, models=["m", "nonesuch"])
