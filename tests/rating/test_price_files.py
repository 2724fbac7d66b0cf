"""Price files and LiteLLM's map: read exactly, and refused by field and rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.events import BEGINNING

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
BATCH = 'service_tiers = ["standard", "batch"]\n'
NOT_OFFERED = 'not_offered = [{service_tier = "batch", speed = "fast"}]\n'


@pytest.mark.parametrize(
    ("factor", "rule"),
    [
        # Each of these was once taken for another number: rounded to 28 digits, to zero, or read leniently.
        ("1.1000000000000000000000000000001", "decimal number"),
        ("1e-2000000", "decimal number"),
        ("1_0", "decimal number"),
        ("\uff11", "decimal number"),
        ("-1", "decimal number"),
        ("nan", "decimal number"),
        ("0.000000000001", "exact"),
        ("0.33333333333", "exact"),
        ("100.000000000001", "at most 100"),
    ],
)
def test_a_factor_that_is_not_exact_is_refused_and_never_rounded(factor: str, rule: str) -> None:
    with pytest.raises(InvalidPrice, match=rule):
        read_price_file(GOOD + BATCH + f'[multipliers]\nbatch = "{factor}"\n')


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
        (GOOD + "over_prompt_tokens = 1.0\n", "price file", "over_prompt_tokens"),
        (GOOD + "over_prompt_tokens = 1_000_000_001\n", "prices[0].over_prompt_tokens", "whole"),
        (GOOD + f"over_prompt_tokens = {'9' * 5_000}\n", "price file", "digits"),
        ("x = " + "[" * 100_000, "price file", "nested"),
        (GOOD.replace("2026-11-01", "November"), "source_date", "YYYY-MM-DD"),
        (GOOD.replace("2026-11-01", "2026-02-30"), "source_date", "YYYY-MM-DD"),
        (GOOD.replace('source = "test"', 'source = ""'), "source", "1 to 1000"),
        (GOOD.replace("2026-12-01T", "1999-12-01T"), "effective_from", "2020-01-01"),
        (GOOD.replace("2026-12-01T", "2026-12-32T"), "effective_from", "exists"),
        (GOOD.replace("0.06875", "1000000.000001"), "input of m", "1 USD a token"),
        (GOOD.replace('input = "0.06875"', ""), "prices[0]", "at least one price"),
        (GOOD.replace('input = "0.06875"', 'web_search = "5"'), "web_search of m", "4 USD"),
        (GOOD + BATCH + '[multipliers]\nbatsch = "0.5"\n', "multipliers.batsch", "names no"),
        (GOOD + '[multipliers]\nstandard = "2"\n', "multipliers.standard", "both"),
        (GOOD.replace("[[", NOT_OFFERED + "[["), "not_offered", "batch, fast"),
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
        "effective_from": BEGINNING,
        "source_date": "2026-11-01",
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


@pytest.mark.parametrize(
    ("field", "given"),
    [("publication_id", "p p"), ("effective_from", 0), ("source_date", "yesterday")],
)
def test_an_import_checks_what_it_is_published_under(field: str, given: object) -> None:
    with pytest.raises(InvalidPrice) as refused:
        imported({"m": {"input_cost_per_token": 1e-6}}, **{field: given})
    assert refused.value.field == field


OK = '"ok": {"input_cost_per_token": 1e-6}'


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        # Each was once a price of zero, a rounded one, or the end of the process.
        ("1e-2000000", "decimal number"),
        ("1e99999999999999999999999", "decimal number"),
        ("1.00000000000000000000000000000000001e-6", "exact"),
        ("1.0999999999999999e-07", "exact"),
        ("9" * 5_000, "range"),
        ("1e9", "range"),
        ("1.000000000001", "1 USD a token"),
    ],
)
def test_an_absurd_number_leaves_its_model_out_and_no_other(number: str, rule: str) -> None:
    found = imported(f'{{"m": {{"input_cost_per_token": {number}}}, {OK}}}')
    assert [row.model for row in found.proposal.prices] == ["ok"]
    assert rule in found.skipped["m"]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ('"provider_specific_entry": {"us": 0}', "above 0"),
        ('"provider_specific_entry": {"fast": -1}', "provider_specific_entry.fast"),
        ('"provider_specific_entry": {"fast": 1e3}', "provider_specific_entry.fast"),
        ('"provider_specific_entry": {"us": "1.1"}', "must be a number"),
        ('"provider_specific_entry": {"us": 1.00000000001}', "exact"),
        ('"search_context_cost_per_query": {"low": 1e-300000000}', "decimal number"),
        ('"search_context_cost_per_query": {"low": 5}', "4 USD"),
        ('"input_cost_per_token": 2e-6', "twice"),
        ('"input_cost_per_token_above_1m_tokens": 2e-6', "isn't understood"),
        ('"input_cost_per_token_above_0k_tokens": 2e-6', "isn't understood"),
        ('"input_cost_per_token_above_0200k_tokens": 2e-6', "isn't understood"),
        (f'"input_cost_per_token_above_{"9" * 5_000}k_tokens": 2e-6', "isn't understood"),
    ],
)
def test_a_model_whose_prices_are_unclear_is_left_out(more: str, rule: str) -> None:
    """A band or factor that is ignored would charge too little, and nobody would know."""
    found = imported(f'{{"m": {{"input_cost_per_token": 1e-6, {more}}}, {OK}}}')
    assert [row.model for row in found.proposal.prices] == ["ok"]
    assert rule in found.skipped["m"]


def test_a_model_that_is_in_the_map_twice_is_left_out() -> None:
    twice = '"m": {"input_cost_per_token": 1e-6}'
    found = imported(f"{{{twice}, {OK}, {twice}}}")
    assert [row.model for row in found.proposal.prices] == ["ok"]
    assert "twice" in found.skipped["m"]


def test_keys_that_price_nothing_we_meter_are_ignored() -> None:
    entry = {
        "input_cost_per_token": 1e-6,
        "max_tokens": 8_192,
        "litellm_provider": "anthropic",
        "supports_vision": True,
        "input_cost_per_audio_token": 4e-5,
        "input_cost_per_token_cache_hit": 1e-8,
        "output_cost_per_token": None,
    }
    (row,) = imported({"m": entry}).proposal.prices
    assert (row.input_picos, row.output_picos, row.cache_read_picos) == (1_000_000, None, None)
