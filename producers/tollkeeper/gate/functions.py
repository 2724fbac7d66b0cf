"""Asks the gate's functions in one Redis or Valkey, single or cluster, over redis-py.

    gate = GateFunctions(connect("redis://localhost"))
    gate.load()
    answer = gate.run(encoding.hold("acme", Request(1_000, "ann", "web"), hold_id=…, emitter=…, epoch=7))

An answer is a value, also when it is no. What can't be asked raises GateUnavailable: then nobody knows
whether the function ran, and the same call may be made again, since each of them is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from tollkeeper.errors import BrokenInvariant, GateUnavailable
from tollkeeper.gate.commands import Incarnation
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.keys import SINGLE, organization_keys, tag_where
from tollkeeper.gate.library import Library, current_library

A = TypeVar("A")
Client = Redis | RedisCluster

TIMEOUT_S = 1.0
"""Waiting for an answer; half of the default lease, so that a late grant isn't taken for a good one."""
CLUSTER = "redis+cluster://"


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Client:
    """A client of `redis://`, `rediss://`, `unix://` or `redis+cluster://`; it connects when it is used."""
    # One try more, for a connection that the server had closed meanwhile; never after a timeout.
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    if url.startswith(CLUSTER):
        plain = "redis://" + url.removeprefix(CLUSTER)
        try:
            return RedisCluster.from_url(plain, socket_timeout=timeout_s, retry=retry)
        except RedisError as error:
            raise GateUnavailable(f"the gate's cluster can't be reached: {error}") from error
    return Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry
    )


class GateFunctions:
    """One version of the functions, in one Redis."""

    def __init__(self, client: Client, library: Library | None = None) -> None:
        self._client = client
        self._library = library or current_library()

    @property
    def library(self) -> str:
        """The version's name."""
        return self._library.name

    def tag_of(self, organization: str) -> str:
        """The tag of the primary that has this organization, as far as this client knows the cluster."""
        if isinstance(self._client, Redis):
            return SINGLE
        slots = self._client.nodes_manager.slots_cache
        state, _, _ = organization_keys(organization)
        try:
            primary = slots[key_slot(state.encode())][0]
            return tag_where(lambda tag: slots[key_slot(tag.encode())][0] == primary)
        except (KeyError, IndexError) as error:
            raise GateUnavailable(f"the cluster has no primary for {organization}") from error

    def load(self) -> None:
        """Have Redis know the functions; on every primary of a cluster. Changes nothing that decides."""
        try:
            self._client.function_load(self._library.text)
        except ResponseError as error:
            # Loaded before, and the same: the name is made of the content.
            if "already exists" not in str(error):
                raise _unavailable(error) from error
        except RedisError as error:
            raise _unavailable(error) from error

    def run(self, call: Call[A]) -> A:
        """The function's answer. A server that lost the functions, or is new, is given them first."""
        try:
            return call.decode(self._ask(call))
        except ResponseError as error:
            if "Function not found" not in str(error):
                raise _unavailable(error) from error
        except RedisError as error:
            raise _unavailable(error) from error
        self.load()
        try:
            return call.decode(self._ask(call))
        except RedisError as error:
            raise _unavailable(error) from error

    def incarnation(self) -> Incarnation:
        """Which run of which history this server is. Not for a cluster: each of its servers is one."""
        try:
            found = {**self._client.info("server"), **self._client.info("replication")}
        except RedisError as error:
            raise _unavailable(error) from error
        return Incarnation(str(found["run_id"]), str(found["master_replid"]))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, call: Call[A]) -> object:
        command = "FCALL_RO" if call.only_reads else "FCALL"
        name = f"{self._library.name}_{call.function}"
        words = (command, name, len(call.keys), *call.keys, *call.arguments)
        ask: Callable[..., object] = self._client.execute_command
        if isinstance(self._client, Redis):
            return ask(*words)
        # Left to itself, redis-py asks some other server first where the keys of a function are.
        node_of: Callable[[str], object] = self._client.get_node_from_key
        return ask(*words, target_nodes=node_of(call.keys[0]))


def _unavailable(error: RedisError) -> GateUnavailable | BrokenInvariant:
    text = str(error)
    # A key that isn't local any more has moved with its slot to another primary: not the function's fault.
    if text.startswith("user_function") and "non local key" not in text:
        return BrokenInvariant(f"a function of the gate broke: {text}")
    return GateUnavailable(f"the gate can't be asked: {text or type(error).__name__}")
