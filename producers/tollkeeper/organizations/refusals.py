"""Every reason for which a command on an organization is refused, worded once (RULES R24). Pure."""

from __future__ import annotations

from tollkeeper.events.refusal import Reason

OPERATOR_ONLY = ("operator",)
PRIMARY_OWNER = ("primary_owner", "operator")
OWNERS = ("primary_owner", "owner", "operator")
ADMINS = ("primary_owner", "owner", "admin", "operator")


def not_open(organization: str) -> Reason:
    """The organization doesn't exist."""
    return Reason(
        reason="organization",
        rule="R24",
        message=f"there is no organization {organization}",
        who_can_lift=OPERATOR_ONLY,
        next_step=f"open it: tollkeeper org open {organization} --plan PLAN --owner MEMBER",
    )


def already_open(organization: str) -> Reason:
    """The organization exists."""
    return Reason(
        reason="organization",
        rule="R2",
        message=f"{organization} is open already",
        who_can_lift=(),
        next_step=f"look at it: tollkeeper org show {organization}",
    )


def not_allowed(actor: str, role: str | None, what: str, who: tuple[str, ...]) -> Reason:
    """The actor's role doesn't cover the command."""
    standing = f"{actor} is {role}" if role else f"{actor} isn't a member"
    return Reason(
        reason="role",
        rule="R14",
        message=f"{standing}, and only {', '.join(who)} may {what}",
        who_can_lift=who,
        next_step=f"ask one of them to {what}",
    )


def no_member(organization: str, member: str) -> Reason:
    """The person isn't in the organization."""
    return Reason(
        reason="member",
        rule="R24",
        message=f"{member} isn't a member of {organization}",
        who_can_lift=ADMINS,
        next_step=f"add them: tollkeeper org add-member {organization} {member}",
    )


def primary_owner_stays(organization: str, message: str) -> Reason:
    """There is always exactly one primary owner, so that only a transfer changes who it is."""
    return Reason(
        reason="primary_owner",
        rule="R14",
        message=message,
        who_can_lift=PRIMARY_OWNER,
        next_step=f"hand that over: tollkeeper org transfer-ownership {organization} MEMBER",
    )


def other(reason: str, rule: str, message: str, next_step: str) -> Reason:
    """A reason that lies in the command itself: nobody can lift it, but another command is possible."""
    return Reason(reason=reason, rule=rule, message=message, who_can_lift=(), next_step=next_step)
