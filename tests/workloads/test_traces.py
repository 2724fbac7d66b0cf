"""The real traces become usage whose sums are those of the files, always the same, in skewed hands."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from support.traces import AZURE, MOONCAKE, require_trace

from tollkeeper.errors import InvalidInput
from tollkeeper.events.codec import encode
from tollkeeper.metering.usage import Prepared, Usage, recorded
from tollkeeper.money.instants import parse_instant
from tollkeeper.workloads import traces
from tollkeeper.workloads.population import Population
from tollkeeper.workloads.reading import WorkloadFormat, read_workload
from tollkeeper.workloads.rejected import RejectedLine

ENDING_AT = parse_instant("2026-11-20T12:00:00Z")
ACME = Population(organizations=("acme",), members_per_organization=10)


def read(data: bytes, workload_format: WorkloadFormat, **options: Any) -> list[Usage]:
    """All usage of `data`, which must have no bad line."""
    usages = []
    for usage in read_workload(io.BytesIO(data), workload_format, **options):
        assert isinstance(usage, Usage), usage
        usages.append(usage)
    return usages


def sums(usages: Sequence[Usage]) -> tuple[int, int, int, int]:
    """Uncached input, output, cache read and cache write."""
    return (
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cache_read_tokens for usage in usages),
        sum(usage.cache_write_5m_tokens for usage in usages),
    )


def at(usage: Usage) -> int:
    assert isinstance(usage.occurred_at, int)
    return usage.occurred_at


def mooncake_line(timestamp: int, prompt: int, blocks: list[int], output: int = 1) -> bytes:
    line = {"timestamp": timestamp, "input_length": prompt, "output_length": output}
    return json.dumps(line | {"hash_ids": blocks}).encode() + b"\n"


def splits(*lines: bytes) -> list[tuple[int, int, int]]:
    """Of each line: uncached input, cache read, cache write."""
    return [
        (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_5m_tokens)
        for usage in read(b"".join(lines), "mooncake")
    ]


def test_the_azure_trace_is_read_to_the_token_and_microsecond() -> None:
    data = require_trace(AZURE).read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    usages = read(data, "azure")
    assert len(usages) == len(rows) == 19_366
    expected = (
        sum(int(row["ContextTokens"]) for row in rows),
        sum(int(row["GeneratedTokens"]) for row in rows),
    )
    assert sums(usages) == (*expected, 0, 0)
    for usage, row in zip(usages, rows, strict=True):
        assert at(usage) == parse_instant(row["TIMESTAMP"].replace(" ", "T")[:26] + "Z")


def test_the_mooncake_trace_splits_every_prompt_without_remainder() -> None:
    data = require_trace(MOONCAKE).read_bytes()
    rows = [json.loads(line) for line in data.splitlines()]
    usages = read(data, "mooncake")
    assert len(usages) == len(rows) == 12_031
    # The same cache told by sets of whole prefixes, without the reader's way of counting.
    known: set[int] = set()
    expected = [0, 0, 0, 0]
    for usage, row in zip(usages, rows, strict=True):
        prompt = row["input_length"]
        lengths = [min(512, prompt - 512 * place) for place in range(len(row["hash_ids"]))]
        new = [block not in known for block in row["hash_ids"]]
        known.update(row["hash_ids"])
        blocks = list(zip(lengths, new, strict=True))
        read_tokens = sum(length for length, is_new in blocks if not is_new)
        write_tokens = sum(length for length, is_new in blocks if is_new and length == 512)
        rest = prompt - read_tokens - write_tokens
        expected = [
            total + part
            for total, part in zip(
                expected, (rest, row["output_length"], read_tokens, write_tokens), strict=True
            )
        ]
        assert usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens == prompt
    assert sums(usages) == tuple(expected)
    assert expected[2] > 50_000_000  # the trace is known for its reuse: a third of the prompts


@pytest.mark.parametrize(
    ("prompt", "blocks", "split"),
    [
        (511, [1], (511, 0, 0)),
        (512, [1], (0, 0, 512)),
        (513, [1, 2], (1, 0, 512)),
        (1, [1], (1, 0, 0)),
        (0, [], (0, 0, 0)),
        (1_535, [1, 2, 3], (511, 0, 1_024)),
    ],
)
def test_new_full_blocks_are_cache_writes_and_a_short_last_one_is_uncached(
    prompt: int, blocks: list[int], split: tuple[int, int, int]
) -> None:
    assert splits(mooncake_line(0, prompt, blocks)) == [split]


def test_leading_blocks_seen_before_are_cache_reads_up_to_the_first_new_one() -> None:
    first = mooncake_line(0, 1_024, [1, 2])
    assert splits(first, mooncake_line(1, 1_536, [1, 2, 3]))[1] == (0, 1_024, 512)
    assert splits(first, mooncake_line(1, 1_024, [9, 2]))[1] == (0, 0, 1_024)
    assert splits(first, mooncake_line(1, 1_000, [1, 2]))[1] == (0, 1_000, 0)


def test_the_same_prompt_again_is_read_whole_and_never_more_than_it_has() -> None:
    line = mooncake_line(0, 700, [1, 2])
    assert splits(line, line) == [(188, 0, 512), (0, 700, 0)]


def test_a_block_that_stands_twice_in_one_prompt_is_new_both_times() -> None:
    assert splits(mooncake_line(0, 1_024, [1, 1])) == [(0, 0, 1_024)]


def test_a_rejected_line_leaves_nothing_in_the_cache() -> None:
    bad = b'{"timestamp":0,"input_length":512,"output_length":-1,"hash_ids":[1]}\n'
    good = mooncake_line(0, 512, [1])
    rejection, usage = read_workload(io.BytesIO(bad + good), "mooncake")
    assert isinstance(rejection, RejectedLine)
    assert rejection.field == "output_length"
    assert isinstance(usage, Usage)
    assert usage.cache_read_tokens == 0


AZURE_LINES = b"""TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:15:46.6805900,374,44\r
2023-11-16 18:15:50.9951690,396,109\r
2023-11-16 18:15:49,1,2"""


def test_a_trace_that_keeps_its_time_keeps_every_microsecond() -> None:
    times = [at(usage) for usage in read(AZURE_LINES, "azure")]
    assert times == [
        parse_instant("2023-11-16T18:15:46.680590Z"),
        parse_instant("2023-11-16T18:15:50.995169Z"),
        parse_instant("2023-11-16T18:15:49Z"),
    ]
    anchored = read(mooncake_line(1_500, 0, []), "mooncake")
    assert at(anchored[0]) == parse_instant("2024-06-01T00:00:01.5Z")


def test_a_shifted_trace_ends_at_the_given_instant_with_all_distances_kept() -> None:
    kept = [at(usage) for usage in read(AZURE_LINES, "azure")]
    shifted = [at(usage) for usage in read(AZURE_LINES, "azure", ending_at=ENDING_AT)]
    assert max(shifted) == ENDING_AT
    assert [time - shifted[0] for time in shifted] == [time - kept[0] for time in kept]


def test_calls_that_a_shift_would_move_out_of_all_time_are_rejected_alone() -> None:
    lines = AZURE_LINES + b"\n2099-01-01 00:00:00,1,1\n"
    results = list(read_workload(io.BytesIO(lines), "azure", ending_at=ENDING_AT))
    rejections = [result for result in results if isinstance(result, RejectedLine)]
    assert [(rejection.line, rejection.field) for rejection in rejections] == [
        (2, "occurred_at"),
        (3, "occurred_at"),
        (4, "occurred_at"),
    ]
    assert len(results) == 4


def test_a_shift_buffers_up_to_its_bound_and_then_says_so_before_any_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "MAX_SHIFTED_CALLS", 3)
    assert len(read(AZURE_LINES, "azure", ending_at=ENDING_AT)) == 3
    monkeypatch.setattr(traces, "MAX_SHIFTED_CALLS", 2)
    with pytest.raises(InvalidInput, match="file: must have at most 2 calls"):
        next(read_workload(io.BytesIO(AZURE_LINES), "azure", ending_at=ENDING_AT))
    assert len(read(AZURE_LINES, "azure")) == 3


def test_the_same_file_gives_the_same_usage_and_a_shift_only_other_times_and_ids() -> None:
    once = read(AZURE_LINES, "azure")
    assert once == read(AZURE_LINES, "azure")
    shifted = read(AZURE_LINES, "azure", ending_at=ENDING_AT)
    for before, after in zip(once, shifted, strict=True):
        assert before.event_id != after.event_id
        cast = (before.organization, before.member, before.surface, before.model)
        assert cast == (after.organization, after.member, after.surface, after.model)


def test_event_ids_depend_on_format_organization_line_and_time() -> None:
    ids = {usage.event_id for usage in read(AZURE_LINES, "azure", population=ACME)}
    assert len(ids) == 3
    other = Population(organizations=("globex",), members_per_organization=10)
    assert ids.isdisjoint(usage.event_id for usage in read(AZURE_LINES, "azure", population=other))
    # Another cast of the same organization is the same usage as far as ids go.
    reseeded = Population(organizations=("acme",), members_per_organization=10, seed=1)
    assert ids == {usage.event_id for usage in read(AZURE_LINES, "azure", population=reseeded)}


def many_lines(count: int) -> bytes:
    lines = [f"2023-11-16 18:{n // 60 % 60:02d}:{n % 60:02d},{n},{n}" for n in range(count)]
    return "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]).encode()


def test_the_cast_is_skewed_to_the_first_of_each_kind_and_reaches_all() -> None:
    population = Population(organizations=("a", "b", "c"), members_per_organization=5, seed=7)
    usages = read(many_lines(4_000), "azure", population=population)
    organizations = Counter(usage.organization for usage in usages)
    members = Counter(usage.member for usage in usages)
    # Shares of Zipf's law among three are 6/11, 3/11, 2/11; of 4,000 draws within about 5 sigma.
    for organization, share in zip("abc", (6 / 11, 3 / 11, 2 / 11), strict=True):
        assert abs(organizations[organization] - 4_000 * share) < 160
    assert [member for member, _ in members.most_common()] == list(population.members)
    assert len({usage.model for usage in usages}) == 16
    assert len({usage.surface for usage in usages}) == 5


def test_the_seed_changes_the_cast() -> None:
    population = Population(organizations=("a", "b", "c"), seed=1)
    other = Population(organizations=("a", "b", "c"), seed=2)
    first = read(many_lines(50), "azure", population=population)
    second = read(many_lines(50), "azure", population=other)
    assert [usage.member for usage in first] != [usage.member for usage in second]


def test_what_is_read_is_fit_for_the_log() -> None:
    for data, workload_format in (
        (AZURE_LINES, "azure"),
        (mooncake_line(5, 700, [1, 2]), "mooncake"),
    ):
        for usage in read(data, workload_format):  # type: ignore[arg-type] # a tuple's literal widens
            assert usage.event_id is not None
            prepared = Prepared(usage, usage.event_id, at(usage))
            encode(recorded(prepared, emitter="em-1", sequence=1))


@pytest.mark.parametrize(
    ("organizations", "members", "seed", "field"),
    [
        ((), 1, 0, "organizations"),
        (("a", "a"), 1, 0, "organizations"),
        (("a b",), 1, 0, "organizations"),
        (("a",), 0, 0, "members_per_organization"),
        (("a",), 1, -1, "seed"),
    ],
)
def test_a_population_that_can_not_be_is_refused_by_field(
    organizations: tuple[str, ...], members: int, seed: int, field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        Population(organizations=organizations, members_per_organization=members, seed=seed)
    assert refused.value.field == field
