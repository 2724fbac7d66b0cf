"""Reader of the Mooncake traces: JSON lines whose block hashes show what a prompt cache would do.

Source: Mooncake, FAST'25 (Apache-2.0). `timestamp` is in milliseconds since the trace's begin, which it
doesn't name: ANCHOR stands for it. `hash_ids` names the prompt's blocks of 512 tokens, the last of which
may be shorter; a block's id covers everything before it too, so equal ids mean equal prefixes.

How `input_length` splits, exactly and without remainder:

- cache read: the leading blocks that were seen before in this file, 512 tokens each, the last block of
  the prompt only as long as it is;
- cache write (5 minutes): the full blocks after them. From the first unseen block on all are new, since
  a prefix cache can't go on after a miss;
- uncached input: the rest, which is the last block where it is shorter than 512 and new.

The cache is one for the whole file, never forgets, and takes a short last block as seen too when the
same prompt comes again. That is what the trace's authors measured as the best that a cache could do.
"""

from __future__ import annotations

from collections.abc import Iterator

from tollkeeper.errors import InvalidInput
from tollkeeper.events.rules import Rule, instant, integer
from tollkeeper.events.usage import MAX_COUNT
from tollkeeper.workloads.call import Call
from tollkeeper.workloads.lines import ByteStream, json_object, numbered_lines
from tollkeeper.workloads.rejected import RejectedLine, rejected

BLOCK_TOKENS = 512
ANCHOR = 1_717_200_000_000_000
"""2024-06-01T00:00:00Z, where a trace that keeps its time begins."""

MAX_BLOCKS = 5_000_000
"""Block ids remembered: a bound on memory. The conversation trace has 183,000."""

_MICROS_PER_MILLI = 1_000
_count = integer(0, MAX_COUNT)
_milliseconds = integer(0, 100 * 366 * 86_400_000)
_block_id = integer(0, 2**63 - 1)


def read_mooncake(stream: ByteStream) -> Iterator[Call | RejectedLine]:
    """Each line as a call or as rejected; a rejected line leaves nothing in the cache."""
    cache: set[int] = set()
    for line in numbered_lines(stream):
        if isinstance(line, RejectedLine):
            yield line
            continue
        try:
            call = _parse(line, line.number, cache)
        except InvalidInput as error:
            yield rejected(line.number, error)
            continue
        yield call


def _parse(text: str, number: int, cache: set[int]) -> Call:
    values = json_object(text)
    occurred_at = ANCHOR + _MICROS_PER_MILLI * _number(values, "timestamp", _milliseconds)
    instant("timestamp", occurred_at)
    prompt = _number(values, "input_length", _count)
    output = _number(values, "output_length", _count)
    blocks = _blocks(values, prompt)
    if len(cache) + len(blocks) > MAX_BLOCKS:
        raise InvalidInput("hash_ids", f"must name at most {MAX_BLOCKS} blocks in the whole file")
    read = min(BLOCK_TOKENS * _leading(blocks, cache), prompt)
    write = max(prompt - prompt % BLOCK_TOKENS - read, 0)
    cache.update(blocks)
    return Call(
        line=number,
        occurred_at=occurred_at,
        input_tokens=prompt - read - write,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_5m_tokens=write,
    )


def _number(values: dict[str, object], key: str, rule: Rule) -> int:
    value = _given(values, key)
    rule(key, value)
    assert isinstance(value, int)  # what the rule has just made sure of
    return value


def _blocks(values: dict[str, object], prompt_tokens: int) -> list[int]:
    blocks = _given(values, "hash_ids")
    if type(blocks) is not list:
        raise InvalidInput("hash_ids", "must be a list of block ids")
    wanted = -(-prompt_tokens // BLOCK_TOKENS)
    if len(blocks) != wanted:
        raise InvalidInput(
            "hash_ids", f"must name {wanted} blocks of {BLOCK_TOKENS} tokens, not {len(blocks)}"
        )
    for place, block in enumerate(blocks):
        _block_id(f"hash_ids[{place}]", block)
    return blocks


def _given(values: dict[str, object], key: str) -> object:
    if key not in values:
        raise InvalidInput(key, "must be given")
    return values[key]


def _leading(blocks: list[int], cache: set[int]) -> int:
    for place, block in enumerate(blocks):
        if block not in cache:
            return place
    return len(blocks)
