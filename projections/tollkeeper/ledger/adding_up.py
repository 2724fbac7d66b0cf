"""Adding up a batch's new charges: by spend key and by organization. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from operator import itemgetter

from tollkeeper.errors import BrokenInvariant
from tollkeeper.ledger.fingerprint import MODULUS_MASK, charge_term
from tollkeeper.ledger.rows import COUNTS, PARTS, ChargeRow, PlainRow
from tollkeeper.ledger.view import (
    ALL_MEMBERS,
    Changes,
    OrganizationTotals,
    SpendKey,
    SpentKey,
    View,
)
from tollkeeper.money.amounts import MAX_NANOS
from tollkeeper.money.instants import MICROS_PER_DAY

_SPEND = itemgetter(
    *map(
        ChargeRow._fields.index,
        (
            "organization",
            "period_start",
            "occurred_at",
            "member",
            "surface",
            "model",
            "charge_nanos",
        ),
    )
)
_FACT = itemgetter(
    *map(ChargeRow._fields.index, ("payload_hash", "charge_nanos", "log_partition", "log_offset"))
)
_ONE_EVENT = (1,)


def add_up(
    rows: list[PlainRow],
    view: View,
    changes: Changes,
    spent_before: Callable[[Collection[SpentKey]], Mapping[SpentKey, int]],
) -> None:
    """Add new charges to the organizations' totals, and note what they add to `spend` and `spent`."""
    by_spend: defaultdict[SpendKey, list[PlainRow]] = defaultdict(list)
    by_organization: defaultdict[str, list[PlainRow]] = defaultdict(list)
    by_member: defaultdict[SpentKey, int] = defaultdict(int)
    for row in rows:
        name, period_start, occurred_at, member, surface, model, charge_nanos = _SPEND(row)
        day = occurred_at // MICROS_PER_DAY
        by_spend[name, period_start, day, member, surface, model].append(row)
        by_organization[name].append(row)
        by_member[name, period_start, member] += charge_nanos
    changes.spend = {key: _sums(group) for key, group in by_spend.items()}
    for name, group in by_organization.items():
        _add_to_organization(view.organizations[name], group)
    changes.organizations.update(by_organization)
    added = _with_organizations(by_member)
    view.spent.update(spent_before(added))
    changes.spent = {key: view.spent.get(key, 0) + nanos for key, nanos in added.items()}


def _with_organizations(by_member: Mapping[SpentKey, int]) -> dict[SpentKey, int]:
    """What each member adds, and what all of an organization add."""
    added: defaultdict[SpentKey, int] = defaultdict(int, by_member)
    for (name, period_start, _), charged_nanos in by_member.items():
        added[name, period_start, ALL_MEMBERS] += charged_nanos
    return added


def _add_to_organization(organization: OrganizationTotals, group: list[PlainRow]) -> None:
    columns = list(zip(*map(_FACT, group), strict=True))
    charged_nanos = sum(columns[1])
    organization.charged_events += len(group)
    organization.charged_nanos += charged_nanos
    if organization.charged_nanos > MAX_NANOS:
        name = organization.organization
        raise BrokenInvariant(f"the charges of {name} leave the range of 64 bits")
    if organization.channel == "self_serve":
        organization.used_nanos += charged_nanos
    terms = sum(map(charge_term, *columns))
    organization.fingerprint = (organization.fingerprint + terms) & MODULUS_MASK


def _sums(group: list[PlainRow]) -> tuple[int, ...]:
    """The number of events, and each count and each part summed up."""
    if len(group) == 1:
        return _ONE_EVENT + group[0][COUNTS] + group[0][PARTS]
    columns = zip(*[row[COUNTS] + row[PARTS] for row in group], strict=True)
    return (len(group), *map(sum, columns))
