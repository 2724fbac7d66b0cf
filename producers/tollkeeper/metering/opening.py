"""An emitter as the environment has it: what a product service starts with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from tollkeeper.log.opening import open_log
from tollkeeper.log.settings import load_log_settings
from tollkeeper.metering.aio import AsyncEmitter
from tollkeeper.metering.emitter import Emitter


def open_emitter(environ: Mapping[str, str] = os.environ) -> Emitter:
    """An emitter on the log and the spool that TOLLKEEPER_HOME and the other settings name.

    One a process; close it when the service stops. InvalidInput names a setting that can't be.
    """
    settings = load_log_settings(environ)
    return Emitter(partial(open_log, settings), settings.spool_dir)


def open_async_emitter(environ: Mapping[str, str] = os.environ) -> AsyncEmitter:
    """The same for asyncio."""
    settings = load_log_settings(environ)
    return AsyncEmitter(partial(open_log, settings), settings.spool_dir)
