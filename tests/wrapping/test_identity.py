"""Who pays comes from the context: nested, per task, never by chance."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.identity import Identity, acting_for, who_acts

DEFAULT = Identity(organization="acme", member="service", surface="web")


def test_the_innermost_block_counts_and_ends_with_itself() -> None:
    with acting_for(organization="acme", member="ann", surface="web") as outer:
        with acting_for(organization="acme", member="bob", surface="cowork", scopes=("g/1",)):
            assert (who_acts().member, who_acts().scopes) == ("bob", ("g/1",))
        assert who_acts() is outer
    with pytest.raises(Misuse, match="acting_for"):
        who_acts()


def test_the_default_counts_only_without_a_block() -> None:
    assert who_acts(DEFAULT) is DEFAULT
    with acting_for(organization="acme", member="ann", surface="web"):
        assert who_acts(DEFAULT).member == "ann"


def test_a_block_ends_with_an_error_too() -> None:
    with pytest.raises(ValueError), acting_for(organization="a", member="b", surface="web"):
        raise ValueError
    assert who_acts(DEFAULT) is DEFAULT


def test_tasks_have_their_own_and_inherit_it() -> None:
    async def one(member: str) -> list[str]:
        with acting_for(organization="acme", member=member, surface="web"):
            first = who_acts().member
            await asyncio.sleep(0)
            return [first, await asyncio.create_task(inner())]

    async def inner() -> str:
        return who_acts().member

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(one("ann"), one("bob")))

    assert asyncio.run(both()) == [["ann", "ann"], ["bob", "bob"]]


def test_a_thread_begins_with_none_and_is_told_what_to_do() -> None:
    told: list[str] = []

    def work() -> None:
        try:
            who_acts()
        except Misuse as error:
            told.append(str(error))

    with acting_for(organization="acme", member="ann", surface="web"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "contextvars.copy_context()" in told[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"organization": ""}, "organization"),
        ({"member": None}, "member"),
        ({"surface": "fridge"}, "surface must be one of"),
    ],
)
def test_an_identity_that_cannot_be_is_refused_at_once(change: dict[str, str], match: str) -> None:
    fields: dict[str, Any] = {"organization": "acme", "member": "ann", "surface": "web", **change}
    with pytest.raises(Misuse, match=match):
        acting_for(**fields).__enter__()
