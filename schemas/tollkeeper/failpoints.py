"""Named places where a test may kill, stop or fail the process; free when nothing is armed.

`TOLLKEEPER_FAILPOINTS="pipeline.after_commit=kill"` ends the process with SIGKILL at that place;
`=kill@3` at the third passage, `=stop` sends SIGSTOP, `=enospc` raises "no space left on device".
Several are separated by commas. Read once, at import. Must know nothing of what it interrupts.
"""

from __future__ import annotations

import errno
import os
import signal
import threading

VARIABLE = "TOLLKEEPER_FAILPOINTS"


def _parse(setting: str) -> dict[str, tuple[str, int]]:
    armed: dict[str, tuple[str, int]] = {}
    for part in filter(None, setting.split(",")):
        name, _, action = part.partition("=")
        verb, _, count = action.partition("@")
        armed[name.strip()] = (verb, int(count or "1"))
    return armed


_armed = _parse(os.environ.get(VARIABLE, ""))


def failpoint(name: str) -> None:
    """Mark a place between two effects; does nothing unless `name` is armed."""
    if _armed:
        _pass(name)


def _pass(name: str) -> None:
    verb, left = _armed.get(name, ("", 0))
    if not verb:
        return
    if left > 1:
        _armed[name] = (verb, left - 1)
        return
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "stop":
        del _armed[name]
        # To this thread: another one would take it, and this one would go on until that has run.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif verb == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        raise ValueError(f"{VARIABLE}: unknown action {verb!r} for {name}")
