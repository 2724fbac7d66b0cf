"""Given an organization's events, when a command comes, then events or a refusal (RULES R14, R19 to R24)."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    GatePolicySet,
    MemberAdded,
    MemberRemoved,
    OrganizationEvent,
    OrganizationOpened,
    OwnershipTransferred,
    Role,
    RoleChanged,
    SpendCapSet,
    ThresholdsSet,
)
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.money.amounts import MAX_CAP_NANOS
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetGatePolicy,
    SetRole,
    SetThresholds,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.organizations.decide import Terms, decide
from tollkeeper.organizations.state import OrganizationState, evolve

NOW = 1_793_880_000_000_000
PEOPLE: dict[str, Role] = {
    "pia": "primary_owner",
    "otto": "owner",
    "ada": "admin",
    "max": "member",
}


def terms(actor: str = "operator", **fields: Any) -> Terms:
    return Terms(**{"actor": actor, "command_id": "c", "now": NOW, **fields})


def decided(state: OrganizationState | None, command: Command, actor: str = "operator") -> Any:
    """The one event, or the one reason."""
    outcome = decide(command, state, terms(actor))
    if isinstance(outcome, Refusal):
        (reason,) = outcome.reasons
        return reason
    (event,) = outcome
    return event


def after(state: OrganizationState | None, command: Command, actor: str = "operator") -> Any:
    event = decided(state, command, actor)
    assert not isinstance(event, Reason), event
    return evolve(state, event)


@pytest.fixture
def acme() -> OrganizationState:
    """Self-serve, with a member of each role and one purchase."""
    state = after(
        None, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="pia")
    )
    for member, role in list(PEOPLE.items())[1:]:
        state = after(state, AddMember(organization="acme", member=member, role=role))
    result: OrganizationState = after(state, BuyCredits(organization="acme", credit_nanos=10**9))
    return result


ACTORS = ("operator", "pia", "otto", "ada", "max", "stranger")
OWNERS = {"operator", "pia", "otto"}
ADMINS = OWNERS | {"ada"}
MAY: list[tuple[str, Command, set[str]]] = [
    ("add a member", AddMember(organization="acme", member="new"), ADMINS),
    ("add an admin", AddMember(organization="acme", member="new", role="admin"), OWNERS),
    ("add an owner", AddMember(organization="acme", member="new", role="owner"), OWNERS),
    ("remove a member", RemoveMember(organization="acme", member="max"), ADMINS),
    ("remove an admin", RemoveMember(organization="acme", member="ada"), OWNERS),
    ("remove an owner", RemoveMember(organization="acme", member="otto"), OWNERS),
    ("promote", SetRole(organization="acme", member="max", role="owner"), OWNERS),
    ("demote", SetRole(organization="acme", member="otto", role="member"), OWNERS),
    ("hand over", TransferOwnership(organization="acme", member="ada"), {"operator", "pia"}),
    ("buy credits", BuyCredits(organization="acme", credit_nanos=1), OWNERS),
    (
        "void credits",
        VoidCredits(organization="acme", purchase_id="purchase-5", reason="wrong"),
        {"operator"},
    ),
    (
        "cap the organization",
        SetCap(organization="acme", scope="organization", setting="capped", cap_nanos=5),
        OWNERS,
    ),
    (
        "cap a member",
        SetCap(organization="acme", scope="member", member="max", setting="unlimited"),
        OWNERS,
    ),
    (
        "configure notifications",
        SetThresholds(organization="acme", credits_low_percent=5),
        OWNERS,
    ),
    (
        "set the gate's policy",
        SetGatePolicy(organization="acme", policy="observe"),
        {"operator"},
    ),
]


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize(("what", "command", "who"), MAY, ids=[what for what, _, _ in MAY])
def test_r14_who_may_do_what(
    acme: OrganizationState, what: str, command: Command, who: set[str], actor: str
) -> None:
    outcome = decided(acme, command, actor)
    if actor in who:
        assert not isinstance(outcome, Reason), outcome
        assert outcome.actor == actor  # the operator too is recorded as such
        assert (outcome.version, outcome.occurred_at) == (acme.version + 1, NOW)
    else:
        assert (outcome.reason, outcome.rule) == ("role", "R14")
        assert actor in outcome.message
        assert set(outcome.who_can_lift) >= {"operator"}
        assert outcome.next_step


@pytest.mark.parametrize("actor", ["pia", "stranger"])
def test_r14_only_the_operator_opens_an_organization(actor: str) -> None:
    command = OpenOrganization(organization="new", plan="enterprise_self_serve", owner="pia")
    assert decided(None, command, actor).reason == "role"


REFUSED: list[tuple[Command, str, str]] = [
    (
        OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="x"),
        "organization",
        "open already",
    ),
    (AddMember(organization="acme", member="max"), "member", "member already"),
    (AddMember(organization="acme", member="operator"), "member", "operator"),
    (
        AddMember(organization="acme", member="new", role="primary_owner"),
        "primary_owner",
        "exactly one",
    ),
    (RemoveMember(organization="acme", member="pia"), "primary_owner", "primary owner"),
    (RemoveMember(organization="acme", member="nobody"), "member", "isn't a member"),
    (SetRole(organization="acme", member="pia", role="member"), "primary_owner", "exactly one"),
    (
        SetRole(organization="acme", member="max", role="primary_owner"),
        "primary_owner",
        "exactly one",
    ),
    (SetRole(organization="acme", member="max", role="member"), "role", "member already"),
    (SetRole(organization="acme", member="nobody", role="owner"), "member", "isn't a member"),
    (TransferOwnership(organization="acme", member="pia"), "member", "already"),
    (TransferOwnership(organization="acme", member="nobody"), "member", "isn't a member"),
    (
        VoidCredits(organization="acme", purchase_id="purchase-9", reason="r"),
        "purchase",
        "doesn't exist",
    ),
    (SetCap(organization="acme", scope="organization", setting="inherit"), "cap", "inherit"),
    (SetCap(organization="acme", scope="member_default", setting="inherit"), "cap", "inherit"),
    (
        SetCap(organization="acme", scope="member", member="nobody", setting="unlimited"),
        "member",
        "isn't a member",
    ),
]


@pytest.mark.parametrize(("command", "reason", "message"), REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(
    acme: OrganizationState, command: Command, reason: str, message: str
) -> None:
    refused = decided(acme, command)
    assert isinstance(refused, Reason)
    assert refused.reason == reason
    assert message in refused.message
    assert refused.next_step
    if reason == "primary_owner":
        assert refused.who_can_lift == ("primary_owner", "operator")


@pytest.mark.parametrize("command", [command for _, command, _ in MAY])
def test_r24_an_unknown_organization_is_named(command: Command) -> None:
    refused = decided(None, command)
    assert refused.reason == "organization"
    assert "acme" in refused.message
    assert "tollkeeper org open acme" in refused.next_step


@pytest.mark.parametrize(
    ("plan", "channel", "expected"),
    [
        ("enterprise_self_serve", None, "self_serve"),
        ("enterprise_self_serve", "sales_assisted", None),
        ("enterprise_sales_assisted", None, "sales_assisted"),
        ("enterprise_sales_assisted", "self_serve", None),
        ("enterprise_chat_code", None, None),
        ("enterprise_chat_code", "self_serve", "self_serve"),
        ("seat_based_legacy", "sales_assisted", "sales_assisted"),
        ("enterprise_imaginary", "self_serve", None),
    ],
)
def test_r2_the_channel_is_implied_or_said(plan: str, channel: Any, expected: str | None) -> None:
    command = OpenOrganization(organization="new", plan=plan, owner="pia", channel=channel)
    outcome = decided(None, command)
    if expected is None:
        assert (outcome.reason in ("plan", "channel"), outcome.rule) == (True, "R2")
    else:
        assert (outcome.plan, outcome.channel) == (plan, expected)


@pytest.mark.parametrize(
    ("nanos", "is_bought"),
    [(-1, False), (0, False), (1, True), (MAX_CAP_NANOS, True), (MAX_CAP_NANOS + 1, False)],
)
def test_r21_credits_are_above_zero_and_bounded(
    acme: OrganizationState, nanos: int, is_bought: bool
) -> None:
    outcome = decided(acme, BuyCredits(organization="acme", credit_nanos=nanos), "otto")
    assert isinstance(outcome, CreditsPurchased) == is_bought
    if is_bought:
        assert evolve(acme, outcome).purchased_nanos == 10**9 + nanos


def test_r21_all_purchases_together_fit_64_bits(acme: OrganizationState) -> None:
    once = after(acme, BuyCredits(organization="acme", credit_nanos=MAX_CAP_NANOS))
    refused = decided(once, BuyCredits(organization="acme", credit_nanos=MAX_CAP_NANOS))
    assert refused.reason == "credits"


@pytest.mark.parametrize(
    ("nanos", "is_set"),
    [(-1, False), (0, True), (1, True), (MAX_CAP_NANOS, True), (MAX_CAP_NANOS + 1, False)],
)
def test_r19_a_cap_is_zero_or_more_and_enforceable(
    acme: OrganizationState, nanos: int, is_set: bool
) -> None:
    command = SetCap(organization="acme", scope="organization", setting="capped", cap_nanos=nanos)
    outcome = decided(acme, command)
    assert isinstance(outcome, SpendCapSet) == is_set
    if is_set:
        assert evolve(acme, outcome).caps["organization", ""].cap_nanos == nanos


def test_r22_sales_assisted_organizations_buy_no_credits() -> None:
    command = OpenOrganization(organization="big", plan="enterprise_sales_assisted", owner="pia")
    refused = decided(after(None, command), BuyCredits(organization="big", credit_nanos=1), "pia")
    assert (refused.reason, refused.rule) == ("channel", "R22")


def test_r21_a_purchase_is_voided_once_and_whole(acme: OrganizationState) -> None:
    command = VoidCredits(organization="acme", purchase_id="purchase-5", reason="wrong")
    voided = after(acme, command)
    assert voided.purchased_nanos == 0
    assert "voided before" in decided(voided, command).message


def test_r14_ownership_is_handed_over_whole(acme: OrganizationState) -> None:
    handed = after(acme, TransferOwnership(organization="acme", member="ada"), "pia")
    assert (handed.primary_owner, handed.members["ada"]) == ("ada", "primary_owner")
    assert handed.members["pia"] == "owner"


@pytest.mark.parametrize(
    ("actor", "at", "reason"),
    [
        ("operator", NOW, None),
        ("operator", NOW + 1, "time"),
        ("operator", NOW - 1, "time"),
        ("pia", NOW, "role"),
    ],
)
def test_r2_history_is_brought_in_by_the_operator_in_order(
    acme: OrganizationState, actor: str, at: int, reason: str | None
) -> None:
    """The organization's last event is of NOW, and so is the present."""
    command = BuyCredits(organization="acme", credit_nanos=1)
    outcome = decide(command, acme, terms(actor, occurred_at=at))
    if reason is None:
        assert not isinstance(outcome, Refusal)
        assert outcome[0].occurred_at == at
    else:
        assert isinstance(outcome, Refusal)
        assert reason in [one.reason for one in outcome.reasons]


def test_r24_a_refusal_names_every_reason(acme: OrganizationState) -> None:
    outcome = decide(
        BuyCredits(organization="acme", credit_nanos=0), acme, terms("pia", occurred_at=NOW - 1)
    )
    assert isinstance(outcome, Refusal)
    assert [one.reason for one in outcome.reasons] == ["role", "credits"]


def test_r26_thresholds_are_sorted_once_each_and_what_is_left_out_stays(
    acme: OrganizationState,
) -> None:
    assert (acme.cap_percents, acme.credits_low_percent) == ((75, 90, 100), 10)
    event = decided(acme, SetThresholds(organization="acme", cap_percents=(100, 50, 50)))
    assert isinstance(event, ThresholdsSet)
    assert [one.cap_percent for one in event.cap_thresholds] == [50, 100]
    assert event.credits_low_percent == 10
    low = after(evolve(acme, event), SetThresholds(organization="acme", credits_low_percent=0))
    assert (low.cap_percents, low.credits_low_percent) == ((50, 100), 0)
    none = after(low, SetThresholds(organization="acme", cap_percents=()))
    assert (none.cap_percents, none.credits_low_percent) == ((), 0)


@pytest.mark.parametrize(("until", "is_allowed"), [(NOW - 1, False), (NOW, False), (NOW + 1, True)])
def test_a_policy_ends_after_it_begins(
    acme: OrganizationState, until: int, is_allowed: bool
) -> None:
    command = SetGatePolicy(organization="acme", policy="open", ceiling_nanos=5, until=until)
    event = decided(acme, command)
    if is_allowed:
        assert isinstance(event, GatePolicySet)
        assert evolve(acme, event).gate_policy == event
        assert (event.policy, event.ceiling_nanos, event.until) == ("open", 5, until)
    else:
        assert event.reason == "until"


@pytest.mark.parametrize("version", [1, 2, 4])
def test_events_follow_each_other_without_a_gap(version: int) -> None:
    opened = OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="pia")
    state = after(after(None, opened), AddMember(organization="acme", member="max"))
    wrong = MemberAdded(
        organization="acme",
        version=version,
        command_id="c",
        actor="operator",
        occurred_at=NOW,
        member="new",
        role="member",
    )
    with pytest.raises(BrokenInvariant, match="can't follow"):
        evolve(state, wrong)


def test_every_event_has_a_command_here() -> None:
    """A new event type needs its rows in the tables above."""
    assert {type(decided_event).__name__ for decided_event in _one_of_each()} == {
        kind.__name__ for kind in get_args(OrganizationEvent)
    }


def _one_of_each() -> list[object]:
    state: Any = after(
        None, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="pia")
    )
    kinds: list[object] = [
        decided(
            None, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="p")
        )
    ]
    for command in (
        AddMember(organization="acme", member="max"),
        SetRole(organization="acme", member="max", role="admin"),
        TransferOwnership(organization="acme", member="max"),
        RemoveMember(organization="acme", member="pia"),
        BuyCredits(organization="acme", credit_nanos=1),
        VoidCredits(organization="acme", purchase_id="purchase-6", reason="wrong"),
        SetCap(organization="acme", scope="member_default", setting="capped", cap_nanos=1),
        SetThresholds(organization="acme", cap_percents=(50,)),
        SetGatePolicy(organization="acme", policy="observe"),
    ):
        kinds.append(decided(state, command))
        state = after(state, command)
    assert isinstance(kinds[3], OwnershipTransferred)
    assert isinstance(kinds[4], MemberRemoved)
    assert isinstance(kinds[2], RoleChanged)
    assert isinstance(kinds[6], CreditsVoided)
    assert isinstance(kinds[0], OrganizationOpened)
    return kinds
