"""Each field's rule, just inside and just outside, where it is written and where it is read."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidEvent, Undecodable
from tollkeeper.events import organization as org
from tollkeeper.events import usage_rules
from tollkeeper.events.codec import Event, decode, encode
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted, RetirementReason
from tollkeeper.events.gate import CallAdmitted, DefaultGatePolicySet, LimitReached
from tollkeeper.events.prices import PriceRow, PricesPublished, PricesWithdrawn
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.events.rules import MAX_INSTANT, MAX_REQUEST_PICOS, MIN_INSTANT, check_event
from tollkeeper.events.usage import MAX_COUNT, MAX_SEQUENCE, UsageRecorded
from tollkeeper.events.usage_rules import MAX_REMEMBERED, usage_holds
from tollkeeper.money.amounts import MAX_CAP_NANOS

Samples = dict[type, Event]
Forge = Callable[..., bytes]


class Surface(enum.StrEnum):
    """Looks like a string, and isn't one."""

    WEB = "web"


class Count(int):
    """Looks like an int, and isn't one."""


def _changed(event: Event, field: str, value: object) -> Event:
    return msgspec.structs.replace(event, **{field: value})


LIMITS: list[tuple[type, str, list[Any], list[Any]]] = [
    (UsageRecorded, "event_id", ["!", "a" * 127, "~" * 128, "a@b/c"], ["", "a" * 129, "a b", "é"]),
    (UsageRecorded, "organization", ["a", "a.b_c:~|=+-9"], ["", "a/b", "a" * 129, "a@b", "a b"]),
    (UsageRecorded, "member", ["a", "a/b.c_d:~|=+-9", "a" * 128], ["", "a" * 129, "a@b", "ä"]),
    (UsageRecorded, "surface", ["web", "cowork", "claude_code"], ["", "Web", "web ", "api"]),
    (UsageRecorded, "model", ["m", "openai/gpt@x", "m" * 128], ["", "m" * 129, "m m", "m\n"]),
    (UsageRecorded, "service_tier", ["s", "s" * 64], ["", "s" * 65, "s s"]),
    (UsageRecorded, "speed", ["fast", "s" * 64], ["", "s" * 65]),
    (UsageRecorded, "region", ["us", "s" * 64], ["", "s" * 65]),
    (UsageRecorded, "usage_source", ["reported", "estimated"], ["", "guessed"]),
    (UsageRecorded, "request_id", [None, "r" * 128], ["", "r" * 129, "r r"]),
    (UsageRecorded, "hold_id", [None, "h" * 128], ["", "h" * 129, "h\t"]),
    (UsageRecorded, "input_tokens", [0, 1, MAX_COUNT], [-1, MAX_COUNT + 1]),
    (UsageRecorded, "output_tokens", [0, 1, MAX_COUNT], [-1, MAX_COUNT + 1]),
    (UsageRecorded, "cache_read_tokens", [0, 1, MAX_COUNT], [-1, MAX_COUNT + 1]),
    (UsageRecorded, "cache_write_5m_tokens", [0, 1, MAX_COUNT], [-1, MAX_COUNT + 1]),
    (UsageRecorded, "cache_write_1h_tokens", [0, 1, MAX_COUNT], [-1, MAX_COUNT + 1]),
    (UsageRecorded, "web_search_requests", [0, 1, MAX_COUNT], [-1, MAX_COUNT + 1]),
    (UsageRecorded, "occurred_at", [MIN_INSTANT, MAX_INSTANT - 1], [MIN_INSTANT - 1, MAX_INSTANT]),
    (UsageRecorded, "emitter", ["e", "e" * 128], ["", "e" * 129, "e e", "e@x"]),
    (UsageRecorded, "sequence", [1, 2, MAX_SEQUENCE], [0, -1, MAX_SEQUENCE + 1]),
    (org.OrganizationOpened, "version", [1, 2, 2**62], [0, -1, 2**62 + 1]),
    (org.OrganizationOpened, "plan", sorted(org.PLANS), ["", "enterprise", "free"]),
    (org.OrganizationOpened, "channel", ["self_serve", "sales_assisted"], ["", "partner"]),
    (org.OrganizationOpened, "primary_owner", ["m/1"], ["", "ada@example.org"]),
    (org.OrganizationOpened, "occurred_at", [MIN_INSTANT], [MIN_INSTANT - 1, MAX_INSTANT]),
    (org.MemberAdded, "role", ["primary_owner", "owner", "admin", "member"], ["", "root"]),
    (org.MemberAdded, "command_id", ["c" * 128], ["", "c" * 129, "c c"]),
    (org.MemberRemoved, "actor", ["operator"], ["", "ada@example.org"]),
    (org.RoleChanged, "role", ["member"], ["Member"]),
    (org.OwnershipTransferred, "to_member", ["m-x"], ["m-ada", "", "x@y"]),
    (org.CreditsPurchased, "purchase_id", ["p/1"], ["", "p 1"]),
    (org.CreditsPurchased, "credit_nanos", [1, 2, MAX_CAP_NANOS], [0, -1, MAX_CAP_NANOS + 1]),
    (org.CreditsPurchased, "reference", [None, "x" * 1_000, "会計　伝票"], ["", " ", "x" * 1_001]),
    (org.CreditsVoided, "credit_nanos", [1, MAX_CAP_NANOS], [0, MAX_CAP_NANOS + 1]),
    (
        org.CreditsVoided,
        "reason",
        ["ü" * 1_000, "👩‍💻"],
        ["", "x" * 1_001, "a\x00", "a\n", "\u202e"],
    ),
    (org.SpendCapSet, "cap_nanos", [0, 1, MAX_CAP_NANOS], [-1, MAX_CAP_NANOS + 1, None]),
    (org.SpendCapSet, "member", ["m"], [None, "", "m@x"]),
    (org.SpendCapSet, "scope", ["member"], ["organization", "member_default", "team", ""]),
    (org.SpendCapSet, "setting", ["capped"], ["unlimited", "inherit", "none", ""]),
    (PricesPublished, "effective_from", [MIN_INSTANT], [MIN_INSTANT - 1, MAX_INSTANT]),
    (PricesPublished, "source", ["x" * 1_000], ["", "x" * 1_001, "a\x1b[2J", "a\u2028b"]),
    (PricesPublished, "source_date", ["2028-02-29"], ["2026-02-29", "2026-1-1", "20260101", ""]),
    (PricesWithdrawn, "publication_id", ["p" * 128], ["", "p" * 129]),
    (QuarantineReleased, "letter_partition", [0, 1, 2**31 - 1], [-1, 2**31]),
    (QuarantineReleased, "letter_offset", [0, 1, 2**63 - 1], [-1]),
    (org.ThresholdsSet, "credits_low_percent", [0, 1, 100], [-1, 101]),
    (org.GatePolicySet, "policy", ["open"], ["closed", "observe", "inherit", "", "ajar"]),
    (org.GatePolicySet, "ceiling_nanos", [0, 1, MAX_CAP_NANOS], [-1, MAX_CAP_NANOS + 1, None]),
    (org.GatePolicySet, "until", [None, MIN_INSTANT], [MIN_INSTANT - 1, MAX_INSTANT]),
    (DefaultGatePolicySet, "policy", ["closed", "observe"], ["open", "inherit", ""]),
    (DefaultGatePolicySet, "version", [1, 2**62], [0, 2**62 + 1]),
    (LimitReached, "limit", ["member_cap", "c" * 64], ["", "c" * 65, "Member", "a b", "a/b"]),
    (
        LimitReached,
        "scope",
        ["member/ann", "project/a/b"],
        ["", "member", "member/", "/ann", "m/a@b"],
    ),
    (LimitReached, "scope", ["m" * 64 + "/" + "a" * 128], ["m" * 65 + "/a", "m/" + "a" * 129]),
    (LimitReached, "period_start", [MIN_INSTANT], [MIN_INSTANT - 1, MAX_INSTANT]),
    (LimitReached, "cap_micros", [0, 1, 2**53], [-1, 2**53 + 1]),
    (LimitReached, "spent_micros", [0, 2**53], [-1, 2**53 + 1]),
    (LimitReached, "held_micros", [0, 2**53], [-1, 2**53 + 1]),
    (LimitReached, "requested_micros", [0, 2**53], [-1, 2**53 + 1]),
    (LimitReached, "organization", ["a"], ["", "a/b"]),
    (LimitReached, "member", ["m/a"], ["", "m@a"]),
    (CallAdmitted, "event_id", ["!", "e" * 128], ["", "e" * 129, "e e"]),
    (CallAdmitted, "policy", ["open", "observe"], ["", "closed"]),
    (CallAdmitted, "cause", ["unavailable", "member_cap,credits", "c" * 64], ["", "c" * 65, "a b"]),
    (CallAdmitted, "amount_micros", [0, 2**53], [-1, 2**53 + 1]),
    (QuarantineDiscarded, "reason", ["r"], ["", "\t", "r\x7f", "r\x85"]),
    (EmitterStarted, "emitter", ["e", "e" * 128], ["", "e" * 129, "e e"]),
    (EmitterRetired, "emitter", ["e", "e" * 128], ["", "e" * 129, "e e"]),
    (EmitterRetired, "actor", ["operator"], ["", "ada@example.org"]),
    (EmitterRetired, "reason", sorted(get_args(RetirementReason)), ["", "Closed", "dead"]),
]
# Where fields have to fit together, the error may name the other one.
PARTNERS = {"scope": "member", "setting": "cap_nanos", "policy": "ceiling_nanos"}


@pytest.mark.parametrize(
    ("kind", "field", "inside", "outside"), LIMITS, ids=lambda part: getattr(part, "__name__", None)
)
def test_a_fields_limits_hold_where_it_is_written_and_where_it_is_read(
    samples: Samples, forge: Forge, kind: type, field: str, inside: list[Any], outside: list[Any]
) -> None:
    sample = samples[kind]
    for value in inside:
        event = _changed(sample, field, value)
        assert decode(encode(event)) == event
    for value in outside:
        names = {field, PARTNERS.get(field, field)}
        with pytest.raises(InvalidEvent) as written:
            encode(_changed(sample, field, value))
        assert written.value.field in names
        with pytest.raises(InvalidEvent) as read:
            decode(forge(sample, **{field: value}))
        assert (read.value.field, read.value.rule) == (written.value.field, written.value.rule)


def test_the_limits_above_cover_every_field_of_usage() -> None:
    covered = {field for kind, field, _, _ in LIMITS if kind is UsageRecorded}
    assert covered == set(UsageRecorded.__struct_fields__)


WRONG_TYPES: list[Any] = [
    1.5,
    1.0,
    float("nan"),
    float("inf"),
    True,
    False,
    Count(5),
    2**64,
    -(2**70_000),
    b"web",
    Surface.WEB,
    "5",
    "web\ud800",
    [],
    {},
    object(),
]


@pytest.mark.parametrize("field", UsageRecorded.__struct_fields__)
def test_a_wrong_type_is_refused_by_field_when_written(samples: Samples, field: str) -> None:
    sample = samples[UsageRecorded]
    right = type(getattr(sample, field))
    for value in WRONG_TYPES:
        if type(value) is right or (type(value) is str and value == "5"):
            continue
        with pytest.raises(InvalidEvent) as refused:
            encode(_changed(sample, field, value))
        assert refused.value.field == field
        assert str(refused.value).isascii() and len(str(refused.value)) < 300


@pytest.mark.parametrize("field", ["event_id", "member", "surface", "model", "region", "emitter"])
def test_a_lone_surrogate_is_refused_by_field(samples: Samples, forge: Forge, field: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        encode(_changed(samples[UsageRecorded], field, "web\ud800"))
    assert refused.value.field == field
    placed = forge(samples[UsageRecorded], **{field: "web***"})
    with pytest.raises(Undecodable, match="UnicodeDecodeError"):
        decode(placed.replace(b"web***", b"web\xed\xa0\x80"))


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (org.SpendCapSet, "cap_nanos"),
        (org.CreditsPurchased, "credit_nanos"),
        (QuarantineReleased, "letter_offset"),
        (LimitReached, "spent_micros"),
    ],
)
@pytest.mark.parametrize("value", [1.5, True, Count(7), "7"])
def test_money_and_positions_are_whole_numbers(
    samples: Samples, kind: type, field: str, value: object
) -> None:
    with pytest.raises(InvalidEvent, match=f"{field}: must be a whole number"):
        encode(_changed(samples[kind], field, value))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scope": "organization"}, "member"),
        ({"scope": "member_default", "member": None, "cap_nanos": None}, "cap_nanos"),
        ({"member": None}, "member"),
        ({"setting": "unlimited"}, "cap_nanos"),
        ({"setting": "inherit", "cap_nanos": 0}, "cap_nanos"),
    ],
)
def test_r19_a_cap_names_a_member_and_an_amount_exactly_when_it_has_them(
    samples: Samples, forge: Forge, changes: dict[str, Any], field: str
) -> None:
    sample = samples[org.SpendCapSet]
    with pytest.raises(InvalidEvent) as written:
        encode(msgspec.structs.replace(sample, **changes))
    with pytest.raises(InvalidEvent) as read:
        decode(forge(sample, **changes))
    assert written.value.field == read.value.field == field


def _row(**changes: Any) -> PriceRow:
    return msgspec.structs.replace(PriceRow(model="m", input_picos=1), **changes)


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ((), "prices"),
        ((_row(input_picos=None),), "prices[0]"),
        ((_row(), _row()), "prices[1]"),
        ((_row(), _row(region="us"), _row(input_picos=2)), "prices[2]"),
        ((_row(), _row(model="")), "prices[1].model"),
        ((_row(service_tier=""),), "prices[0].service_tier"),
        ((_row(over_prompt_tokens=-1),), "prices[0].over_prompt_tokens"),
        ((_row(input_picos=-1),), "prices[0].input_picos"),
        ((_row(output_picos=10**12 + 1),), "prices[0].output_picos"),
        ((_row(web_search_picos=MAX_REQUEST_PICOS + 1),), "prices[0].web_search_picos"),
    ],
)
def test_r15_a_publication_with_a_wrong_row_is_refused_by_place(
    samples: Samples, forge: Forge, rows: tuple[PriceRow, ...], field: str
) -> None:
    sample = samples[PricesPublished]
    with pytest.raises(InvalidEvent) as written:
        encode(_changed(sample, "prices", rows))
    with pytest.raises(InvalidEvent) as read:
        decode(forge(sample, prices=msgspec.to_builtins(rows)))
    assert written.value.field == read.value.field == field


@pytest.mark.parametrize("rows", [[_row()], (None,), ({"model": "m"},), "m", None])
def test_price_rows_of_another_type_are_refused(samples: Samples, rows: object) -> None:
    with pytest.raises(InvalidEvent, match=r"prices(\[0\])?: must be a"):
        encode(_changed(samples[PricesPublished], "prices", rows))


@pytest.mark.parametrize("picos", [0, 1, 10**12])
def test_r15_a_price_may_be_zero_up_to_a_dollar_a_token(samples: Samples, picos: int) -> None:
    rows = (_row(input_picos=picos), _row(over_prompt_tokens=1, web_search_picos=MAX_REQUEST_PICOS))
    event = _changed(samples[PricesPublished], "prices", rows)
    assert decode(encode(event)) == event


def _thresholds(*percents: int) -> tuple[org.Threshold, ...]:
    return tuple(org.Threshold(cap_percent=percent) for percent in percents)


@pytest.mark.parametrize("percents", [(), (1,), (100,), (75, 90, 100), tuple(range(81, 101))])
def test_r26_thresholds_rise_from_1_to_100_per_cent(
    samples: Samples, percents: tuple[int, ...]
) -> None:
    event = _changed(samples[org.ThresholdsSet], "cap_thresholds", _thresholds(*percents))
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("percents", "field"),
    [
        ((0,), "cap_thresholds[0].cap_percent"),
        ((101,), "cap_thresholds[0].cap_percent"),
        ((75, 75), "cap_thresholds[1]"),
        ((90, 75), "cap_thresholds[1]"),
        (tuple(range(1, 22)), "cap_thresholds"),
    ],
)
def test_r26_other_thresholds_are_refused_by_place(
    samples: Samples, forge: Forge, percents: tuple[int, ...], field: str
) -> None:
    sample = samples[org.ThresholdsSet]
    rows = _thresholds(*percents)
    with pytest.raises(InvalidEvent) as written:
        encode(_changed(sample, "cap_thresholds", rows))
    with pytest.raises(InvalidEvent) as read:
        decode(forge(sample, cap_thresholds=msgspec.to_builtins(rows)))
    assert written.value.field == read.value.field == field


def test_a_policy_that_is_inherited_has_no_end(samples: Samples) -> None:
    inherited = msgspec.structs.replace(
        samples[org.GatePolicySet], policy="inherit", ceiling_nanos=None
    )
    with pytest.raises(InvalidEvent, match="until"):
        encode(inherited)
    assert encode(msgspec.structs.replace(inherited, until=None))


_STRINGS = st.sampled_from(
    [
        "",
        "a",
        "web",
        "reported",
        "a b",
        "a@b",
        "a/b",
        "é",
        "\x00",
        "a\n",
        "\ud800",
        "a" * 64,
        "a" * 129,
    ]
)
_NUMBERS = st.sampled_from(
    [-1, 0, 1, MAX_COUNT, MAX_COUNT + 1, MIN_INSTANT - 1, MIN_INSTANT, MAX_INSTANT, 2**62, 2**63]
)


@given(data=st.data())
def test_the_fast_rules_of_usage_say_what_the_full_rules_say(
    samples: Samples, data: st.DataObject
) -> None:
    values = msgspec.structs.asdict(samples[UsageRecorded])
    for field in data.draw(st.sets(st.sampled_from(sorted(values)), max_size=3)):
        values[field] = data.draw(_STRINGS if isinstance(values[field], str | None) else _NUMBERS)
    try:
        check_event(UsageRecorded(**values))
        holds = True
    except InvalidEvent:
        holds = False
    assert usage_holds(*values.values()) is holds
    assert usage_holds(**values) is holds  # the parameters stand in the fields' order


def test_what_is_remembered_as_valid_is_bounded(samples: Samples) -> None:
    values = msgspec.structs.asdict(samples[UsageRecorded])
    for number in range(MAX_REMEMBERED + 10):
        made_up = f"x{number}"
        values |= {"organization": made_up, "member": made_up, "region": made_up}
        assert usage_holds(**values)
    for remembered in (
        usage_rules._organizations,
        usage_rules._members_and_emitters,
        usage_rules._labels,
    ):
        assert 0 < len(remembered) <= MAX_REMEMBERED
