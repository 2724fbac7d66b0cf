"""One emitter's directory: its lock, its segment files and its cursor.

`<spool_dir>/<emitter>/` holds `lock` (flock held as long as the owner lives), `00000001.segment` and
so on, and `cursor`: up to where the log has acknowledged. Whoever holds the lock owns the directory.
`announced` says that this emitter may have holds at the gate, and `ID.predecessor` that usage for the
holds of emitter ID, and of those before it, may stand here. Must not know what the segments contain.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

import msgspec

from tollkeeper.failpoints import failpoint

LOCK = "lock"
CURSOR = "cursor"
ANNOUNCED = "announced"
PREDECESSOR_SUFFIX = ".predecessor"
SEGMENT_SUFFIX = ".segment"
DAMAGED = "damaged"
_NEW = ".new-"
_CREATE_ATTEMPTS = 3
_NEW_FILE = os.O_CREAT | os.O_RDWR
_CURSOR = struct.Struct("<QQI")

_gate = threading.Lock()
_open_fds: set[int] = set()
"""The descriptors that a forked child has to close: a lock is freed only when its last copy is.

`_gate` is held while one is opened or closed and across every fork, so none is ever missed."""


class Place(msgspec.Struct, frozen=True, gc=False, order=True):
    """A position in an emitter's segments; places compare in the order of writing."""

    segment: int
    position: int


FIRST = Place(1, 0)


def open_tracked(path: Path, flags: int) -> int:
    """Open a file whose descriptor no forked child may keep."""
    with _gate:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        _open_fds.add(descriptor)
        return descriptor


def close_tracked(descriptor: int) -> None:
    """Close what `open_tracked` opened."""
    with _gate:
        _open_fds.discard(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    global _gate
    _gate = threading.Lock()
    for descriptor in _open_fds:
        os.close(descriptor)
    _open_fds.clear()


def _before_fork() -> None:
    _gate.acquire()


def _after_fork_in_parent() -> None:
    _gate.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_close_in_child,
)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a file without its name is lost."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SpoolDirectory:
    """An emitter's directory while this process holds its lock."""

    def __init__(self, path: Path, emitter: str, lock: int) -> None:
        self.path = path
        self.emitter = emitter
        self._lock: int | None = lock
        self._cursor: int | None = None

    @classmethod
    def create(
        cls, spool_dir: Path, emitter: str, predecessor: str | None = None
    ) -> SpoolDirectory:
        """A new directory, locked before anyone else can see it under its name."""
        spool_dir.mkdir(parents=True, exist_ok=True)
        with _guarding(spool_dir, fcntl.LOCK_SH):
            for _attempt in range(_CREATE_ATTEMPTS - 1):
                try:
                    return cls._create(spool_dir, emitter, predecessor)
                except (FileNotFoundError, BlockingIOError):
                    continue  # another process took it for an unfinished one and swept it away
            return cls._create(spool_dir, emitter, predecessor)

    @classmethod
    def _create(cls, spool_dir: Path, emitter: str, predecessor: str | None) -> SpoolDirectory:
        unfinished = spool_dir / f"{_NEW}{emitter}"
        unfinished.mkdir(exist_ok=True)
        directory = cls(unfinished, emitter, open_tracked(unfinished / LOCK, _NEW_FILE))
        try:
            directory._lock_now()
            if predecessor is not None:
                directory._mark(f"{predecessor}{PREDECESSOR_SUFFIX}")
            failpoint("spool.before_rename")
            unfinished.rename(spool_dir / emitter)
            failpoint("spool.after_rename")
            directory.path = spool_dir / emitter
            directory._check_lock_is_named()
            directory.write_cursor(FIRST)
            sync_directory(directory.path)
            sync_directory(spool_dir)
        except OSError:
            with suppress(OSError):
                directory.remove()
            raise
        except BaseException:  # what interrupts this thread leaves the rest to `sweep_unfinished`
            directory.release()
            raise
        return directory

    def _lock_now(self) -> None:
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _check_lock_is_named(self) -> None:
        """FileNotFoundError when the locked file isn't the one that others would lock."""
        assert self._lock is not None
        held, named = os.fstat(self._lock), os.stat(self.path / LOCK)
        if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            raise FileNotFoundError(errno.ENOENT, "the lock file was replaced", str(self.path))

    @classmethod
    def take(cls, path: Path) -> SpoolDirectory | None:
        """Take over the directory of an emitter that is gone; None while its owner lives."""
        try:
            directory = cls(path, path.name, open_tracked(path / LOCK, os.O_RDWR))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            directory._lock_now()
            directory._check_lock_is_named()  # someone may have drained and deleted it meanwhile
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            directory.release()
            return None
        except OSError:
            directory.release()
            raise
        return directory

    def announce(self) -> None:
        """Make durable that this emitter may have holds. OSError: whether it is, is unknown."""
        self._mark(ANNOUNCED)
        sync_directory(self.path)
        failpoint("spool.after_announced")

    def is_announced(self) -> bool:
        """Whether this emitter may have holds, and its end has to be told to the log."""
        return (self.path / ANNOUNCED).exists()

    def _mark(self, name: str) -> None:
        close_tracked(open_tracked(self.path / name, _NEW_FILE))

    def segment_path(self, segment: int) -> Path:
        """The file of a segment."""
        return self.path / f"{segment:08d}{SEGMENT_SUFFIX}"

    def segments(self) -> list[int]:
        """The numbers of the segments that exist, ascending."""
        return segment_numbers(self.path)

    def start(self) -> Place:
        """Where to begin sending; answers the first segment when the cursor doesn't verify."""
        return start_of(self.path)

    def write_cursor(self, place: Place) -> None:
        """Remember what the log has acknowledged.

        Overwritten in place and not synced: it then needs no free block on a full disk. One that a
        power cut tears or ages fails its CRC or is older; records are sent again, and the consumer
        removes duplicates by their event id.
        """
        if self._cursor is None:
            self._cursor = open_tracked(self.path / CURSOR, _NEW_FILE)
        numbers = _CURSOR.pack(place.segment, place.position, 0)[:-4]
        os.pwrite(self._cursor, numbers + crc32(numbers).to_bytes(4, "little"), 0)

    def delete_segments(self, before: int) -> int:
        """Delete the segments below `before`, all acknowledged; answers the bytes given back.

        The cursor is made durable first: a missing segment that the cursor hasn't passed is a loss.
        """
        numbers = [number for number in self.segments() if number < before]
        if numbers and self._cursor is not None:
            os.fdatasync(self._cursor)
        freed_bytes = 0
        for number in numbers:
            path = self.segment_path(number)
            freed_bytes += path.stat().st_size
            path.unlink()
        return freed_bytes

    def release(self) -> None:
        """Give the directory up as it is; another process may take it over."""
        if self._cursor is not None:
            close_tracked(self._cursor)
            self._cursor = None
        if self._lock is not None:
            close_tracked(self._lock)
            self._lock = None

    def empty(self) -> int:
        """Delete all segments, every record being on the log; answers the bytes given back."""
        freed_bytes = 0
        for segment in self.segments():
            freed_bytes += self.segment_path(segment).stat().st_size
            self.segment_path(segment).unlink()
        return freed_bytes

    def remove(self) -> int:
        """Delete the directory, whose every record is on the log; answers the bytes given back."""
        try:
            freed_bytes = self.empty()
            failpoint("spool.in_remove")
            (self.path / CURSOR).unlink(missing_ok=True)
            for marker in _markers(self.path):
                marker.unlink()
            (self.path / LOCK).unlink(missing_ok=True)  # last: without one nobody looks here
            self.path.rmdir()
        finally:
            self.release()
        return freed_bytes


def _markers(path: Path) -> list[Path]:
    return [*path.glob(ANNOUNCED), *path.glob(f"*{PREDECESSOR_SUFFIX}")]


def start_of(path: Path) -> Place:
    """Where the unsent records of an emitter's directory begin."""
    try:
        stored = (path / CURSOR).read_bytes()
    except FileNotFoundError:
        stored = b""
    if len(stored) == _CURSOR.size:
        segment, position, crc = _CURSOR.unpack(stored)
        if crc32(stored[:-4]) == crc:
            return Place(segment, position)
    return Place(min(segment_numbers(path), default=FIRST.segment), 0)


def segment_numbers(path: Path) -> list[int]:
    """The numbers of the segments in an emitter's directory, ascending."""
    names = (entry for entry in os.listdir(path) if entry.endswith(SEGMENT_SUFFIX))
    stems = (name.removesuffix(SEGMENT_SUFFIX) for name in names)
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def emitter_directories(spool_dir: Path) -> Iterator[Path]:
    """Every emitter's directory, whoever owns it, in the order of their ids: the oldest first."""
    try:
        names = sorted(os.listdir(spool_dir))
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith(".") and name != DAMAGED and (spool_dir / name / LOCK).exists():
            yield spool_dir / name


def has_follower(path: Path) -> bool:
    """Whether usage for this emitter's holds may stand in the spool of one that came after it."""
    name = f"{path.name}{PREDECESSOR_SUFFIX}"
    return any((other / name).exists() for other in emitter_directories(path.parent))


@contextmanager
def _guarding(spool_dir: Path, kind: int) -> Iterator[bool]:
    """Keep those who create (shared) and those who sweep (exclusive) apart; whether it was free.

    Nobody waits: a creator that a stopped sweeper stands in the way of goes on without.
    """
    guard = open_tracked(spool_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(guard, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        close_tracked(guard)


def sweep_unfinished(spool_dir: Path) -> None:
    """Delete directories whose creator died before they got their name; they hold no record."""
    unfinished = sorted(spool_dir.glob(f"{_NEW}*"))
    if unfinished:
        with _guarding(spool_dir, fcntl.LOCK_EX) as nobody_creates:
            if nobody_creates:
                _delete_unfinished(unfinished)


def _delete_unfinished(unfinished: list[Path]) -> None:
    for path in unfinished:
        directory = SpoolDirectory.take(path)
        try:
            if directory is not None:
                directory.remove()
            else:
                path.rmdir()  # only without a lock file in it
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
                raise


def spooled_bytes(spool_dir: Path, *, without: frozenset[str]) -> int:
    """The bytes of the segments of all emitters but those named."""
    total = 0
    for path in emitter_directories(spool_dir):
        if path.name in without:
            continue
        try:
            with os.scandir(path) as entries:
                total += sum(entry.stat().st_size for entry in entries)
        except FileNotFoundError:
            continue  # drained and deleted meanwhile
    return total
