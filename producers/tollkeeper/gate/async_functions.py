"""Asks the gate's functions over redis.asyncio: the same calls and answers as `functions`, awaited.

A client belongs to the event loop in which it was used first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from tollkeeper.errors import TollkeeperError
from tollkeeper.gate.asking import (
    REDIS_FAILURES,
    TIMEOUT_S,
    Numbered,
    alone_may_do,
    command_of,
    decoded,
    first_node,
    in_parts,
    is_loaded,
    needs_library,
    tag_in,
    unavailable,
)
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.keys import SINGLE
from tollkeeper.gate.library import Library, Versioned
from tollkeeper.gate.trusting import (
    connect_in_cluster_async,
    connect_single_async,
    learning_the_shape,
)

A = TypeVar("A")
AsyncClient = Redis | RedisCluster


def connect_async(
    url: str, *, timeout_s: float = TIMEOUT_S, trusted_only: bool = False
) -> AsyncClient:
    """A client of the same URLs as `functions.connect` takes; it connects when it is used."""
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    if (plain := first_node(url)) is not None:
        cluster = _Cluster.from_url(
            plain, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry
        )
        assert isinstance(cluster, _Cluster)
        if trusted_only:
            cluster.on_each_connection(connect_in_cluster_async)
        return cluster
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=retry,
        redis_connect_func=connect_single_async if trusted_only else None,
    )


class AsyncGateFunctions(Versioned):
    """One version of the functions, in one Redis. Cancelled while it waits, a call may have run."""

    def __init__(self, client: AsyncClient, library: Library | None = None) -> None:
        super().__init__(library)
        self._client = client
        self._reconnects = False

    def tag_of(self, organization: str) -> str:
        """The tag of the primary that has this organization; a cluster is known after `load` or a `run`."""
        if isinstance(self._client, Redis):
            return SINGLE
        return tag_in(self._client.nodes_manager.slots_cache, organization)

    async def load(self) -> None:
        """Have Redis know the functions; on every primary of a cluster. Changes nothing that decides."""
        try:
            await self._client.function_load(self._library.text)
        except REDIS_FAILURES as error:
            if not is_loaded(error):
                raise unavailable(error) from error

    async def run(self, call: Call[A]) -> A:
        """The function's answer. A server that lost the functions, or is new, is given them first."""
        try:
            return call.decode(await self._ask(call))
        except REDIS_FAILURES as error:
            if not needs_library(error):
                raise unavailable(error) from error
        await self.load()
        try:
            return call.decode(await self._ask(call))
        except REDIS_FAILURES as error:
            raise unavailable(error) from error

    async def run_many(self, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
        """Each call's answer or error, in their order; all sent before the first answer is read.

        They are independent: one that can't be asked, or is refused for its arguments, stops no other.
        """
        answers: dict[int, A | TollkeeperError] = {}

        async def ask_node(node: Any, numbered: list[Numbered]) -> None:
            for part in in_parts(numbered):
                raws = await self._ask_many(node, part)
                for (at, call), raw in zip(part, raws, strict=True):
                    answers[at] = await self._settled(call, raw)

        by_node = await self._by_node(calls)
        await asyncio.gather(*(ask_node(node, numbered) for node, numbered in by_node.items()))
        return [answers[at] for at in range(len(calls))]

    def reconnect(self) -> None:
        """As `GateFunctions.reconnect`, from any thread; done by the loop before it asks next."""
        self._reconnects = True

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _renew_connections(self) -> None:
        if not self._reconnects or not isinstance(self._client, Redis):
            return
        self._reconnects = False
        pool = self._client.connection_pool
        mark_used: Callable[[], Awaitable[None]] = pool.update_active_connections_for_reconnect
        await mark_used()  # each ends after its answer
        await pool.disconnect(inuse_connections=False)

    async def _ask(self, call: Call[Any]) -> object:
        await self._renew_connections()
        words = command_of(self._library, call)
        ask: Callable[..., Awaitable[object]] = self._client.execute_command
        if isinstance(self._client, Redis):
            return await ask(*words)
        try:
            return await ask(*words, target_nodes=await self._node_of(self._client, call))
        except AttributeError as error:
            raise _closed_by_another(error) from error

    async def _node_of(self, client: RedisCluster, call: Call[Any]) -> Any:
        await client.initialize()
        node_of: Callable[[str], object] = client.get_node_from_key
        return node_of(call.keys[0])

    async def _by_node(self, calls: Sequence[Call[Any]]) -> dict[Any, list[Numbered]]:
        """The calls, each with its place, by the node that has their keys; None is the only or no one."""
        nodes: dict[Any, list[Numbered]] = {}
        for at, call in enumerate(calls):
            node = None
            if isinstance(self._client, RedisCluster):
                try:
                    node = await self._node_of(self._client, call)
                except REDIS_FAILURES as error:
                    node = unavailable(error)
            nodes.setdefault(node, []).append((at, call))
        return nodes

    async def _ask_many(self, node: Any, part: list[Numbered]) -> Sequence[object]:
        if isinstance(node, TollkeeperError):
            return [node] * len(part)
        await self._renew_connections()
        pipeline = self._client.pipeline(transaction=False)
        target = {} if node is None else {"target_nodes": node}
        add: Callable[..., object] = pipeline.execute_command
        for _, call in part:
            add(*command_of(self._library, call), **target)
        try:
            return await pipeline.execute(raise_on_error=False)
        except AttributeError as error:
            return [_closed_by_another(error)] * len(part)
        except REDIS_FAILURES as error:
            return [error] * len(part)

    async def _settled(self, call: Call[A], raw: object) -> A | TollkeeperError:
        """Asked again alone where that helps: for want of the functions, or of the keys at that node."""
        if not isinstance(raw, REDIS_FAILURES):
            return decoded(call, raw)
        if not alone_may_do(raw):
            return unavailable(raw)
        try:
            return await self.run(call)
        except TollkeeperError as error:
            return error


def _closed_by_another(error: AttributeError) -> RedisConnectionError:
    """A cluster that is down has redis-py close the connections of all tasks, and forget the streams of
    those that are just being made."""
    return RedisConnectionError(f"the connection was closed while it was made: {error}")


class _Cluster(RedisCluster):
    def on_each_connection(self, done: Callable[..., Awaitable[None]]) -> None:
        """The constructor takes no such function; nodes that are found later take the cluster's settings."""
        startup = self.nodes_manager.startup_nodes.values()
        for settings in (self.connection_kwargs, *(node.connection_kwargs for node in startup)):
            settings["redis_connect_func"] = done

    async def initialize(self, *arguments: Any, **named: Any) -> RedisCluster:
        """As redis-py does it whenever a node was lost."""
        with learning_the_shape():
            return await super().initialize(*arguments, **named)
