"""SQLite's errors in words, and waiting for its write lock within a bound."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path

from tollkeeper.errors import LogUnavailable

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def unavailable(path: Path, error: sqlite3.Error | OSError) -> LogUnavailable:
    """The error in words: which file, what happened, what to do."""
    return LogUnavailable(f"the log {path}: {_cause_and_next_step(path, error)} ({error})")


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock that it will give back."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def begin_writing(connection: sqlite3.Connection, deadline: float) -> None:
    """Take the write lock, trying until `deadline` of the monotonic clock."""
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")  # waits for a slice itself (busy timeout)
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise


def _cause_and_next_step(path: Path, error: sqlite3.Error | OSError) -> str:
    name = str(getattr(error, "sqlite_errorname", ""))
    if not os.path.lexists(path.parent):
        return f"the directory {path.parent} doesn't exist: create it or correct the path"
    if name.startswith("SQLITE_FULL") or getattr(error, "errno", None) == errno.ENOSPC:
        return f"the disk is full: free space in {path.parent}, then try again"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return "another process held the write lock for too long: find it, then try again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return f"can't be opened for writing: give this user write access to {path.parent}"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "the file is damaged or no log: restore it from a copy or correct the path"
    return "the file can't be read or written: look at the disk, then try again"
