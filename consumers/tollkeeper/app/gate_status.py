"""Asks the gate where an organization stands, for figures that are shown; a gate that is away is a fact."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Absent
from tollkeeper.gate.redis_settings import RedisSettings, open_running_functions
from tollkeeper.logline import LogLine, failure
from tollkeeper.reports.status import WHOLE, GateStatus

logger = logging.getLogger(__name__)

NOBODY = "-"
"""No member's name: what a hold of nobody would be checked against is the organization's own."""


def ask_standing(
    settings: RedisSettings, organization: str, members: Iterable[str]
) -> Mapping[str, GateStatus]:
    """What the gate says of each member, and under '' of the organization; None: it is away.

    An embedded gate that doesn't run isn't started: it knows nothing, and nothing is held there.
    """
    wanted = [WHOLE, *members]
    try:
        functions = open_running_functions(settings)
        if functions is None:
            return dict.fromkeys(wanted, Absent())
        try:
            return {
                one: functions.run(encoding.status(organization, member=one or NOBODY))
                for one in wanted
            }
        finally:
            functions.close()
    except GateUnavailable as away:
        logger.debug(LogLine("gate_away", **failure(away)))
        return dict.fromkeys(wanted, None)
