"""Asks the gate's functions in one Redis or Valkey, single or cluster, over redis-py.

    gate = GateFunctions(connect("redis://localhost"))
    gate.load()
    answer = gate.run(encoding.hold("acme", Request(1_000, "ann", "web"), hold_id=…, emitter=…, epoch=7))

An answer is a value, also when it is no. What can't be asked raises GateUnavailable: then nobody knows
whether the function ran, and the same call may be made again, since each of them is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from tollkeeper.errors import GateUnavailable, TollkeeperError
from tollkeeper.gate.asking import (
    REDIS_FAILURES,
    TIMEOUT_S,
    Numbered,
    alone_may_do,
    bell_key,
    command_of,
    decoded,
    first_node,
    in_parts,
    is_loaded,
    needs_library,
    tag_in,
    tag_of_primary,
    unavailable,
)
from tollkeeper.gate.commands import Incarnation
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.keys import SINGLE, epoch_key
from tollkeeper.gate.library import Library, Versioned
from tollkeeper.gate.trusting import connect_in_cluster, connect_single, learning_the_shape

A = TypeVar("A")
Client = Redis | RedisCluster

LONGEST_WAIT_S = TIMEOUT_S / 2
"""At the bell: well before an answer is taken for lost."""


def connect(url: str, *, timeout_s: float = TIMEOUT_S, trusted_only: bool = False) -> Client:
    """A client of `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `rediss+cluster://`; it connects
    when it is used.

    `trusted_only` is for who holds: connections to a server that its epoch isn't about are refused, see
    `trusting`.
    """
    # One try more, for a connection that the server had closed meanwhile; never after a timeout.
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    if (plain := first_node(url)) is not None:
        try:
            with learning_the_shape():
                return RedisCluster.from_url(
                    plain,
                    socket_timeout=timeout_s,
                    socket_connect_timeout=timeout_s,
                    retry=retry,
                    redis_connect_func=connect_in_cluster if trusted_only else None,
                )
        except REDIS_FAILURES as error:
            raise GateUnavailable(f"the gate's cluster can't be reached: {error}") from error
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=retry,
        redis_connect_func=connect_single if trusted_only else None,
    )


class GateFunctions(Versioned):
    """One version of the functions, in one Redis. For threads: each call takes a connection of its own."""

    def __init__(self, client: Client, library: Library | None = None) -> None:
        super().__init__(library)
        self._client = client

    def tag_of(self, organization: str) -> str:
        """The tag of the primary that has this organization, as far as this client knows the cluster."""
        if isinstance(self._client, Redis):
            return SINGLE
        return tag_in(self._client.nodes_manager.slots_cache, organization)

    def tags(self) -> tuple[str, ...]:
        """The tags of all primaries, as far as this client knows the cluster."""
        if isinstance(self._client, Redis):
            return (SINGLE,)
        slots = self._client.nodes_manager.slots_cache
        primaries: Callable[[], Iterable[object]] = self._client.get_primaries
        return tuple(sorted(tag_of_primary(slots, primary) for primary in primaries()))

    def load(self) -> None:
        """Have Redis know the functions; on every primary of a cluster. Changes nothing that decides."""
        try:
            self._client.function_load(self._library.text)
        except REDIS_FAILURES as error:
            if not is_loaded(error):
                raise unavailable(error) from error

    def run(self, call: Call[A]) -> A:
        """The function's answer. A server that lost the functions, or is new, is given them first."""
        try:
            return call.decode(self._ask(call))
        except REDIS_FAILURES as error:
            if not needs_library(error):
                raise unavailable(error) from error
        self.load()
        try:
            return call.decode(self._ask(call))
        except REDIS_FAILURES as error:
            raise unavailable(error) from error

    def run_many(self, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
        """Each call's answer or error, in their order; all sent before the first answer is read.

        They are independent: one that can't be asked, or is refused for its arguments, stops no other.
        """
        answers: dict[int, A | TollkeeperError] = {}
        for node, numbered in self._by_node(calls).items():
            for part in in_parts(numbered):
                for (at, call), raw in zip(part, self._ask_many(node, part), strict=True):
                    answers[at] = self._settled(call, raw)
        return [answers[at] for at in range(len(calls))]

    def wait_until_asked(self, timeout_s: float, *, tag: str = SINGLE) -> bool:
        """Wait until a `hold` asks for an organization to be warmed; False after `timeout_s` at most.

        Never longer than LONGEST_WAIT_S. Of several who wait one is woken.
        """
        seconds = min(timeout_s, LONGEST_WAIT_S)
        wait: Callable[..., object] = self._client.blpop
        try:
            return wait([bell_key(tag)], seconds) is not None
        except REDIS_FAILURES as error:
            raise unavailable(error) from error

    def incarnation(self, *, tag: str = SINGLE) -> Incarnation:
        """Which run of which history this server is; of a cluster, the one that has the tag's slot."""
        found = self._info(tag, "server", "replication")
        return Incarnation(str(found["run_id"]), str(found["master_replid"]))

    def eviction_policy(self, *, tag: str = SINGLE) -> str:
        """What the server does when its memory is full; only `noeviction` forgets no hold."""
        return str(self._info(tag, "memory").get("maxmemory_policy", "unknown"))

    def reconnect(self) -> None:
        """Have what is asked next go over new connections, to whichever server the address leads to now.

        A server that was replaced may well live on, and nobody else ends the connections to it. The nodes
        of a cluster know by themselves when they are cut off, and answer so.
        """
        if isinstance(self._client, Redis):
            pool = self._client.connection_pool
            pool.update_active_connections_for_reconnect()  # each after its answer
            pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _info(self, tag: str, *sections: str) -> dict[str, Any]:
        """Of the server that has the tag's slot."""
        client = self._client
        try:
            if isinstance(client, RedisCluster):
                node_of: Callable[[str], Any] = client.get_node_from_key
                client = client.get_redis_connection(node_of(epoch_key(tag)))
            info: Callable[[str], dict[str, Any]] = client.info
            return {name: value for one in sections for name, value in info(one).items()}
        except REDIS_FAILURES as error:
            raise unavailable(error) from error

    def _ask(self, call: Call[Any]) -> object:
        words = command_of(self._library, call)
        ask: Callable[..., object] = self._client.execute_command
        if isinstance(self._client, Redis):
            return ask(*words)
        # Left to itself, redis-py asks some other server first where the keys of a function are.
        node_of: Callable[[str], object] = self._client.get_node_from_key
        return ask(*words, target_nodes=node_of(call.keys[0]))

    def _by_node(self, calls: Sequence[Call[Any]]) -> dict[Any, list[Numbered]]:
        """The calls, each with its place, by the node that has their keys, or why none has them."""
        nodes: dict[Any, list[Numbered]] = {}
        for at, call in enumerate(calls):
            nodes.setdefault(self._node_of(call), []).append((at, call))
        return nodes

    def _node_of(self, call: Call[Any]) -> Any:
        if isinstance(self._client, Redis):
            return None
        node_of: Callable[[str], object] = self._client.get_node_from_key
        try:
            return node_of(call.keys[0])
        except REDIS_FAILURES as error:
            return unavailable(error)

    def _ask_many(self, node: Any, part: list[Numbered]) -> list[Any]:
        if isinstance(node, TollkeeperError):
            return [node] * len(part)
        client = self._client
        if isinstance(client, RedisCluster):
            client = client.get_redis_connection(node)
        pipeline = client.pipeline(transaction=False)
        add: Callable[..., object] = pipeline.execute_command
        for _, call in part:
            add(*command_of(self._library, call))
        try:
            return pipeline.execute(raise_on_error=False)
        except REDIS_FAILURES as error:
            return [error] * len(part)

    def _settled(self, call: Call[A], raw: object) -> A | TollkeeperError:
        """Asked again alone where that helps: for want of the functions, or of the keys at that node."""
        if not isinstance(raw, REDIS_FAILURES):
            return decoded(call, raw)
        if not alone_may_do(raw):
            return unavailable(raw)
        try:
            return self.run(call)
        except TollkeeperError as error:
            return error
