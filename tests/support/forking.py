"""Forked children of tests: they run one function and end, and never come back into pytest."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable

from support.waiting import eventually


def in_fork(work: Callable[[], None], *, fork: Callable[[], int] = os.fork) -> int:
    """Run `work` in a forked child that never returns into pytest; the child's process id."""
    with warnings.catch_warnings():
        # Newer Pythons warn of forking with threads, which is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  (a child must end here, whatever happened)
        traceback.print_exc()
    finally:
        os._exit(status)


def ended_well(pid: int) -> bool:
    """Wait for a forked child's end; whether nothing went wrong in it."""
    done: list[int] = []

    def has_ended() -> bool:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            done.append(status)
        return bool(ended)

    eventually(has_ended, 30.0, what="the child's end")
    return done == [0]
