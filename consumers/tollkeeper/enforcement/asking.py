"""Asking Redis many things at once, where one that can't be asked means that all is to be done again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tollkeeper.errors import TollkeeperError, Unavailable
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions

A = TypeVar("A")


def run_all(functions: GateFunctions, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
    """Each call's answer, or why its arguments were refused. Raises the first Unavailable."""
    answers = functions.run_many(calls)
    for answer in answers:
        if isinstance(answer, Unavailable):
            raise answer
    return answers
