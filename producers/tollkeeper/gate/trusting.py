"""Each new connection is to the server that its epoch key is about, or it fails.

A server that is killed and comes back from its journal, or from an older copy of it, or a replica that is
promoted, has the epoch key as it was, open and perhaps still leased; and it may lack the last holds. What it
granted then would be money that is held already. It can't do so on a connection that stood before, since
that broke; so whoever holds compares, on each new one, the run id and the replication id that the server
says it has with those in the key. No key, or another one's, is as good as no server, until the consumers
have begun a new epoch. Who tends the epochs connects without it.

A primary that becomes a replica and then a primary again keeps its connections: `touch` finds that.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from tollkeeper.gate.keys import SINGLE, epoch_key, tag_where

Connection = Any
"""Of redis-py, in threads or in asyncio; most of it is untyped."""
Words = tuple[str, ...]
Dialogue = Generator[list[Words], list[Any] | None, bool]
"""Yields commands, is sent their answers; in the end, whether the connection may be kept."""

_RUN_ID = re.compile(r"^run_id:(\w+)", re.MULTILINE)
_REPLICATION_ID = re.compile(r"^master_replid:(\w+)", re.MULTILINE)


_learning: ContextVar[bool] = ContextVar("learning", default=False)


class Distrusted(RedisError):
    """The server isn't the one that its epoch key is about, or has none."""


def connect_single(connection: Connection) -> None:
    """What redis-py does with a new connection to the only server."""
    connection.on_connect()
    _converse(connection, _compare(SINGLE))


def connect_in_cluster(connection: Connection) -> None:
    """What redis-py does with a new connection to a cluster's node, after its own."""
    _converse(connection, _compare_in_cluster())


async def connect_single_async(connection: Connection) -> None:
    """The same in asyncio."""
    await connection.on_connect()
    await _converse_async(connection, _compare(SINGLE))


async def connect_in_cluster_async(connection: Connection) -> None:
    """The same in asyncio."""
    await connection.on_connect()
    await _converse_async(connection, _compare_in_cluster())


@contextmanager
def learning_the_shape() -> Iterator[None]:
    """Connections to a cluster that are made within serve for one command, and for that they aren't compared.

    To learn the cluster's shape redis-py asks any node, which may be the one that isn't trusted now.
    """
    token = _learning.set(True)
    try:
        yield
    finally:
        _learning.reset(token)


def _compare(tag: str) -> Dialogue:
    server, replication, key = _all(
        (
            yield [
                ("INFO", "server"),
                ("INFO", "replication"),
                ("HMGET", epoch_key(tag), "run_id", "replication_id"),
            ]
        )
    )
    here = [_found(_RUN_ID, server), _found(_REPLICATION_ID, replication)]
    trusted = [_text(word) for word in key]
    if trusted == [None, None]:
        raise Distrusted(
            "no consumer has opened it yet, as `tollkeeper run` does: it waits for a new epoch"
        )
    if here != trusted:
        raise Distrusted(
            f"it is run {here[0]} of history {here[1]}, and its epoch is about {trusted[0]} of {trusted[1]}: "
            "it was restarted, restored or promoted, and waits for a new epoch"
        )
    return True


def _compare_in_cluster() -> Dialogue:
    if _learning.get():
        return False
    slots, me = _all((yield [("CLUSTER", "SLOTS"), ("CLUSTER", "MYID")]))
    tag = _tag_of(slots, _text(me))
    if tag is None:
        return False
    return (yield from _compare(tag))


def _tag_of(slots: Sequence[Any], me: str) -> str | None:
    """The tag of this node, by its own table of slots; None for a replica, and for one without slots."""
    ranges = [(first, last) for first, last, primary, *_ in slots if _text(primary[2]) == me]
    if not ranges:
        return None
    return tag_where(lambda tag: any(a <= key_slot(tag.encode()) <= b for a, b in ranges))


def _converse(connection: Connection, dialogue: Dialogue) -> None:
    answers: list[Any] | None = None
    try:
        while True:
            commands = dialogue.send(answers)
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers = [connection.read_response() for _ in commands]
    except StopIteration as end:
        _after(connection, end.value)


async def _converse_async(connection: Connection, dialogue: Dialogue) -> None:
    answers: list[Any] | None = None
    try:
        while True:
            commands = dialogue.send(answers)
            packed = connection.pack_commands(commands)
            await connection.send_packed_command(packed, check_health=False)
            answers = [await connection.read_response() for _ in commands]
    except StopIteration as end:
        _after(connection, end.value)


def _after(connection: Connection, is_kept: bool) -> None:
    # Without slots a node decides nothing now, but it may be promoted.
    if not is_kept:
        connection.mark_for_reconnect()


def _all(answers: list[Any] | None) -> list[Any]:
    assert answers is not None
    return answers


def _found(pattern: re.Pattern[str], told: object) -> str | None:
    match = pattern.search(_text(told) or "")
    return match and match[1]


def _text(word: Any) -> Any:
    return word.decode() if isinstance(word, bytes) else word
