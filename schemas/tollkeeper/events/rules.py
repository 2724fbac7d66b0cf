"""What every field of every event has to be, and how its fields have to fit together.

The same rules hold where an event is written and where it is read: a producer learns of its mistake
at once, and the consumer doesn't trust the producer. Must not know Avro.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, get_args

from tollkeeper.errors import InvalidEvent
from tollkeeper.events import emitters, gate, prices, quarantine, usage
from tollkeeper.events import organization as org
from tollkeeper.events.ids import (
    check_id,
    check_key,
    check_label,
    check_limit,
    check_organization,
    check_scope,
)
from tollkeeper.money.amounts import MAX_CAP_NANOS, PICOS_PER_USD

Rule = Callable[[str, object], None]
"""Takes a field's name and value; raises InvalidEvent when the value breaks the rule."""

MIN_INSTANT = 1_577_836_800_000_000  # 2020-01-01T00:00:00Z: before it there was nothing to meter
MAX_INSTANT = 4_102_444_800_000_000  # 2100-01-01T00:00:00Z: beyond it the clock is wrong
MAX_MICROS = MAX_CAP_NANOS // 1_000  # what the gate can count
MAX_TEXT_LENGTH = 1_000
MAX_VERSION = 2**62
MAX_PARTITION = 2**31 - 1
MAX_OFFSET = 2**63 - 1
MAX_TOKEN_PICOS = PICOS_PER_USD  # a dollar a token: a hundred thousand times any known price
MAX_REQUEST_PICOS = 4 * PICOS_PER_USD  # with it the dearest event possible still fits 64 bits

# Control characters, line separators, bidirectional overrides, lone surrogates and non-characters
# are spelled out: `str.isprintable` changes with every Unicode version, so an older consumer would
# refuse what a newer producer wrote.
_free_text = re.compile(
    "[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
    f"{{1,{MAX_TEXT_LENGTH}}}"
)


def integer(low: int, high: int) -> Rule:
    """A whole number in low..high; bool and float aren't."""

    def check(field: str, value: object) -> None:
        if type(value) is not int or not low <= value <= high:
            raise InvalidEvent(field, f"must be a whole number from {low} to {high}{_not(value)}")

    return check


def one_of(values: frozenset[str]) -> Rule:
    """One of a closed set of words."""
    words = ", ".join(sorted(values))

    def check(field: str, value: object) -> None:
        if type(value) is not str or value not in values:
            raise InvalidEvent(field, f"must be one of {words}{_not(value)}")

    return check


def optional(rule: Rule) -> Rule:
    """None, or what `rule` allows."""

    def check(field: str, value: object) -> None:
        if value is not None:
            rule(field, value)

    return check


def instant(field: str, value: object) -> None:
    """Microseconds since the epoch, in 2020 to 2099."""
    if type(value) is not int or not MIN_INSTANT <= value < MAX_INSTANT:
        rule = "must be microseconds since 1970, from 2020-01-01 to before 2100-01-01 UTC"
        raise InvalidEvent(field, f"{rule}{_not(value)}")


def optional_instant(field: str, value: object) -> None:
    """None, or an instant."""
    if value is not None:
        instant(field, value)


def free_text(field: str, value: object) -> None:
    """Text for people: no control characters, no lone surrogates, no bidirectional overrides."""
    if type(value) is not str or _free_text.fullmatch(value) is None or value.isspace():
        rule = f"must be 1 to {MAX_TEXT_LENGTH} characters of text without control characters"
        raise InvalidEvent(field, rule)


def calendar_date(field: str, value: object) -> None:
    """A day as YYYY-MM-DD."""
    if type(value) is str and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            date.fromisoformat(value)
        except ValueError:
            pass
        else:
            return
    raise InvalidEvent(field, f"must be a date as YYYY-MM-DD{_not(value)}")


def price_rows(field: str, value: object) -> None:
    """At least one row; each has a price; no two for the same usage."""
    if type(value) is not tuple or not value:
        raise InvalidEvent(field, "must be a tuple of at least one price row")
    seen = set()
    for number, row in enumerate(value):
        place = f"{field}[{number}]"
        if type(row) is not prices.PriceRow:
            raise InvalidEvent(place, "must be a price row")
        _check_fields(row, _PRICE_ROW, f"{place}.")
        if all(getattr(row, name) is None for name in _PICOS):
            raise InvalidEvent(place, "must carry at least one price")
        key = (row.model, row.service_tier, row.speed, row.region, row.over_prompt_tokens)
        if key in seen:
            raise InvalidEvent(
                place, "must not repeat an earlier row's model, tier, speed, region and band"
            )
        seen.add(key)


def cap_thresholds(field: str, value: object) -> None:
    """Rising shares of a cap in per cent, few enough to be read."""
    if type(value) is not tuple or len(value) > org.MAX_THRESHOLDS:
        raise InvalidEvent(field, f"must be a tuple of at most {org.MAX_THRESHOLDS} thresholds")
    last = 0
    for number, row in enumerate(value):
        place = f"{field}[{number}]"
        if type(row) is not org.Threshold:
            raise InvalidEvent(place, "must be a threshold")
        _percent(f"{place}.cap_percent", row.cap_percent)
        if row.cap_percent <= last:
            raise InvalidEvent(place, f"must be above the one before it, {last} %")
        last = row.cap_percent


def _words(literal: object) -> frozenset[str]:
    return frozenset(get_args(literal))


_count = integer(0, usage.MAX_COUNT)
_credit = integer(1, MAX_CAP_NANOS)
_percent = integer(1, 100)
_micros = integer(0, MAX_MICROS)
_token_price = optional(integer(0, MAX_TOKEN_PICOS))

_PRICE_ROW: Mapping[str, Rule] = {
    "model": check_key,
    "service_tier": check_label,
    "speed": check_label,
    "region": check_label,
    "over_prompt_tokens": _count,
    "input_picos": _token_price,
    "output_picos": _token_price,
    "cache_read_picos": _token_price,
    "cache_write_5m_picos": _token_price,
    "cache_write_1h_picos": _token_price,
    "web_search_picos": optional(integer(0, MAX_REQUEST_PICOS)),
}
_PICOS = tuple(name for name in _PRICE_ROW if name.endswith("_picos"))

_COMMANDED: Mapping[str, Rule] = {
    "command_id": check_id,
    "actor": check_id,
    "occurred_at": instant,
}
_FACT: Mapping[str, Rule] = {
    "organization": check_organization,
    "version": integer(1, MAX_VERSION),
    **_COMMANDED,
}
_LETTER: Mapping[str, Rule] = {
    "letter_partition": integer(0, MAX_PARTITION),
    "letter_offset": integer(0, MAX_OFFSET),
    **_COMMANDED,
}
_POLICY: Mapping[str, Rule] = {
    "ceiling_nanos": optional(integer(0, MAX_CAP_NANOS)),
    "until": optional_instant,
}

RULES: Mapping[type, Mapping[str, Rule]] = {
    usage.UsageRecorded: {
        "event_id": check_key,
        "organization": check_organization,
        "member": check_id,
        "surface": one_of(usage.SURFACES),
        "model": check_key,
        "input_tokens": _count,
        "output_tokens": _count,
        "cache_read_tokens": _count,
        "cache_write_5m_tokens": _count,
        "cache_write_1h_tokens": _count,
        "web_search_requests": _count,
        "service_tier": check_label,
        "speed": check_label,
        "region": check_label,
        "usage_source": one_of(usage.USAGE_SOURCES),
        "request_id": optional(check_key),
        "hold_id": optional(check_key),
        "occurred_at": instant,
        "emitter": check_id,
        "sequence": integer(1, usage.MAX_SEQUENCE),
    },
    org.OrganizationOpened: {
        **_FACT,
        "plan": one_of(org.PLANS),
        "channel": one_of(_words(org.Channel)),
        "primary_owner": check_id,
    },
    org.MemberAdded: {**_FACT, "member": check_id, "role": one_of(_words(org.Role))},
    org.MemberRemoved: {**_FACT, "member": check_id},
    org.RoleChanged: {**_FACT, "member": check_id, "role": one_of(_words(org.Role))},
    org.OwnershipTransferred: {**_FACT, "from_member": check_id, "to_member": check_id},
    org.CreditsPurchased: {
        **_FACT,
        "purchase_id": check_id,
        "credit_nanos": _credit,
        "reference": optional(free_text),
    },
    org.CreditsVoided: {
        **_FACT,
        "purchase_id": check_id,
        "credit_nanos": _credit,
        "reason": free_text,
    },
    org.SpendCapSet: {
        **_FACT,
        "scope": one_of(_words(org.CapScope)),
        "setting": one_of(_words(org.CapSetting)),
        "member": optional(check_id),
        "cap_nanos": optional(integer(0, MAX_CAP_NANOS)),
    },
    prices.PricesPublished: {
        **_COMMANDED,
        "publication_id": check_id,
        "effective_from": instant,
        "source": free_text,
        "source_date": calendar_date,
        "prices": price_rows,
    },
    prices.PricesWithdrawn: {**_COMMANDED, "publication_id": check_id},
    quarantine.QuarantineReleased: _LETTER,
    quarantine.QuarantineDiscarded: {**_LETTER, "reason": free_text},
    emitters.EmitterStarted: {"emitter": check_id, "occurred_at": instant},
    emitters.EmitterRetired: {
        "emitter": check_id,
        "actor": check_id,
        "reason": one_of(_words(emitters.RetirementReason)),
        "occurred_at": instant,
    },
    org.ThresholdsSet: {
        **_FACT,
        "cap_thresholds": cap_thresholds,
        "credits_low_percent": integer(0, 100),
    },
    org.GatePolicySet: {
        **_FACT,
        "policy": one_of(_words(org.GatePolicySetting)),
        **_POLICY,
    },
    gate.DefaultGatePolicySet: {
        "version": integer(1, MAX_VERSION),
        "policy": one_of(_words(org.GatePolicy)),
        **_POLICY,
        **_COMMANDED,
    },
    gate.LimitReached: {
        "organization": check_organization,
        "limit": check_limit,
        "scope": check_scope,
        "period_start": instant,
        "cap_micros": _micros,
        "spent_micros": _micros,
        "held_micros": _micros,
        "requested_micros": _micros,
        "member": check_id,
        "emitter": check_id,
        "occurred_at": instant,
    },
    gate.CallAdmitted: {
        "event_id": check_key,
        "organization": check_organization,
        "member": check_id,
        "policy": one_of(_words(gate.AdmittingPolicy)),
        "cause": check_label,
        "amount_micros": _micros,
        "emitter": check_id,
        "occurred_at": instant,
    },
}
"""Every event type and the rule of each of its fields; a test holds them against the types."""


def check_event(event: object) -> None:
    """Refuse an event that breaks a rule: InvalidEvent names the field and the rule."""
    rules = RULES.get(type(event))
    if rules is None:
        raise InvalidEvent("event", f"must be an event, not {type(event).__name__}")
    _check_fields(event, rules)
    if isinstance(event, org.SpendCapSet):
        _check_cap(event)
    elif isinstance(event, org.GatePolicySet | gate.DefaultGatePolicySet):
        if (event.ceiling_nanos is not None) != (event.policy == "open"):
            raise InvalidEvent("ceiling_nanos", "must be set exactly when policy is open")
        if event.policy == "inherit" and event.until is not None:
            raise InvalidEvent("until", "can't be set when policy is inherit")
    elif isinstance(event, org.OwnershipTransferred) and event.from_member == event.to_member:
        raise InvalidEvent("to_member", "must be another member than from_member")


def _check_fields(owner: object, rules: Mapping[str, Rule], place: str = "") -> None:
    for name, rule in rules.items():
        rule(place + name, getattr(owner, name))


def _check_cap(event: org.SpendCapSet) -> None:
    if (event.member is not None) != (event.scope == "member"):
        raise InvalidEvent("member", "must be set exactly when scope is member")
    if (event.cap_nanos is not None) != (event.setting == "capped"):
        raise InvalidEvent("cap_nanos", "must be set exactly when setting is capped")


def _not(value: object) -> str:
    """`, not …` with the value short and in ASCII: it may be long, binary or any number."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f", not a number of {value.bit_length()} bits"
    shown: Any = ascii(value) if isinstance(value, (str, int, float)) else type(value).__name__
    return f", not {shown[:60]}"
