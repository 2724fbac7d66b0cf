"""Python's cyclic garbage collector, paused while a batch is folded.

A batch makes some hundred thousand objects, none in a cycle; looking through them again and again was
measured at a tenth of the fold's time. What a batch leaves is freed by reference counts.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the collector for one bounded piece of work; nested uses are fine."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
