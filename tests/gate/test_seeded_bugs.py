"""Each seeded bug is caught by an example; most also by the machine alone, which knows none of them."""

from __future__ import annotations

import pytest
from gate.bugs import BUGS
from gate.machine import GateMachine
from gate.scenarios_copy import COPY
from gate.scenarios_following import FOLLOWING
from gate.scenarios_money import MONEY
from gate.scenarios_trust import TRUST
from gate.servers import replaced, told_the_time
from gate.world import World
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from services.finding import Service

from tollkeeper.errors import BrokenInvariant
from tollkeeper.gate.library import lua_source

WRONG = (AssertionError, BrokenInvariant, pytest.fail.Exception)
"""An answer that should have been another, or a function that breaks."""

NOT_FOR_THE_MACHINE = {
    # It takes the administration of a primary for granted.
    *(
        "emitter_not_noted",
        "retired_isn_t_final",
        "a_late_renewal_counts_anew",
        "two_versions_decide",
    ),
    *("another_incarnation_is_renewed", "opened_before_all_have_answered"),
    *("the_living_aren_t_seen", "the_listed_were_never_seen", "the_retired_are_seen"),
    *("anybody_is_seen", "touched_at_another_server", "an_older_publication_is_taken"),
    *("a_publication_outlives_its_epoch", "nobody_is_woken"),
    # It asks the adapter, which refuses such a number before.
    "beyond_2_53",
    # It seldom does what it would take: see the example that was written for each.
    *("an_old_hold_is_extended", "warm_takes_unexamined_holds", "an_id_means_two_requests"),
    *("warm_leaves_the_retired_listed", "marks_go_and_the_clock_goes_back"),
}

SETTINGS = settings(
    max_examples=400,
    stateful_step_count=50,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 20
    assert set(BUGS) >= NOT_FOR_THE_MACHINE


@pytest.mark.parametrize("name", BUGS)
def test_an_example_catches(name: str, valkey: Service) -> None:
    source = replaced(lua_source(), BUGS[name].old, BUGS[name].new)
    with told_the_time(valkey.address, source) as server, pytest.raises(WRONG):
        for scenario in (*MONEY, *COPY, *TRUST, *FOLLOWING):
            scenario(World(server))


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(set(BUGS) - NOT_FOR_THE_MACHINE))
def test_the_machine_alone_catches(name: str, valkey: Service) -> None:
    source = replaced(lua_source(), BUGS[name].old, BUGS[name].new)
    with told_the_time(valkey.address, source) as server, pytest.raises(WRONG):
        run_state_machine_as_test(
            type("Machine", (GateMachine,), {"server": server}), settings=SETTINGS
        )
