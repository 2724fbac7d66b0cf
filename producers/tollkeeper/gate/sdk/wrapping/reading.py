"""Learns a call's usage while its answer is read, and ends the call once, whatever becomes of the reading.

A call site never gets an error from here: what can't be understood is logged, and charged as estimated.
"""

from __future__ import annotations

import logging
from typing import Any

from tollkeeper.errors import InvalidInput, Unavailable
from tollkeeper.gate.sdk.metered import AsyncMeteredCall, MeteredCall
from tollkeeper.gate.sdk.wrapping.events import DONE, Without, parsed
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)

Call = MeteredCall | AsyncMeteredCall

_LAST = frozenset(
    {"message_stop", "response.completed", "response.incomplete", "response.failed", "error"}
)


class AnyReading:
    """Takes the bytes of an answer: a document, or a stream of events."""

    def __init__(self, call: Call, *, is_stream: bool, hides_usage: bool) -> None:
        self._call = call
        self._events = Without(_carries_usage if hides_usage else _never) if is_stream else None
        self._seen = call.watch()
        self._document = bytearray()
        self.is_complete = False

    def saw(self, piece: bytes) -> bytes:
        """A piece; answers what the reader gets of it."""
        if self._events is None:
            self._document += piece
            return piece
        documents, shown = self._events.feed(piece)
        for document in documents:
            self._take(document)
        return shown

    def rest(self) -> bytes:
        """What the reader gets at the end."""
        return b"" if self._events is None else self._events.rest()

    def _take(self, document: object) -> None:
        if document is DONE:
            self.is_complete = True
            return
        if not isinstance(document, dict):
            return
        kind = document.get("type")
        kind = kind if isinstance(kind, str) else None
        # As OpenAI's own library tells it: some servers have `"error": null` in every chunk.
        is_error = kind == "error" or (kind is None and bool(document.get("error")))
        if is_error and not self._seen.has_begun:
            self._call.release()
        if not is_error:
            try:
                self._seen.feed(document)
            except InvalidInput as error:
                logger.error(LogLine("event_not_understood", **failure(error)))
        self.is_complete = self.is_complete or is_error or kind in _LAST

    def _read_whole(self, error: BaseException | None) -> None:
        if self._events is None and error is None:
            tell(self._call, parsed(bytes(self._document)))


class Reading(AnyReading):
    """Of an answer that is read in a thread."""

    def __init__(self, call: MeteredCall, *, is_stream: bool, hides_usage: bool) -> None:
        super().__init__(call, is_stream=is_stream, hides_usage=hides_usage)
        self._metered = call

    def end(self, error: BaseException | None) -> None:
        """End the call."""
        self._read_whole(error)
        end(self._metered, error)

    async def aend(self, error: BaseException | None) -> None:
        """Nobody reads it in a task, but for a client that was given another one's transport."""
        self.end(error)

    def let_go(self) -> None:
        """Have the next tick end the call: what was seen is charged."""
        self._metered.abandon()


class AsyncReading(AnyReading):
    """Of an answer that is read in a task."""

    def __init__(self, call: AsyncMeteredCall, *, is_stream: bool, hides_usage: bool) -> None:
        super().__init__(call, is_stream=is_stream, hides_usage=hides_usage)
        self._metered = call

    def end(self, error: BaseException | None) -> None:
        """Read in a thread all the same: as when it is lost."""
        self._read_whole(error)
        self.let_go()

    async def aend(self, error: BaseException | None) -> None:
        """End the call."""
        self._read_whole(error)
        await aend(self._metered, error)

    def let_go(self) -> None:
        """Have the next tick end the call: what was seen is charged."""
        self._metered.abandon()


def tell(call: Call, answer: Any) -> None:
    """Tell the call its whole answer."""
    try:
        call.response(answer)
    except InvalidInput as error:
        logger.error(LogLine("answer_not_understood", **failure(error)))


def end(call: MeteredCall, error: BaseException | None) -> None:
    """End the call: charged, or released where the provider did not begin to answer."""
    try:
        call.__exit__(None if error is None else type(error), error, None)
    except (InvalidInput, Unavailable) as failed:  # its usage was replaced, or is handed in again
        logger.error(LogLine("usage_not_recorded_yet", **failure(failed)))


async def aend(call: AsyncMeteredCall, error: BaseException | None) -> None:
    """The same in a task."""
    try:
        await call.__aexit__(None if error is None else type(error), error, None)
    except (InvalidInput, Unavailable) as failed:
        logger.error(LogLine("usage_not_recorded_yet", **failure(failed)))


def _carries_usage(document: object) -> bool:
    """Whether it is the chunk that a chat completion's stream has only where its usage is asked for."""
    return (
        isinstance(document, dict) and document.get("choices") == [] and bool(document.get("usage"))
    )


def _never(document: object) -> bool:
    return False
