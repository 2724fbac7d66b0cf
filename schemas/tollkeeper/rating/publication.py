"""Deciding about prices: what may be published or withdrawn, and what it would change (R16). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from tollkeeper.errors import InvalidEvent, InvalidPrice
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.events.rules import RULES
from tollkeeper.events.usage import TOKEN_TYPES
from tollkeeper.money.instants import MICROS_PER_HOUR, format_instant
from tollkeeper.rating.card import ModelKey, RateCard

NOTICE_MICROS = MICROS_PER_HOUR
"""How far ahead a change of price takes effect, at least (RULES R16)."""
WITHDRAWAL_NOTICE_MICROS = MICROS_PER_HOUR // 12
"""Decision: a withdrawal needs five minutes, so that every partition has it before the effect."""

PriceKey = tuple[str, str, str, str, str]
"""(model, service tier, speed, region, token type)."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Prices that somebody wants to publish; pico-USD a unit, in force from `effective_from` on."""

    publication_id: str
    effective_from: int
    source: str
    source_date: str
    prices: tuple[PriceRow, ...]


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One price before and after a publication takes effect.

    `old_picos` is None for a first price, `new_picos` where prompts of that length have none any more.
    """

    model: str
    service_tier: str
    speed: str
    region: str
    over_prompt_tokens: int
    token_type: str
    old_picos: int | None
    new_picos: int | None

    @property
    def is_large(self) -> bool:
        """Whether the price moves by more than half of what it was; a first price doesn't."""
        if self.old_picos is None:
            return False
        if self.new_picos is None:
            return True
        return abs(self.new_picos - self.old_picos) * 2 > self.old_picos


def check_proposal(proposal: Proposal) -> None:
    """Refuse what couldn't stand on the log: InvalidPrice names the field and the rule."""
    rules = RULES[PricesPublished]
    try:
        for name in Proposal.__struct_fields__:
            rules[name](name, getattr(proposal, name))
    except InvalidEvent as broken:
        raise InvalidPrice(broken.field, broken.rule) from broken


def decide_publication(
    known: Sequence[PricesPublished],
    proposal: Proposal,
    *,
    now: int,
    withdrawn: Collection[str] = (),
) -> Refusal | None:
    """Whether the prices may be published beside those in `known` (without withdrawn ones).

    A price may change at `effective_from` when that is an hour ahead, or when it covers only instants
    that no price covers yet: the first price of a model or token type may be back-dated, and an older
    one may be filled in up to where the first begins. An id in `withdrawn` stays taken.
    """
    if any(one.publication_id == proposal.publication_id for one in known):
        return _refused(
            "publication",
            f"{proposal.publication_id} was published, and a published price never changes",
            "publish under a new id, effective at least an hour ahead",
        )
    if proposal.publication_id in withdrawn:
        return _refused(
            "publication",
            f"{proposal.publication_id} was withdrawn, and an id stands for one publication",
            "publish under a new id",
        )
    if proposal.effective_from >= now + NOTICE_MICROS:
        return None
    begins = _first_instants(known)
    changed = sorted(
        key
        for key in _keys(proposal.prices)
        if key in begins and begins[key] <= proposal.effective_from
    )
    if not changed:
        return None
    model, tier, speed, region, token_type = changed[0]
    return _refused(
        "effective_from",
        f"{format_instant(proposal.effective_from)} would change {len(changed)} prices that are in force "
        f"already, the first is {token_type} of {model} ({tier}, {speed}, {region})",
        f"let it take effect at {format_instant(now + NOTICE_MICROS)} or later",
    )


def decide_withdrawal(
    known: Sequence[PricesPublished], publication_id: str, *, now: int
) -> Refusal | None:
    """Whether a publication may be taken back: only one that is known and not nearly in force."""
    found = next((one for one in known if one.publication_id == publication_id), None)
    if found is None:
        return _refused(
            "publication",
            f"there is no publication {publication_id} (any more)",
            "see them all: tollkeeper prices list",
        )
    if found.effective_from < now + WITHDRAWAL_NOTICE_MICROS:
        return _refused(
            "effective_from",
            f"{publication_id} takes effect at {format_instant(found.effective_from)}: it may have been "
            "used by the time that every partition knows",
            "publish a correction that takes effect in an hour",
        )
    return None


def changes(known: Iterable[PricesPublished], proposal: Proposal) -> list[PriceChange]:
    """Every price that the proposal speaks of, before and after, in each band of prompt lengths.

    A token type's prices are replaced as a whole: a band that the proposal leaves out is gone, and
    shown with what its prompts cost from then on.
    """
    card = RateCard(known)
    later = card.published(_as_published(proposal))
    named: dict[ModelKey, list[str]] = {}
    for row in proposal.prices:
        types = named.setdefault((row.model, row.service_tier, row.speed, row.region), [])
        types += [name for name in TOKEN_TYPES if getattr(row, f"{name}_picos") is not None]
    found = []
    for key, types in named.items():
        old = card.prices_at(key, proposal.effective_from)
        new = later.prices_at(key, proposal.effective_from)
        for bound in sorted({row.over_prompt_tokens for row in (*old, *new)}):
            for name in TOKEN_TYPES:
                if name in types:
                    prices = (_price(old, bound, name), _price(new, bound, name))
                    found.append(_change(key, bound, name, *prices))
    return found


def _as_published(proposal: Proposal) -> PricesPublished:
    return PricesPublished(
        publication_id=proposal.publication_id,
        effective_from=proposal.effective_from,
        source=proposal.source,
        source_date=proposal.source_date,
        prices=proposal.prices,
        command_id="",
        actor="",
        occurred_at=0,
    )


def _price(rows: Iterable[PriceRow], bound: int, name: str) -> int | None:
    """The price of a prompt just above `bound`, of rows with the lowest band first."""
    prices: list[int | None] = [
        getattr(row, f"{name}_picos") for row in rows if row.over_prompt_tokens <= bound
    ]
    return prices[-1] if prices else None


def _change(key: ModelKey, bound: int, name: str, old: int | None, new: int | None) -> PriceChange:
    return PriceChange(
        model=key[0],
        service_tier=key[1],
        speed=key[2],
        region=key[3],
        over_prompt_tokens=bound,
        token_type=name,
        old_picos=old,
        new_picos=new,
    )


def _first_instants(known: Iterable[PricesPublished]) -> dict[PriceKey, int]:
    begins: dict[PriceKey, int] = {}
    for publication in known:
        for key in _keys(publication.prices):
            begins[key] = min(
                begins.get(key, publication.effective_from), publication.effective_from
            )
    return begins


def _keys(rows: Iterable[PriceRow]) -> set[PriceKey]:
    return {
        (row.model, row.service_tier, row.speed, row.region, name)
        for row in rows
        for name in TOKEN_TYPES
        if getattr(row, f"{name}_picos") is not None
    }


def _refused(reason: str, message: str, next_step: str) -> Refusal:
    return Refusal(
        (
            Reason(
                reason=reason,
                rule="R16",
                message=message,
                who_can_lift=("operator",),
                next_step=next_step,
            ),
        )
    )
