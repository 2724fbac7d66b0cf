"""The shell exit codes that programs rely on."""

from __future__ import annotations

from tollkeeper.errors import Halted, InvalidInput, Unavailable

DONE = 0
REFUSED = 1
"""Also: partly rejected, or a difference was found."""
USAGE = 2
AWAY = 3
"""Also: the answer is pending."""
BUG = 70
INTERRUPTED = 130


def code_of(error: BaseException) -> int:
    """The exit code of a command that this error ended."""
    match error:
        case InvalidInput():
            return USAGE
        case Unavailable():
            return AWAY
        case Halted():
            return REFUSED
        case _:
            return BUG
