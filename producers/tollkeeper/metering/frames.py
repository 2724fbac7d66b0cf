"""How one event lies in a segment file, and what a reader makes of bytes that don't verify.

A frame is: magic (4 bytes), body length (u32), CRC-32 (u32), body; the body is the time of spooling
(u64, microseconds), the organization's length (u16), the organization, the encoded event. The CRC
begins with the emitter, the segment's number and the frame's position, so that a frame which stands
anywhere else than it was written (an old block, a copy, bytes inside an event) doesn't verify.

Must not know files.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from zlib import crc32

import msgspec

from tollkeeper.events.codec import MAX_BYTES
from tollkeeper.events.ids import MAX_ID_LENGTH
from tollkeeper.events.usage import UsageRecorded

MAGIC = b"\xf7TK\xfb"  # 0xF7 and 0xFB never occur in UTF-8 text
_HEADER = struct.Struct("<4sII")
_PLACE = struct.Struct("<QI")
_BODY = struct.Struct("<QH")
HEADER_BYTES = _HEADER.size
MIN_BODY_BYTES = _BODY.size + 1
MAX_BODY_BYTES = _BODY.size + MAX_ID_LENGTH + MAX_BYTES[UsageRecorded.__name__]
MAX_FRAME_BYTES = HEADER_BYTES + MAX_BODY_BYTES


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One spooled event. `end` is the position after it; `key` is the organization."""

    end: int
    spooled_at: int
    key: bytes
    value: bytes


class Stop(Enum):
    """Why parsing ended."""

    END = "no bytes left"
    INCOMPLETE = "the bytes end within a frame"
    DAMAGED = "the bytes are no frame"
    ENOUGH = "as many frames as asked for"


def seed_for(emitter: str, segment: int) -> int:
    """What every CRC of the segment begins with."""
    return crc32(f"{emitter}/{segment}".encode())


def frame_group(
    entries: Sequence[tuple[bytes, bytes]], spooled_at: int, *, position: int, seed: int
) -> bytes:
    """The frames of (organization, event) pairs, for writing at `position`."""
    parts: list[bytes] = []
    for key, value in entries:
        body = _BODY.pack(spooled_at, len(key)) + key + value
        length = len(body)
        crc = crc32(body, crc32(_PLACE.pack(position, length), seed))
        parts.append(_HEADER.pack(MAGIC, length, crc))
        parts.append(body)
        position += HEADER_BYTES + length
    return b"".join(parts)


def framed_bytes(entries: Sequence[tuple[bytes, bytes]]) -> int:
    """How long `frame_group` will be."""
    each = HEADER_BYTES + _BODY.size
    return sum(each + len(key) + len(value) for key, value in entries)


def parse(
    data: bytes, *, position: int, seed: int, max_frames: int
) -> tuple[list[Frame], int, Stop]:
    """The frames at the head of `data`, which was read at `position`; where and why it ended."""
    frames: list[Frame] = []
    index, size = 0, len(data)
    while len(frames) < max_frames:
        if index == size:
            return frames, position + index, Stop.END
        stop, frame = _frame_at(data, index, position, seed)
        if frame is None:
            return frames, position + index, stop
        frames.append(frame)
        index = frame.end - position
    return frames, position + index, Stop.ENOUGH


def _frame_at(data: bytes, index: int, base: int, seed: int) -> tuple[Stop, Frame | None]:
    body_at = index + HEADER_BYTES
    if body_at > len(data):
        begins_well = MAGIC.startswith(data[index : index + len(MAGIC)])
        return (Stop.INCOMPLETE if begins_well else Stop.DAMAGED), None
    magic, length, crc = _HEADER.unpack_from(data, index)
    if magic != MAGIC or not MIN_BODY_BYTES <= length <= MAX_BODY_BYTES:
        return Stop.DAMAGED, None
    end = body_at + length
    if end > len(data):
        return Stop.INCOMPLETE, None
    body = data[body_at:end]
    if crc32(body, crc32(_PLACE.pack(base + index, length), seed)) != crc:
        return Stop.DAMAGED, None
    spooled_at, key_length = _BODY.unpack_from(body)
    value_at = _BODY.size + key_length
    return Stop.ENOUGH, Frame(base + end, spooled_at, body[_BODY.size : value_at], body[value_at:])


def find_frame(data: bytes, *, position: int, seed: int) -> int | None:
    """The position of the first frame after the head of `data` that verifies; None without one."""
    index = data.find(MAGIC, 1)
    while index >= 0:
        if _frame_at(data, index, position, seed)[1] is not None:
            return position + index
        index = data.find(MAGIC, index + 1)
    return None


def is_torn(data: bytes, *, position: int, seed: int) -> bool:
    """Whether the last bytes of a crashed emitter are a write that didn't finish.

    That is the beginning of one frame, or blocks that the file system had not filled yet. Whoever
    handed that usage in was never told that it is accepted.
    """
    stop, _frame = _frame_at(data, 0, position, seed)
    return stop is Stop.INCOMPLETE or not data.strip(b"\0")
