"""Lines that break a rule are rejected by line, field and reason; the others go on; nothing crashes."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.metering.usage import Usage
from tollkeeper.money.instants import parse_instant
from tollkeeper.workloads import mooncake
from tollkeeper.workloads.lines import MAX_LINE_BYTES
from tollkeeper.workloads.reading import WorkloadFormat, read_workload
from tollkeeper.workloads.rejected import RejectedLine

EVENT: dict[str, object] = {
    "event_id": "e-1",
    "organization": "acme",
    "member": "m-1",
    "surface": "web",
    "model": "claude-opus-5",
    "occurred_at": "2026-11-01T00:00:00Z",
}
CALL: dict[str, object] = {
    "timestamp": 0,
    "input_length": 513,
    "output_length": 1,
    "hash_ids": [1, 2],
}
AZURE_HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
FORMATS: tuple[WorkloadFormat, ...] = ("events", "azure", "mooncake")


def results(data: bytes, workload_format: WorkloadFormat = "events") -> list[Usage | RejectedLine]:
    return list(read_workload(io.BytesIO(data), workload_format))


def rejection(data: bytes, workload_format: WorkloadFormat = "events") -> RejectedLine:
    """The one rejection that `data`, a single bad line, must give."""
    (result,) = results(data, workload_format)
    assert isinstance(result, RejectedLine), result
    return result


def event(**changes: object) -> bytes:
    return json.dumps(EVENT | changes).encode() + b"\n"


def test_a_whole_event_line_is_read_key_by_key() -> None:
    counts = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_tokens": 3,
        "cache_write_5m_tokens": 4,
        "cache_write_1h_tokens": 5,
        "web_search_requests": 6,
    }
    labels = {
        "service_tier": "batch",
        "speed": "fast",
        "region": "us",
        "usage_source": "estimated",
        "request_id": "r-1",
        "hold_id": "h-1",
    }
    (usage,) = results(event(**counts, **labels))
    instant = {"occurred_at": parse_instant("2026-11-01T00:00:00Z")}
    assert usage == Usage(**(EVENT | counts | labels | instant))  # type: ignore[arg-type] # a table


def test_counts_default_to_zero_and_nulls_stand_for_no_request_and_hold() -> None:
    (usage,) = results(event(request_id=None, hold_id=None))
    assert isinstance(usage, Usage)
    assert (usage.input_tokens, usage.output_tokens, usage.request_id) == (0, 0, None)
    assert (usage.service_tier, usage.speed, usage.region) == ("standard", "standard", "global")


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-11-01T00:00:00Z", 0),
        ("2026-11-01t01:00:00.000001+01:00", 1),
        ("2026-11-01 00:00:00.5z", 500_000),
    ],
)
def test_occurred_at_is_rfc_3339_in_any_offset(text: str, micros: int) -> None:
    (usage,) = results(event(occurred_at=text))
    assert isinstance(usage, Usage)
    assert usage.occurred_at == parse_instant("2026-11-01T00:00:00Z") + micros


@pytest.mark.parametrize(
    "value",
    [
        *("2026-11-01T00:00:00", "2026-11-01", "20261101T000000Z", "2026-W44-7T00:00:00Z"),
        *("2026-02-30T00:00:00Z", "2026-11-01T24:61:00Z", "1999-01-01T00:00:00Z"),
        *("2100-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", 1_793_000_000, None, ""),
    ],
)
def test_another_occurred_at_is_rejected(value: object) -> None:
    assert rejection(event(occurred_at=value)).field == "occurred_at"


@pytest.mark.parametrize("key", list(EVENT))
def test_a_key_that_every_event_has_is_missed_by_name(key: str) -> None:
    line = json.dumps({name: value for name, value in EVENT.items() if name != key})
    assert rejection(line.encode()) == RejectedLine(1, key, "must be given")


@pytest.mark.parametrize("key", ["tokens", "emitter", "sequence", "Input_tokens", ""])
def test_an_unknown_key_is_refused_by_name(key: str) -> None:
    found = rejection(event(**{key: 1}))
    assert found.field == key
    assert "is no key of a usage event" in found.reason


def test_a_key_that_stands_twice_is_refused_by_name() -> None:
    line = event(input_tokens=1).replace(b'"event_id"', b'"input_tokens": 2, "event_id"')
    assert rejection(line) == RejectedLine(1, "input_tokens", "must stand only once in the line")


@pytest.mark.parametrize(
    "number",
    [
        *("-1", "1.0", "1e3", "1e400", "-1e400", "1000000001", "1" + "0" * 30),
        *("true", "false", "null", '"1"', "[1]", "{}"),
        pytest.param("9" * 5_000, id="5000 digits"),
        pytest.param("-" + "9" * 5_000, id="minus 5000 digits"),
    ],
)
def test_a_count_that_is_no_whole_number_in_its_range_is_rejected_by_field(number: str) -> None:
    line = event(output_tokens=-7).replace(b"-7", number.encode())
    found = rejection(line)
    assert found.field == "output_tokens"
    assert "whole number from 0 to 1000000000" in found.reason
    assert len(found.reason) < 200


@pytest.mark.parametrize("count", [0, 1, 999_999_999, 1_000_000_000])
def test_a_count_at_the_ends_of_its_range_is_read(count: int) -> None:
    (usage,) = results(event(output_tokens=count))
    assert isinstance(usage, Usage)
    assert usage.output_tokens == count


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("organization", "a/b"),
        ("organization", ""),
        ("member", "anna@example.com"),
        ("member", "m\x00"),
        ("member", "\ud800"),
        ("model", "claude opus"),
        ("event_id", "x" * 129),
        ("event_id", 7),
        ("surface", "fax"),
        ("surface", ["web"]),
        ("usage_source", "guessed"),
        ("request_id", ""),
        ("region", "\u202eus"),
    ],
)
def test_a_text_that_breaks_its_rule_is_rejected_by_field(key: str, value: object) -> None:
    assert rejection(event(**{key: value})).field == key


@pytest.mark.parametrize(
    "line",
    [
        *(b"7", b"null", b"[]", b'"x"', b"{", b'{"a":NaN}', b"{}{}", b"'a'", b"\x00", b"\xff\xfe"),
        *(b'{"event_id":"\xed\xa0\x80"}', b'{"event_id":"\x00"}'),
        pytest.param(b"[" * 60_000, id="60000 lists"),
        pytest.param(b'{"a":' * 10_000, id="10000 objects"),
    ],
)
@pytest.mark.parametrize("workload_format", ["events", "mooncake"])
def test_what_is_no_json_object_is_rejected_as_a_line(
    line: bytes, workload_format: WorkloadFormat
) -> None:
    assert rejection(line, workload_format).field == "line"


@pytest.mark.parametrize("workload_format", FORMATS)
def test_a_line_may_be_as_long_as_its_bound_and_no_longer(workload_format: WorkloadFormat) -> None:
    good = {
        "events": event(),
        "mooncake": json.dumps(CALL).encode(),
        "azure": b"2026-01-01 00:00:00,1,1",
    }
    line = good[workload_format].rstrip()
    header = AZURE_HEADER if workload_format == "azure" else b""
    for length, is_read in ((-1, True), (0, True), (1, False), (10 * MAX_LINE_BYTES, False)):
        padded = line + b" " * (MAX_LINE_BYTES + length - len(line))
        long, after = results(header + padded + b"\n" + line, workload_format)
        assert isinstance(long, Usage) is is_read
        assert isinstance(after, Usage)
        if isinstance(long, RejectedLine):
            assert (long.line, long.field) == (1 + len(header) // len(AZURE_HEADER), "line")
            assert f"at most {MAX_LINE_BYTES} bytes" in long.reason


@pytest.mark.parametrize(("length", "is_read"), [(-1, True), (0, True), (1, False)])
def test_a_last_line_without_its_end_has_the_same_bound(length: int, is_read: bool) -> None:
    (result,) = results(event().rstrip().ljust(MAX_LINE_BYTES + length))
    assert isinstance(result, Usage) is is_read


def test_a_line_without_end_is_read_in_bounded_pieces() -> None:
    class Endless:
        """A quarter of a gigabyte without a line's end, asked for in pieces only."""

        left = 256 * 1024**2

        def readline(self, size: int = -1, /) -> bytes:
            assert 0 < size <= MAX_LINE_BYTES + 1
            given = min(size, self.left)
            self.left -= given
            return _PIECE[:given]

    (found,) = list(read_workload(Endless(), "events"))
    assert isinstance(found, RejectedLine)
    assert found.field == "line"


_PIECE = b"x" * (MAX_LINE_BYTES + 1)


def test_bad_lines_keep_their_numbers_blank_lines_count_and_good_ones_go_on() -> None:
    data = b"\xef\xbb\xbf" + event() + b"\n  \t\r\n" + b"nonsense\n" + event(member="") + event()
    found = results(data)
    assert [type(result) for result in found] == [Usage, RejectedLine, RejectedLine, Usage]
    lines = [(r.line, r.field) for r in found if isinstance(r, RejectedLine)]
    assert lines == [(4, "line"), (5, "member")]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"2023-11-16 18:15:46.68,374", "line"),
        (b"2023-11-16 18:15:46.68,374,1,1", "line"),
        (b"16.11.2023 18:15:46,374,1", "TIMESTAMP"),
        (b"2023-11-31 18:15:46,374,1", "TIMESTAMP"),
        (b"2019-12-31 23:59:59.9999999,374,1", "TIMESTAMP"),
        (b"2023-11-16 18:15:46Z,374,1", "TIMESTAMP"),
        (b"2023-11-16 18:15:46,-1,1", "ContextTokens"),
        (b"2023-11-16 18:15:46,1.5,1", "ContextTokens"),
        (b"2023-11-16 18:15:46,1000000001,1", "ContextTokens"),
        (b"2023-11-16 18:15:46,1,", "GeneratedTokens"),
        pytest.param(b"2023-11-16 18:15:46,1," + b"9" * 9_000, "GeneratedTokens", id="digits"),
        ("2023-11-16 18:15:46,1,\u0663".encode(), "GeneratedTokens"),
        (b"2023-11-16 18:15:46,1_0,1", "ContextTokens"),
    ],
)
def test_a_bad_azure_line_is_rejected_by_column(line: bytes, field: str) -> None:
    good = b"\n2020-01-01 00:00:00,1000000000,0"
    bad, usage = results(AZURE_HEADER + line + good, "azure")
    assert isinstance(bad, RejectedLine)
    assert (bad.line, bad.field) == (2, field)
    assert isinstance(usage, Usage)


@pytest.mark.parametrize("header", [b"TIMESTAMP,GeneratedTokens,ContextTokens", b"a", b"\xff"])
def test_an_azure_file_with_other_columns_is_not_read_at_all(header: bytes) -> None:
    found = rejection(header + b"\n2023-11-16 18:15:46,1,1\n", "azure")
    assert (found.line, found.field) == (1, "header")
    assert "nothing of the file was read" in found.reason


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"timestamp": 10**30}, "timestamp"),
        ({"timestamp": 99 * 365 * 86_400_000}, "timestamp"),
        ({"input_length": True}, "input_length"),
        ({"output_length": None}, "output_length"),
        ({"hash_ids": [1]}, "hash_ids"),
        ({"hash_ids": [1, 2, 3]}, "hash_ids"),
        ({"hash_ids": {"1": 2}}, "hash_ids"),
        ({"hash_ids": [1, "2"]}, "hash_ids[1]"),
        ({"hash_ids": [1, 2**63]}, "hash_ids[1]"),
        ({"hash_ids": [-1, 2]}, "hash_ids[0]"),
    ],
)
def test_a_bad_mooncake_line_is_rejected_by_field(changes: dict[str, object], field: str) -> None:
    assert rejection(json.dumps(CALL | changes).encode(), "mooncake").field == field


@pytest.mark.parametrize("key", list(CALL))
def test_a_mooncake_line_without_a_key_is_rejected_by_name(key: str) -> None:
    line = json.dumps({name: value for name, value in CALL.items() if name != key})
    assert rejection(line.encode(), "mooncake") == RejectedLine(1, key, "must be given")


def test_the_blocks_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mooncake, "MAX_BLOCKS", 4)
    lines = [json.dumps(CALL | {"hash_ids": [n, n + 1]}).encode() for n in (1, 3, 5)]
    found = results(b"\n".join(lines), "mooncake")
    assert [type(result) for result in found] == [Usage, Usage, RejectedLine]


_mutated = st.builds(
    lambda line, place, piece, cut: line[:place] + piece + line[place + cut :],
    st.sampled_from([event(input_tokens=1), json.dumps(CALL).encode(), b"2023-11-16 18:15:46,1,1"]),
    st.integers(0, 160),
    st.binary(max_size=8),
    st.integers(0, 8),
)
_any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*EVENT, *CALL, "x"]), inner),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode())


@given(st.lists(st.binary() | _mutated | _any_json, max_size=4), st.sampled_from(FORMATS))
@example([b'{"input_tokens": ' + b"1" * 10_000 + b"}"], "events")
@example([b'{"\\ud800": 1}'], "events")
def test_any_bytes_give_usage_or_a_named_rejection_and_never_crash(
    lines: list[bytes], workload_format: WorkloadFormat
) -> None:
    header = AZURE_HEADER if workload_format == "azure" else b""
    data = header + b"\n".join(lines)
    for result in results(data, workload_format):
        if isinstance(result, RejectedLine):
            assert 1 <= result.line <= data.count(b"\n") + 1
            assert result.field.isascii()
            assert 0 < len(result.reason) < 500
            json.dumps([result.field, result.reason]).encode()
