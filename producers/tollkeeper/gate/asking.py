"""What asking Redis has in common, in threads and in asyncio: words of a command, and what an error means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from tollkeeper.errors import BrokenInvariant, GateUnavailable, TollkeeperError
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.keys import organization_keys, primary_prefix, tag_where
from tollkeeper.gate.library import Library

A = TypeVar("A")
Numbered = tuple[int, Call[Any]]
RedisFailure = RedisError | RedisClusterException
REDIS_FAILURES = (RedisError, RedisClusterException)
"""Of a cluster that can't be reached, or lacks a slot, redis-py says so by an error of another family."""

TIMEOUT_S = 1.0
"""Waiting for an answer; half of the default lease, so that a late grant isn't taken for a good one."""
CLUSTER = "+cluster://"
AT_ONCE = 500
"""Calls in one pipeline: each side has to keep that many answers in memory."""


def first_node(url: str) -> str | None:
    """The plain URL of the node that a cluster's URL names; None where it names no cluster."""
    scheme, is_cluster, rest = url.partition(CLUSTER)
    return f"{scheme}://{rest}" if is_cluster else None


def command_of(library: Library, call: Call[Any]) -> tuple[str | int, ...]:
    """The words of the command."""
    command = "FCALL_RO" if call.only_reads else "FCALL"
    return (
        command,
        f"{library.name}_{call.function}",
        len(call.keys),
        *call.keys,
        *call.arguments,
    )


def bell_key(tag: str) -> str:
    """The list that wakes who waits for organizations to be warmed."""
    return f"{primary_prefix(tag)}:bell"


def tag_in(slots: Mapping[int, Sequence[object]], organization: str) -> str:
    """The tag of the cluster's primary that has this organization, by a client's table of slots."""
    state, _ = organization_keys(organization)
    try:
        primary = slots[key_slot(state.encode())][0]
        return tag_where(lambda tag: slots[key_slot(tag.encode())][0] == primary)
    except (KeyError, IndexError) as error:
        raise GateUnavailable(f"the cluster has no primary for {organization}") from error


def tag_of_primary(slots: Mapping[int, Sequence[object]], primary: object) -> str:
    """The tag of this one. GateUnavailable: the cluster is being changed."""
    try:
        if any(nodes[0] == primary for nodes in slots.values()):  # else no tag would ever be found
            return tag_where(lambda tag: slots[key_slot(tag.encode())][0] == primary)
    except (KeyError, IndexError) as error:
        raise GateUnavailable("a slot of the cluster has no primary") from error
    raise GateUnavailable("a primary of the cluster has no slots")


def needs_library(error: RedisFailure) -> bool:
    """Whether the server doesn't have the functions: it is new, or lost them."""
    return isinstance(error, ResponseError) and "Function not found" in str(error)


def alone_may_do(error: RedisFailure) -> bool:
    """Whether a call of a pipeline may be answered when it is asked alone, which loads and redirects."""
    return needs_library(error) or isinstance(error, AskError | TryAgainError)


def is_loaded(error: RedisFailure) -> bool:
    """Whether the functions were loaded before, and are the same: the name is made of the content."""
    return isinstance(error, ResponseError) and "already exists" in str(error)


def unavailable(error: RedisFailure) -> GateUnavailable | BrokenInvariant:
    """What an error of redis-py is to who asked."""
    text = str(error)
    # A key that isn't local any more has moved with its slot to another primary: not the function's fault.
    if text.startswith("user_function") and "non local key" not in text:
        return BrokenInvariant(f"a function of the gate broke: {text}")
    if isinstance(error, AuthenticationError):
        text = (
            f"TOLLKEEPER_REDIS lacks the right password, as in redis://:PASSWORD@HOST:PORT ({text})"
        )
    return GateUnavailable(f"the gate can't be asked: {text or type(error).__name__}")


def decoded(call: Call[A], raw: object) -> A | TollkeeperError:
    """The answer of one call among many, or its own error."""
    if isinstance(raw, TollkeeperError):
        return raw
    try:
        return call.decode(raw)
    except TollkeeperError as error:
        return error


def in_parts(calls: Sequence[Numbered]) -> Iterator[list[Numbered]]:
    """As many as go into one pipeline, until none is left."""
    rest = iter(calls)
    while part := [*islice(rest, AT_ONCE)]:
        yield part
