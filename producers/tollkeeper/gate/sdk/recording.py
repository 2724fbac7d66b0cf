"""What was seen of one metered call, and so what becomes of its hold when the block ends.

Charged is what the provider counted; where it didn't, what was seen, as estimated. Released is a hold only
when the provider did not begin to answer, or when the caller said so. Pure but for its log lines.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.events.codec import encode
from tollkeeper.events.ids import new_event_id
from tollkeeper.events.rules import MIN_INSTANT
from tollkeeper.gate.sdk.answers_seen import StreamSeen, declared, usage_of
from tollkeeper.gate.sdk.asks import Ask
from tollkeeper.gate.sdk.endings import did_not_begin
from tollkeeper.gate.sdk.refused import Refused
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import Counters
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.metering.usage import Prepared, Usage, recorded
from tollkeeper.rating.worst_case import Expected

_DATE = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})$")

logger = logging.getLogger(__name__)


class Slices(msgspec.Struct):
    """How much output a sliced hold has paid for, in tokens. The next slice is due at half of the last."""

    step: int
    most: int
    paid: int
    refused: Refused | None = None
    """Why there is no next slice. The stream goes on until what is paid is used up."""

    def due(self, written: int) -> int | None:
        """What is to be paid for in all; None: what is paid is enough for now."""
        if (
            self.refused is not None
            or self.paid >= self.most
            or written < self.paid - self.step // 2
        ):
            return None
        return min(self.most, max(self.paid, written) + self.step)

    def is_used_up(self, written: int) -> bool:
        """Whether the stream has to be cut."""
        return self.refused is not None and written >= self.paid


class CallRecord:
    """Of one call; `expected` is what was said of it, with all the output that it may write.

    `names` says what the rate card calls a model that its provider calls otherwise.
    """

    def __init__(
        self,
        asked: Ask,
        expected: Expected,
        settings: GateSettings,
        counters: Counters,
        names: Mapping[str, str] = {},
    ) -> None:
        self._names = names
        self._asked = asked
        self._expected = expected
        self._settings = settings
        self._counters = counters
        self._usages: list[Usage] = []
        self._streams: list[StreamSeen] = []
        self._is_released = False

    def response(self, answer: object) -> None:
        """A whole answer of the provider."""
        self.usage(usage_of(answer))

    def usage(self, consumed: Usage | ProviderUsage, *, usage_source: str = "reported") -> None:
        """What the call consumed, in the caller's own words.

        InvalidInput: it can't be recorded. Report it in another way; where nothing is, the call is
        charged as one of which nobody knows.
        """
        if isinstance(consumed, ProviderUsage):
            usages = self._as_usages(consumed, usage_source)
        else:
            usages = [consumed]
        for usage in usages:
            self._check(usage)
        self._usages += usages

    def stream(self) -> StreamSeen:
        """A stream that is about to be read."""
        seen = StreamSeen(self._expected, bytes_per_token=self._settings.bytes_per_token)
        self._streams.append(seen)
        return seen

    def release(self) -> None:
        """The caller makes no call after all."""
        self._is_released = True

    def ending(self, error: BaseException | None) -> Sequence[Usage] | None:
        """What is to be charged; None: the hold is to be released."""
        usages = list(self._usages)
        for seen in self._streams:
            if seen.has_begun:
                usages += self._streamed(seen)
        if usages:
            return usages
        if self._is_released or (error is not None and self._did_not_begin(error)):
            return None
        return self.unanswered(error)

    def unanswered(self, error: BaseException | None) -> Sequence[Usage] | None:
        """What is charged where nobody knows: as the settings say; None: nothing."""
        if self._settings.unanswered == "release":
            return None
        is_worst = self._settings.unanswered == "worst_case"
        output = self._expected.max_output_tokens if is_worst else 0
        untold = "neither call.response nor call.usage was called"
        self._estimated(untold if error is None else type(error).__name__)
        return self._as_usages(declared(self._expected, output_tokens=output), "estimated")

    def _streamed(self, seen: StreamSeen) -> Sequence[Usage]:
        try:
            usages = self._as_usages(seen.usage(), "reported" if seen.is_complete else "estimated")
            for usage in usages:
                self._check(usage)
        except InvalidInput as error:
            logger.error(LogLine("usage_invalid", **failure(error)))
            return self.unanswered(error) or ()
        if not seen.is_complete:
            self._estimated("the stream ended without the provider's count")
        return usages

    def _as_usages(self, consumed: ProviderUsage, usage_source: str) -> list[Usage]:
        asked = self._asked
        model = name_on_card(consumed.model, self._names, asked=self._expected.model)
        return msgspec.structs.replace(consumed, model=model).as_usages(
            organization=asked.organization,
            member=asked.member,
            surface=asked.surface,
            event_id=new_event_id(),
            usage_source=usage_source,
        )

    def _check(self, usage: Usage) -> None:
        """Refuse by name what would be refused at the end, when nobody can mend it any more."""
        if usage.organization != self._asked.organization:
            raise InvalidInput("organization", f"must be the hold's, {self._asked.organization}")
        event_id = usage.event_id or "-"
        encode(recorded(Prepared(usage, event_id, MIN_INSTANT), emitter="-", sequence=1))

    def _did_not_begin(self, error: BaseException) -> bool:
        begins_not = self._settings.begins_not
        return did_not_begin(error) or (begins_not is not None and begins_not(error))

    def _estimated(self, cause: str) -> None:
        self._counters.add("estimated")
        asked = self._asked
        logger.warning(
            LogLine(
                "usage_estimated",
                organization=asked.organization,
                member=asked.member,
                model=self._expected.model,
                cause=cause,
            )
        )


def name_on_card(reported: str, names: Mapping[str, str], *, asked: str) -> str:
    """The name by which a model has its price, by which its hold was priced as well.

    Providers answer with the dated snapshot of the model that was asked: `m-20260131`, `m-2026-01-31`.
    """
    name = names.get(reported, reported)
    return asked if _DATE.sub("", name) == asked else name


def sliced(asked: Ask, slice_tokens: int | None) -> tuple[Ask, Slices | None]:
    """What is asked for at first: one slice of the output. InvalidInput: it can't be sliced."""
    if slice_tokens is None:
        return asked, None
    most = asked.expected.max_output_tokens
    if asked.max_cost_micros is not None or not most:
        raise InvalidInput("slice_tokens", "needs max_output_tokens, and no max_cost_usd")
    if type(slice_tokens) is not int or slice_tokens < 1:
        raise InvalidInput("slice_tokens", "must be a whole number above 0")
    first = min(slice_tokens, most)
    expected = msgspec.structs.replace(asked.expected, max_output_tokens=first)
    slices = Slices(step=slice_tokens, most=most, paid=first)
    return msgspec.structs.replace(asked, expected=expected), slices
