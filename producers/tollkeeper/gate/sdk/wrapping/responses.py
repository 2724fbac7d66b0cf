"""Looks on while somebody reads an HTTP response, in whatever way they read it.

Every way to read a body decoded goes through `iter_bytes` or `aiter_bytes`, and every end through `close`
or `aclose`: those are taken over on the response's own object, by giving it a subclass of its class until
the reading has ended. So streams, raw responses and lines all count, and nobody's class is changed.

Must not know holds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from functools import cache
from typing import Any, Protocol

_WATCH = "_tollkeeper_watch"


class Onlooker(Protocol):
    """Learns what is read of a response, and once how the reading ended."""

    @property
    def is_complete(self) -> bool:
        """Whether all was seen that there is to see, though more bytes may come."""

    def saw(self, piece: bytes) -> bytes:
        """A piece of the decoded body; answers what the reader is to get of it."""

    def rest(self) -> bytes:
        """What the reader is still to get at the body's end."""

    def end(self, error: BaseException | None) -> None:
        """The reading has ended: all was seen, the body ended, or it failed with this error."""

    async def aend(self, error: BaseException | None) -> None:
        """The same, of a response that is read in a task; by closing it early, too."""

    def let_go(self) -> None:
        """The reader has closed it early, or lost it.

        The garbage collector may be calling, amid anything: no lock may be taken.
        """


class _Watch:
    """What a watched response carries until the reading has ended."""

    def __init__(self, onlooker: Onlooker) -> None:
        self.onlooker = onlooker
        self.is_fetching = False
        """The body closes by itself when its last piece is fetched, before that piece is decoded."""


def look_on(response: Any, onlooker: Onlooker) -> None:
    """Have the onlooker see what will be read of this response, which nobody has begun to read."""
    response.__dict__[_WATCH] = _Watch(onlooker)
    response.__class__ = _watched(response.__class__)


@cache
def _watched(kind: Any) -> type:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (_Watched, kind), names)


def _leave(response: Any) -> bool:
    """Give the response its own class back; False when that was done before."""
    if response.__dict__.pop(_WATCH, None) is None:
        return False
    response.__class__ = type(response).__mro__[2]  # after the subclass and `_Watched`
    return True


class _Watched:
    """Stands before a response's class. Of the errors that are caught here each goes on to the reader."""

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The decoded body, as the onlooker passes it on."""
        watch: _Watch = self.__dict__[_WATCH]
        onlooker = watch.onlooker
        pieces: Generator[bytes] = super().iter_bytes(chunk_size)  # type: ignore[misc] # the response's
        try:
            while (piece := _fetch(watch, pieces)) is not None:
                shown = onlooker.saw(piece)
                if onlooker.is_complete and _leave(self):
                    onlooker.end(None)
                if shown:
                    yield shown
            if shown := onlooker.rest():
                yield shown
        except GeneratorExit:
            if _leave(self):
                onlooker.let_go()
            raise
        except BaseException as error:
            if _leave(self):
                onlooker.end(error)
            raise
        else:
            if _leave(self):
                onlooker.end(None)
        finally:
            pieces.close()

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The decoded body, as the onlooker passes it on."""
        watch: _Watch = self.__dict__[_WATCH]
        onlooker = watch.onlooker
        pieces: AsyncGenerator[bytes] = super().aiter_bytes(chunk_size)  # type: ignore[misc] # the response's
        failure: BaseException | None = None
        try:
            while (piece := await _afetch(watch, pieces)) is not None:
                shown = onlooker.saw(piece)
                if onlooker.is_complete and _leave(self):
                    await onlooker.aend(None)
                if shown:
                    yield shown
            if shown := onlooker.rest():
                yield shown
        except BaseException as error:
            failure = None if isinstance(error, GeneratorExit) else error
            raise
        finally:
            try:
                if _leave(self):
                    await onlooker.aend(failure)
            finally:
                await pieces.aclose()

    def close(self) -> None:
        """Close; whoever reads just now ends the reading himself."""
        watch: _Watch | None = self.__dict__.get(_WATCH)
        try:
            super().close()  # type: ignore[misc] # the response's
        finally:
            if watch is not None and not watch.is_fetching and _leave(self):
                watch.onlooker.let_go()

    async def aclose(self) -> None:
        """Close; whoever reads just now ends the reading himself."""
        watch: _Watch | None = self.__dict__.get(_WATCH)
        try:
            await super().aclose()  # type: ignore[misc] # the response's
        finally:
            if watch is not None and not watch.is_fetching and _leave(self):
                await watch.onlooker.aend(None)

    def __del__(self) -> None:
        watch: _Watch | None = self.__dict__.pop(_WATCH, None)
        if watch is not None:
            watch.onlooker.let_go()


def _fetch(watch: _Watch, pieces: Iterator[bytes]) -> bytes | None:
    watch.is_fetching = True
    try:
        return next(pieces, None)
    finally:
        watch.is_fetching = False


async def _afetch(watch: _Watch, pieces: AsyncIterator[bytes]) -> bytes | None:
    watch.is_fetching = True
    try:
        return await anext(pieces, None)
    finally:
        watch.is_fetching = False
