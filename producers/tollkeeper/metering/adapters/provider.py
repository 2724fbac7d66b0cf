"""What every provider's usage object becomes, and how its fields are read.

A usage object is a plain dict or the SDK's model. Must not know any one provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.events.usage import MAX_COUNT
from tollkeeper.metering.usage import Usage


class ProviderUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One call's usage as its provider reported it.

    `further` holds what the same call consumed besides, each billed by itself: its own model and its
    own prompt length.
    """

    model: str
    request_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    service_tier: str = "standard"
    speed: str = "standard"
    region: str = "global"
    further: tuple[ProviderUsage, ...] = ()

    def as_usage(
        self,
        *,
        organization: str,
        member: str,
        surface: str,
        event_id: str | None = None,
        hold_id: str | None = None,
        occurred_at: int | datetime | None = None,
        usage_source: str = "reported",
    ) -> Usage:
        """The usage to emit. Misuse when the call consumed more than fits into one: `as_usages`."""
        if self.further:
            raise Misuse(
                f"this call has {len(self.further)} further billed parts, which as_usage would "
                "lose: use as_usages and emit_many"
            )
        return self._one(
            organization, member, surface, event_id, hold_id, occurred_at, usage_source
        )

    def as_usages(
        self,
        *,
        organization: str,
        member: str,
        surface: str,
        event_id: str | None = None,
        hold_id: str | None = None,
        occurred_at: int | datetime | None = None,
        usage_source: str = "reported",
    ) -> list[Usage]:
        """All that the call consumed, for `emit_many`; the parts' ids are `<event_id>.1` and so on."""
        usages = []
        for number, part in enumerate((self, *self.further)):
            part_id = event_id if event_id is None or number == 0 else f"{event_id}.{number}"
            usages.append(
                part._one(
                    organization, member, surface, part_id, hold_id, occurred_at, usage_source
                )
            )
        return usages

    def _one(
        self,
        organization: str,
        member: str,
        surface: str,
        event_id: str | None,
        hold_id: str | None,
        occurred_at: int | datetime | None,
        usage_source: str,
    ) -> Usage:
        return Usage(
            organization=organization,
            member=member,
            surface=surface,
            model=self.model,
            event_id=event_id,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_5m_tokens=self.cache_write_5m_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            web_search_requests=self.web_search_requests,
            service_tier=self.service_tier,
            speed=self.speed,
            region=self.region,
            usage_source=usage_source,
            request_id=self.request_id,
            hold_id=hold_id,
            occurred_at=occurred_at,
        )


def field(source: object, name: str) -> object:
    """A field of a dict or a model; None when it is absent."""
    if type(source) is dict or isinstance(
        source, Mapping
    ):  # the first tells in a tenth of the time
        return source.get(name)
    return getattr(source, name, None)


def part(source: object, name: str, path: str) -> object:
    """A field that is itself a dict or a model, or None."""
    value = field(source, name)
    if isinstance(value, (str, bytes, int, float, list, tuple)):
        raise InvalidInput(f"{path}{name}", f"must be an object, not {type(value).__name__}")
    return value


def count(source: object, name: str, path: str, *, required: bool = False) -> int:
    """A count in 0..MAX_COUNT; an absent or null one is 0 unless it is required."""
    value = field(source, name)
    if value is None and not required:
        return 0
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        shown = value if type(value) is int else type(value).__name__
        raise InvalidInput(
            f"{path}{name}", f"must be a whole number from 0 to {MAX_COUNT}, not {shown}"
        )
    return value


def text(source: object, name: str, path: str, default: str | None = None) -> str:
    """A text; `default` when absent or null, without one it is required."""
    value = field(source, name)
    if value is None:
        value = default
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{path}{name}", f"must be a text, not {type(value).__name__}")
    return value


def optional_text(source: object, name: str, path: str) -> str | None:
    """A text, or None."""
    return None if field(source, name) is None else text(source, name, path)
