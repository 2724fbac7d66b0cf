"""Ids: how new ones are made, and what every id on the log has to look like.

The log carries ids, never names or e-mail addresses; that is why no id may contain an `@`. Must not
know any event.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable

from tollkeeper.errors import InvalidEvent

MAX_ID_LENGTH = 128
MAX_LABEL_LENGTH = 64
_ID_RULE = (
    f"must be 1 to {MAX_ID_LENGTH} characters of A-Z a-z 0-9 . _ : ~ | / + = - "
    "(an id, never a name or an e-mail address)"
)
_ORGANIZATION_RULE = _ID_RULE + ", without '/'"
_KEY_RULE = f"must be 1 to {MAX_ID_LENGTH} printable ASCII characters without spaces"
_LABEL_RULE = f"must be 1 to {MAX_LABEL_LENGTH} printable ASCII characters without spaces"
_COMMAND_LINE = "cli-"
_LIMIT_RULE = f"must be 1 to {MAX_LABEL_LENGTH} characters of a-z _"
_SCOPE_RULE = "must be DIMENSION/ID, the dimension of a-z _"
_id = re.compile(rf"[A-Za-z0-9._:~|/+=\-]{{1,{MAX_ID_LENGTH}}}")
_organization = re.compile(rf"[A-Za-z0-9._:~|+=\-]{{1,{MAX_ID_LENGTH}}}")
_key = re.compile(rf"[!-~]{{1,{MAX_ID_LENGTH}}}")
_label = re.compile(rf"[!-~]{{1,{MAX_LABEL_LENGTH}}}")
_limit = re.compile(rf"[a-z_]{{1,{MAX_LABEL_LENGTH}}}")
_scope = re.compile(rf"[a-z_]{{1,{MAX_LABEL_LENGTH}}}/[A-Za-z0-9._:~|/+=\-]{{1,{MAX_ID_LENGTH}}}")


def check_id(field: str, value: object) -> None:
    """Refuse what is no id of a member, actor, emitter, purchase, publication or command."""
    _check(_id, _ID_RULE, field, value)


def check_organization(field: str, value: object) -> None:
    """Refuse what is no organization id: `/` separates it from other ids in keys."""
    _check(_organization, _ORGANIZATION_RULE, field, value)


def check_key(field: str, value: object) -> None:
    """Refuse what is no event id, request id, hold id or model: foreign systems choose these."""
    _check(_key, _KEY_RULE, field, value)


def check_label(field: str, value: object) -> None:
    """Refuse what is no service tier, speed or region."""
    _check(_label, _LABEL_RULE, field, value)


def check_limit(field: str, value: object) -> None:
    """Refuse what is no name of a limit: `member_cap`."""
    _check(_limit, _LIMIT_RULE, field, value)


def check_scope(field: str, value: object) -> None:
    """Refuse what is no scope of a limit: `member/ann`."""
    _check(_scope, _SCOPE_RULE, field, value)


def _check(pattern: re.Pattern[str], rule: str, field: str, value: object) -> None:
    # The value isn't repeated in the message: it may be the very e-mail address that is refused.
    if type(value) is not str or pattern.fullmatch(value) is None:
        raise InvalidEvent(field, rule)


def now_micros() -> int:
    """The wall clock in microseconds since the epoch."""
    return time.time_ns() // 1_000


class TimeOrderedIds:
    """Makes UUIDs of version 7 (RFC 9562) whose text sorts by time.

    New rows then stay at the hot end of an index. Ids of one process grow strictly, also within a
    millisecond and when the clock steps back. Safe to use from several threads; after a fork the
    child goes its own way at once.
    """

    def __init__(
        self,
        clock: Callable[[], int] = now_micros,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._last_millis = 0
        self._last_tail = 0
        self._lock = threading.Lock()
        self_reference = weakref.ref(self)  # the registration below can't be taken back
        os.register_at_fork(after_in_child=lambda: _leave_parent(self_reference()))

    def next_hex(self) -> str:
        """The next id's 32 hexadecimal digits; the first 12 are milliseconds since the epoch."""
        with self._lock:
            millis, tail = self._advance(self._clock() // 1_000)
            self._last_millis, self._last_tail = millis, tail
        high = millis << 16 | 7 << 12 | tail >> 62
        return f"{high << 64 | 2 << 62 | tail & _LOW_62:032x}"

    def _advance(self, millis: int) -> tuple[int, int]:
        """Random in a new millisecond; within one, or while the clock is behind, a step further."""
        if millis > self._last_millis:
            return millis, self._fresh_tail()
        tail = self._last_tail + 1 + int.from_bytes(self._entropy(4), "big")
        if tail <= _LOW_74:
            return self._last_millis, tail
        return self._last_millis + 1, self._fresh_tail()

    def _fresh_tail(self) -> int:
        # The highest of the 74 bits stays clear, so that steps within a millisecond have room.
        return int.from_bytes(self._entropy(10), "big") & (_LOW_74 >> 1)

    def leave_parent(self) -> None:
        """In a forked child: leave the parent's millisecond, and its lock, which may be held."""
        self._lock = threading.Lock()
        self._last_millis, self._last_tail = self._last_millis + 1, self._fresh_tail()


def _leave_parent(ids: TimeOrderedIds | None) -> None:
    if ids is not None:
        ids.leave_parent()


_LOW_62 = (1 << 62) - 1
_LOW_74 = (1 << 74) - 1
_ids = TimeOrderedIds()


def new_event_id() -> str:
    """A new event id; later ids are greater as text."""
    digits = _ids.next_hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_command_id() -> str:
    """A new command id, for a caller who brings no idempotency key."""
    return f"cmd-{_ids.next_hex()}"


def new_emitter_id() -> str:
    """A new emitter id: one per emitter and process, never used again."""
    return f"em-{_ids.next_hex()}"


def new_command_line_id() -> str:
    """A new emitter id of a command line: no process lives on under it that could be asked."""
    return f"{_COMMAND_LINE}{_ids.next_hex()}"


def is_command_line(emitter: str) -> bool:
    """Whether nobody can answer for this emitter but a command that happens to run."""
    return emitter.startswith(_COMMAND_LINE)
