"""The shell exit codes that programs rely on."""

from __future__ import annotations

DONE = 0
REFUSED = 1
"""Also: partly rejected, or a difference was found."""
USAGE = 2
AWAY = 3
"""Also: the answer is pending."""
BUG = 70
INTERRUPTED = 130
