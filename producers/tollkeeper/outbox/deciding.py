"""Deciding a command once, whatever happens: one transaction for its events and its answer.

The same id and content gives the first answer again, other content is refused; a refusal isn't kept,
since its cause may be gone next time (RULES R23). Then the events are brought to the log: only when it
has acknowledged them is the command *done*; until then it is *pending*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b

import msgspec
from sqlalchemy import Connection, Engine

from tollkeeper.errors import LogUnavailable, StoreUnavailable
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.failpoints import failpoint
from tollkeeper.log.port import Log
from tollkeeper.money.instants import format_instant
from tollkeeper.outbox.database import reading, writing
from tollkeeper.outbox.relay import Relay
from tollkeeper.outbox.store import (
    AnswerOfOther,
    Decided,
    VersionTaken,
    append_decided,
    count_waiting,
    remember_answer,
    remembered_answer,
)

MAX_LOST_RACES = 50
"""How often a command is decided anew because another one was faster."""
MAX_RELAY_ROUNDS = 10_000
"""How many rounds of the relay a caller waits for its own events."""


class Done(msgspec.Struct, frozen=True):
    """The command's events stand on the log. `is_repeated`: this is the first answer again."""

    answer: dict[str, object]
    is_repeated: bool = False


class Pending(msgspec.Struct, frozen=True):
    """The command was decided, but the log hasn't acknowledged it: ask again with the same id."""

    answer: dict[str, object]
    cause: str


Outcome = Done | Pending | Refusal


class Decision(msgspec.Struct, frozen=True):
    """What a command leads to: events, each on its stream, and the answer to the caller.

    `is_repeated`: it was decided before, which only its events still tell (SQL was lost meanwhile).
    """

    events: Sequence[Decided]
    answer: dict[str, object]
    is_repeated: bool = False


class Ask(msgspec.Struct, frozen=True):
    """One command as the desk sees it: its id is unique within `scope`, its content is hashed.

    `stream_prefix` names the one stream that its events go to, or ends in `/` for several.
    """

    scope: str
    command_id: str
    content: object
    stream_prefix: str
    log_partition: int | None = None

    @property
    def content_hash(self) -> bytes:
        """Tells a retry from another command under the same id."""
        return blake2b(msgspec.json.encode(self.content, order="sorted"), digest_size=16).digest()


class CommandDesk:
    """Where commands are decided; one for organizations, prices and quarantine alike.

    `behind(partition)` says how many records the fold must still read before commands may be decided
    after a restore of SQL; 0 when they may.
    """

    def __init__(
        self,
        engine: Engine,
        log: Log,
        *,
        behind: Callable[[int], int],
        check_log: Callable[[], None],
        clock: Callable[[], int],
        relay_timeout_s: float = 10.0,
    ) -> None:
        self.engine = engine
        self.log = log
        self.clock = clock
        self._behind = behind
        self._check_log = check_log
        self._relay = Relay(engine, log, check_log=check_log)
        self._relay_timeout_s = relay_timeout_s

    def handle(self, ask: Ask, decide: Callable[[Connection, int], Decision | Refusal]) -> Outcome:
        """Decide, write and relay; `decide(connection, now)` runs inside the writing transaction.

        Raises StoreUnavailable while SQL was set back and the fold hasn't caught up.
        """
        self._check_not_set_back(ask)
        for _ in range(MAX_LOST_RACES):
            try:
                found = self._decide_once(ask, decide)
            except VersionTaken:
                continue
            failpoint("command.after_commit")
            if isinstance(found, Refusal):
                return found
            answer, is_repeated = found
            with _naming(ask):
                return self._bring_to_log(ask, answer, is_repeated)
        raise StoreUnavailable(
            f"{ask.scope}: {MAX_LOST_RACES} other commands were faster each time; try again"
        )

    def count_behind(self, partitions: Iterable[int]) -> int:
        """How many records the fold must read before commands are decided again; 0 when they may be.

        Raises LogDiverged when this isn't the log to which the database's events belong.
        """
        self._check_log()
        return sum(self._behind(partition) for partition in partitions)

    def _decide_once(
        self, ask: Ask, decide: Callable[[Connection, int], Decision | Refusal]
    ) -> tuple[dict[str, object], bool] | Refusal:
        now = self.clock()
        with ExitStack() as unheard, writing(self.engine) as connection:
            known = remembered_answer(connection, ask.scope, ask.command_id, ask.content_hash)
            if isinstance(known, AnswerOfOther):
                return used_before(ask.command_id, known.decided_at)
            if known is not None:
                return known, True
            decision = decide(connection, now)
            if isinstance(decision, Refusal):
                return decision
            append_decided(connection, decision.events)
            remember_answer(
                connection,
                ask.scope,
                ask.command_id,
                ask.content_hash,
                decision.answer,
                decided_at=now,
            )
            unheard.enter_context(_naming(ask))
            failpoint("command.before_commit")
        return decision.answer, decision.is_repeated

    def _bring_to_log(self, ask: Ask, answer: dict[str, object], is_repeated: bool) -> Outcome:
        try:
            for _ in range(MAX_RELAY_ROUNDS):
                if self._count_waiting(ask) == 0:
                    return Done(answer, is_repeated)
                self._relay.run_once(ask.stream_prefix, timeout_s=self._relay_timeout_s)
        except LogUnavailable as away:
            return Pending(answer, str(away))
        return Pending(answer, "other events of the same stream wait before it")

    def _count_waiting(self, ask: Ask) -> int:
        with reading(self.engine) as connection:
            return count_waiting(
                connection, stream_prefix=ask.stream_prefix, command_id=ask.command_id
            )

    def _check_not_set_back(self, ask: Ask) -> None:
        everywhere = range(self.log.partition_count)
        behind = self.count_behind(everywhere if ask.log_partition is None else [ask.log_partition])
        if behind:
            raise StoreUnavailable(
                f"the database was set back to an older state: {behind} records must be folded before "
                "commands are decided again; run `tollkeeper consume --until-caught-up`"
            )


@contextmanager
def _naming(ask: Ask) -> Iterator[None]:
    """From where a command may have been decided: who isn't told so must be able to ask again."""
    try:
        yield
    except StoreUnavailable as away:
        raise StoreUnavailable(
            f"{away}; the command may have been carried out: to have it done once, ask again with "
            f"--idempotency-key {ask.command_id}"
        ) from away


def used_before(command_id: str, decided_at: int) -> Refusal:
    """The refusal of a command id that stands for another content."""
    return Refusal(
        (
            Reason(
                reason="idempotency_key",
                rule="one key, one content",
                message=(
                    f"{command_id} was used at {format_instant(decided_at)} for a command "
                    "with other content"
                ),
                who_can_lift=(),
                next_step="use a new key, or repeat the first command unchanged",
            ),
        )
    )
