"""Frames survive any corruption around them, and corruption never yields a record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.metering.frames import (
    HEADER_BYTES,
    Frame,
    Stop,
    find_frame,
    frame_group,
    framed_bytes,
    is_torn,
    parse,
    seed_for,
)

SEED = seed_for("em-1", 1)
ENTRIES = [(b"acme", b"value-1"), (b"zeta", b"value-22"), (b"acme", b"x" * 300)]
PAIRS = st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=60)), max_size=8)


def read_all(data: bytes, *, position: int = 0, seed: int = SEED) -> list[Frame]:
    """Every frame that a reader would find, going on behind damage."""
    frames: list[Frame] = []
    while True:
        more, at, stop = parse(data[position:], position=position, seed=seed, max_frames=1_000)
        frames += more
        if stop is Stop.END:
            return frames
        following = find_frame(data[at:], position=at, seed=seed)
        if following is None:
            return frames
        position = following


def test_frames_come_back_as_they_were_written() -> None:
    data = frame_group(ENTRIES, 77, position=0, seed=SEED)
    assert len(data) == framed_bytes(ENTRIES)
    frames, end, stop = parse(data, position=0, seed=SEED, max_frames=10)
    assert [(f.key, f.value) for f in frames] == ENTRIES
    assert {f.spooled_at for f in frames} == {77}
    assert (end, stop) == (len(data), Stop.END)


def test_parsing_stops_at_the_number_asked_for_and_goes_on_there() -> None:
    data = frame_group(ENTRIES, 0, position=0, seed=SEED)
    first, at, stop = parse(data, position=0, seed=SEED, max_frames=2)
    assert (len(first), stop) == (2, Stop.ENOUGH)
    rest, _at, stop = parse(data[at:], position=at, seed=SEED, max_frames=2)
    assert (len(rest), stop) == (1, Stop.END)


def test_a_frame_counts_only_where_it_was_written() -> None:
    data = frame_group(ENTRIES[:1], 0, position=0, seed=SEED)
    assert parse(data, position=8, seed=SEED, max_frames=1)[2] is Stop.DAMAGED
    assert parse(data, position=0, seed=seed_for("em-2", 1), max_frames=1)[2] is Stop.DAMAGED
    assert parse(data, position=0, seed=seed_for("em-1", 2), max_frames=1)[2] is Stop.DAMAGED


def test_a_frame_inside_an_event_is_not_taken_for_one() -> None:
    inner = frame_group([(b"evil", b"forged")], 0, position=0, seed=SEED)
    data = bytearray(frame_group([(b"acme", inner), (b"acme", b"after")], 0, position=0, seed=SEED))
    data[HEADER_BYTES] ^= 1
    assert [frame.value for frame in read_all(bytes(data))] == [b"after"]


@given(PAIRS, st.data())
def test_cutting_anywhere_leaves_the_whole_frames_before_it(
    pairs: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    written = frame_group(pairs, 5, position=0, seed=SEED)
    cut = data.draw(st.integers(0, len(written)))
    frames, at, _stop = parse(written[:cut], position=0, seed=SEED, max_frames=1_000)
    assert [(f.key, f.value) for f in frames] == pairs[: len(frames)]
    assert at == (frames[-1].end if frames else 0)
    if at < cut:
        assert is_torn(written[at:cut], position=at, seed=SEED)


@given(PAIRS, st.binary(min_size=1, max_size=40), st.data())
def test_corruption_never_yields_a_record_that_was_not_written(
    pairs: list[tuple[bytes, bytes]], noise: bytes, data: st.DataObject
) -> None:
    written = frame_group(pairs, 5, position=0, seed=SEED)
    at = data.draw(st.integers(0, len(written)))
    corrupted = written[:at] + noise + written[at + len(noise) :]
    starts = _starts(pairs)
    expected = [
        pair
        for pair, (start, end) in zip(pairs, starts, strict=True)
        if corrupted[start:end] == written[start:end]
    ]
    assert [(f.key, f.value) for f in read_all(corrupted)] == expected


@given(st.binary(max_size=2_000))
def test_random_bytes_are_no_frames(noise: bytes) -> None:
    assert read_all(noise) == []


def test_an_unfinished_write_is_torn_and_a_damaged_one_is_not() -> None:
    data = frame_group(ENTRIES[:1], 0, position=0, seed=SEED)
    assert is_torn(data[:-1], position=0, seed=SEED)
    assert is_torn(data[:3], position=0, seed=SEED)
    assert is_torn(b"\0" * 4096, position=0, seed=SEED)
    assert not is_torn(data[:-1] + bytes([data[-1] ^ 1]), position=0, seed=SEED)
    assert not is_torn(b"rubbish", position=0, seed=SEED)


def _starts(pairs: list[tuple[bytes, bytes]]) -> list[tuple[int, int]]:
    starts, position = [], 0
    for pair in pairs:
        size = framed_bytes([pair])
        starts.append((position, position + size))
        position += size
    return starts
