"""`metered`: a model call with a hold around it, and its usage recorded at the end.

with metered(gate, organization="acme", member="ann", surface="web", model="claude-sonnet-5",
             input_tokens=1200, max_output_tokens=800) as call:
    call.response(client.messages.create(...))
"""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import NoReturn, TypeVar, Unpack, overload

from tollkeeper.errors import InvalidInput, Misuse, Unavailable
from tollkeeper.gate.sdk.aio import AsyncGate
from tollkeeper.gate.sdk.answers_seen import StreamSeen
from tollkeeper.gate.sdk.asks import Ask, ask
from tollkeeper.gate.sdk.gate import CallFields, Gate
from tollkeeper.gate.sdk.hold import AnyHold, AsyncHold, Hold
from tollkeeper.gate.sdk.recording import CallRecord, Slices, sliced
from tollkeeper.gate.sdk.refused import Refused
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.metering.usage import Usage
from tollkeeper.rating.worst_case import Expected

logger = logging.getLogger(__name__)
E = TypeVar("E")


@overload
def metered(
    gate: Gate, *, slice_tokens: int | None = None, **call: Unpack[CallFields]
) -> MeteredCall: ...
@overload
def metered(
    gate: AsyncGate, *, slice_tokens: int | None = None, **call: Unpack[CallFields]
) -> AsyncMeteredCall: ...
def metered(
    gate: Gate | AsyncGate, *, slice_tokens: int | None = None, **call: Unpack[CallFields]
) -> MeteredCall | AsyncMeteredCall:
    """A context manager around one model call: `with` a `Gate`, `async with` an `AsyncGate`.

    It holds what the call can cost at most (fields as of `gate.hold`; `Refused` when that is refused),
    and at the end of the block settles the hold by what was reported to it: `call.response(...)`,
    `call.stream(...)` or `call.usage(...)`. A stream that ends without the provider's count is charged
    from what was seen, as estimated. The hold is released only when the provider did not begin to
    answer: the connection was never made, or it answered with an error. Where nobody knows,
    `GateSettings.unanswered` decides.

    With `slice_tokens` only so much output is held for at first, and more before it is used up; when
    that is refused, the stream raises `Refused` as soon as what is paid for is used up. Only what the stream
    shows can be paid for in slices: a model that thinks out of sight needs a hold for all of its output.
    """
    asked = ask(**call)
    if isinstance(gate, AsyncGate):
        return AsyncMeteredCall(gate, asked, slice_tokens)
    return MeteredCall(gate, asked, slice_tokens)


class AnyCall(ABC):
    """What calls in threads and in asyncio have in common.

    `likely` is what is charged where nobody counted, where that isn't what is held for; `names` says
    what the rate card calls a model that its provider calls otherwise.
    """

    def __init__(
        self,
        gate: Gate | AsyncGate,
        asked: Ask,
        slice_tokens: int | None,
        likely: Expected | None = None,
        names: Mapping[str, str] = {},
    ) -> None:
        self._asked, self._slices = sliced(asked, slice_tokens)
        expected = likely or asked.expected
        counters = gate.core.session.counters
        self._record = CallRecord(asked, expected, gate.settings, counters, names)
        self._open_streams: list[tuple[object, StreamSeen]] = []
        self._is_over = False

    def response(self, answer: object) -> None:
        """The provider's whole answer: Anthropic's message, OpenAI's completion or response.

        The client's own object or a dict. InvalidInput: it is neither, or carries no usage.
        """
        self._check()
        self._record.response(answer)

    def usage(self, consumed: Usage | ProviderUsage, *, usage_source: str = "reported") -> None:
        """What was consumed, in your own words. Several add up."""
        self._check()
        self._record.usage(consumed, usage_source=usage_source)

    def release(self) -> None:
        """There is no call to be made after all: the hold is released at the end of the block."""
        self._record.release()

    @property
    @abstractmethod
    def hold(self) -> AnyHold:
        """The hold around this call. Misuse: outside of the block."""

    def watch(self) -> StreamSeen:
        """A stream that somebody else reads, perhaps after the block: feed it every event.

        Lost or abandoned from now on, the call is charged by what was seen.
        """
        self.hold.leave_word(partial(_ending, self._record))
        return self._record.stream()

    def abandon(self) -> None:
        """Leave the ending to the gate's next tick. Takes no lock."""
        self.hold.abandon()

    def _check(self) -> None:
        if self._is_over:
            raise Misuse("the block has ended and is charged: nothing more can be reported to it")
        self.hold.check_ours()

    def _begin_stream(self, events: object) -> StreamSeen:
        self._check()
        seen = self._record.stream()
        self._open_streams.append((events, seen))
        return seen

    def _unfinished(self) -> list[object]:
        return [events for events, seen in self._open_streams if not seen.is_complete]


class MeteredCall(AnyCall):
    """One call in the `with` block. Not for several threads at once."""

    def __init__(
        self,
        gate: Gate,
        asked: Ask,
        slice_tokens: int | None,
        likely: Expected | None = None,
        names: Mapping[str, str] = {},
    ) -> None:
        super().__init__(gate, asked, slice_tokens, likely, names)
        self._gate = gate
        self._hold: Hold | None = None

    @property
    def hold(self) -> Hold:
        """The hold around this call. Misuse: outside of the block."""
        if self._hold is None:
            raise Misuse("there is a hold only inside the with block")
        return self._hold

    def stream(self, events: Iterable[E]) -> Iterator[E]:
        """The same events, seen on their way. Raises Refused when a sliced hold isn't prolonged."""
        return self._seen(events, self._begin_stream(events))

    def _seen(self, events: Iterable[E], seen: StreamSeen) -> Iterator[E]:
        for event in events:
            self._check()
            seen.feed(event)
            yield event
            if self._slices is not None and not seen.is_complete:
                self._pay(self._slices, seen.output_tokens)

    def _pay(self, slices: Slices, written: int) -> None:
        due = slices.due(written)
        if due is not None:
            try:
                self.hold.extend(max_output_tokens=due)
                slices.paid = due
            except Refused as refused:
                slices.refused = refused
        if slices.is_used_up(written) and slices.refused is not None:
            raise slices.refused

    def __enter__(self) -> MeteredCall:
        if self._hold is not None:
            raise Misuse("a metered call is made once: call metered(...) again")
        self._hold = self._gate.hold_asked(self._asked)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        hold, self._is_over = self.hold, True
        if hold.is_ended or hold.is_parents:
            return
        usages = self._record.ending(error)
        try:
            if usages is None:
                hold.release()
            else:
                hold.settle(usages)
        except InvalidInput as invalid:
            if (instead := _fallback(self._record, invalid)) is None:
                hold.release()
            else:
                hold.settle(instead)
            raise
        except Unavailable as away:
            if error is None:
                raise
            logger.error(LogLine("usage_not_durable_yet", **failure(away)))
        finally:
            for events in self._unfinished():
                _close(events)

    async def __aenter__(self) -> NoReturn:
        raise Misuse(
            "a Gate's call is made in `with metered(...)`; `async with` takes an AsyncGate"
        )

    async def __aexit__(self, *_: object) -> None:
        """Never reached; Python looks for it before it enters the block."""


class AsyncMeteredCall(AnyCall):
    """One call in the `async with` block."""

    def __init__(
        self,
        gate: AsyncGate,
        asked: Ask,
        slice_tokens: int | None,
        likely: Expected | None = None,
        names: Mapping[str, str] = {},
    ) -> None:
        super().__init__(gate, asked, slice_tokens, likely, names)
        self._gate = gate
        self._hold: AsyncHold | None = None

    @property
    def hold(self) -> AsyncHold:
        """The hold around this call. Misuse: outside of the block."""
        if self._hold is None:
            raise Misuse("there is a hold only inside the async with block")
        return self._hold

    def stream(self, events: AsyncIterable[E]) -> AsyncIterator[E]:
        """The same events, seen on their way. Raises Refused when a sliced hold isn't prolonged."""
        return self._seen(events, self._begin_stream(events))

    async def _seen(self, events: AsyncIterable[E], seen: StreamSeen) -> AsyncIterator[E]:
        async for event in events:
            self._check()
            seen.feed(event)
            yield event
            if self._slices is not None and not seen.is_complete:
                await self._pay(self._slices, seen.output_tokens)

    async def _pay(self, slices: Slices, written: int) -> None:
        due = slices.due(written)
        if due is not None:
            try:
                await self.hold.extend(max_output_tokens=due)
                slices.paid = due
            except Refused as refused:
                slices.refused = refused
        if slices.is_used_up(written) and slices.refused is not None:
            raise slices.refused

    async def __aenter__(self) -> AsyncMeteredCall:
        if self._hold is not None:
            raise Misuse("a metered call is made once: call metered(...) again")
        self._hold = await self._gate.hold_asked(self._asked)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        hold, self._is_over = self.hold, True
        if hold.is_ended or hold.is_parents:
            return
        usages = self._record.ending(error)
        try:
            if usages is None:
                await hold.release()
            else:
                await hold.settle(usages)
        except InvalidInput as invalid:
            if (instead := _fallback(self._record, invalid)) is None:
                await hold.release()
            else:
                await hold.settle(instead)
            raise
        except Unavailable as away:
            if error is None:
                raise
            logger.error(LogLine("usage_not_durable_yet", **failure(away)))
        finally:
            for events in self._unfinished():
                await _close_async(events)

    def __enter__(self) -> NoReturn:
        raise Misuse(
            "an AsyncGate's call is made in `async with metered(...)`; `with` takes a Gate"
        )

    def __exit__(self, *_: object) -> None:
        """Never reached; Python looks for it before it enters the block."""


def _ending(record: CallRecord, invalid: InvalidInput | None) -> Sequence[Usage] | None:
    return record.ending(None) if invalid is None else _fallback(record, invalid)


def _fallback(record: CallRecord, invalid: InvalidInput) -> Sequence[Usage] | None:
    """What can be charged in place of usage that can't be recorded."""
    logger.error(LogLine("usage_invalid", **failure(invalid)))
    return record.unanswered(invalid)


def _close(events: object) -> None:
    """Let the provider know that nobody reads on; it goes on writing, and charging, otherwise."""
    close = getattr(events, "close", None)
    try:
        if close is not None:
            close()
    except Exception as error:  # noqa: BLE001 - the call is over and settled
        logger.info(LogLine("stream_not_closed", **failure(error)))


async def _close_async(events: object) -> None:
    close = getattr(events, "aclose", None) or getattr(events, "close", None)
    try:
        closing = None if close is None else close()
        if inspect.isawaitable(closing):
            await closing
    except Exception as error:  # noqa: BLE001 - the call is over and settled
        logger.info(LogLine("stream_not_closed", **failure(error)))
