"""An onlooker sees a response however it is read, learns once how that ended, and changes nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import httpx2
import pytest

from tollkeeper.gate.sdk.wrapping.responses import look_on

PIECES = (b"one\n", "zwölf\n".encode(), b"three\n")
BODY = b"".join(PIECES)


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body in pieces that may fail after the last one; and says whether it was closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.was_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from PIECES
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            await asyncio.sleep(0)
            yield piece

    def close(self) -> None:
        self.was_closed = True

    async def aclose(self) -> None:
        self.was_closed = True


class Looking:
    """Notes all that it is told; `is_complete` after so many pieces."""

    def __init__(self, complete_after: int = 99, refuse: Exception | None = None) -> None:
        self.seen = b""
        self.ends: list[object] = []
        self._complete_after = complete_after
        self._refuse = refuse
        self._pieces = 0

    @property
    def is_complete(self) -> bool:
        return self._pieces >= self._complete_after

    def saw(self, piece: bytes) -> bytes:
        if self._refuse is not None:
            raise self._refuse
        self._pieces += 1
        self.seen += piece
        return piece

    def rest(self) -> bytes:
        return b""

    def end(self, error: BaseException | None) -> None:
        self.ends.append(error)

    async def aend(self, error: BaseException | None) -> None:
        await asyncio.sleep(0)
        self.ends.append(error)

    def let_go(self) -> None:
        self.ends.append("let go")


def watched(looking: Looking, body: Body | None = None) -> httpx2.Response:
    """A response that is looked at."""
    response = httpx2.Response(
        200, stream=body or Body(), request=httpx2.Request("GET", "http://h")
    )
    look_on(response, looking)
    return response


def in_lines(response: httpx2.Response) -> bytes:
    return "".join(f"{line}\n" for line in response.iter_lines()).encode()


async def in_lines_async(response: httpx2.Response) -> bytes:
    return "".join([f"{line}\n" async for line in response.aiter_lines()]).encode()


def in_text(response: httpx2.Response) -> bytes:
    return "".join(response.iter_text()).encode()


def in_bytes(response: httpx2.Response) -> bytes:
    return b"".join(response.iter_bytes(2))


@pytest.mark.parametrize("read", [httpx2.Response.read, in_lines, in_text, in_bytes])
def test_every_way_to_read_is_seen(read: Callable[[httpx2.Response], bytes]) -> None:
    looking, body = Looking(), Body()
    response = watched(looking, body)
    assert type(response).__name__ == "Response" and isinstance(response, httpx2.Response)
    assert read(response) == BODY
    assert (looking.seen, looking.ends, body.was_closed) == (BODY, [None], True)
    assert type(response) is httpx2.Response
    response.close()
    assert looking.ends == [None]


@pytest.mark.parametrize("read", [httpx2.Response.aread, in_lines_async])
def test_every_way_to_read_in_a_task_is_seen(
    read: Callable[[httpx2.Response], Coroutine[Any, Any, bytes]],
) -> None:
    looking, body = Looking(), Body()
    response = watched(looking, body)
    assert asyncio.run(read(response)) == BODY
    assert (looking.seen, looking.ends, body.was_closed) == (BODY, [None], True)
    assert type(response) is httpx2.Response


def test_what_is_complete_has_ended_before_the_reader_gets_it() -> None:
    looking = Looking(complete_after=2)
    pieces = watched(looking).iter_bytes()
    assert (next(pieces), looking.ends) == (PIECES[0], [])
    assert (next(pieces), looking.ends) == (PIECES[1], [None])
    assert (next(pieces), looking.ends) == (PIECES[2], [None])


def test_an_error_is_told_and_goes_on() -> None:
    looking, error = Looking(), httpx2.ReadError("cut")
    with pytest.raises(httpx2.ReadError):
        watched(looking, Body(error)).read()
    assert looking.ends == [error]


def test_an_error_in_a_task_is_told_and_goes_on() -> None:
    looking, error = Looking(), httpx2.ReadError("cut")
    with pytest.raises(httpx2.ReadError):
        asyncio.run(watched(looking, Body(error)).aread())
    assert looking.ends == [error]


@pytest.mark.parametrize("in_task", [False, True])
def test_what_the_onlooker_raises_is_the_reader_s_error(in_task: bool) -> None:
    error = ValueError("stop")
    looking, body = Looking(refuse=error), Body()
    response = watched(looking, body)
    with pytest.raises(ValueError, match="stop"):
        if in_task:
            asyncio.run(response.aread())
        else:
            response.read()
    assert (looking.ends, body.was_closed) == ([error], True)


def test_a_reader_that_closes_early_lets_go() -> None:
    looking, body = Looking(), Body()
    response = watched(looking, body)
    next(response.iter_bytes())
    response.close()
    assert (looking.ends, body.was_closed) == (["let go"], True)


def test_a_reader_that_never_began_lets_go() -> None:
    looking = Looking()
    watched(looking).close()
    assert looking.ends == ["let go"]


def test_a_task_that_closes_early_has_ended_the_reading() -> None:
    async def work() -> None:
        pieces = response.aiter_bytes()
        await anext(pieces)
        await response.aclose()

    looking, body = Looking(), Body()
    response = watched(looking, body)
    asyncio.run(work())
    assert (looking.ends, body.was_closed) == ([None], True)


def test_a_task_that_is_cancelled_tells_so() -> None:
    async def work() -> None:
        async for _piece in response.aiter_bytes():
            asyncio.current_task().cancel()  # type: ignore[union-attr] # within a task

    looking, body = Looking(), Body()
    response = watched(looking, body)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())
    assert [type(error) for error in looking.ends] == [asyncio.CancelledError]
    assert body.was_closed


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_response_that_is_lost_is_let_go_without_a_collection(has_begun: bool) -> None:
    """Nothing that is put onto a response refers back to it: what is dropped is closed at once."""
    looking = Looking()
    response = watched(looking)
    pieces = response.iter_bytes()
    if has_begun:
        next(pieces)
    gc.disable()
    try:
        del response, pieces
        assert looking.ends == ["let go"]
    finally:
        gc.enable()


def test_gzipped_bodies_are_seen_decoded_to_their_last_byte() -> None:
    import zlib

    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(BODY) + packer.flush()
    looking = Looking()
    response = httpx2.Response(
        200,
        headers={"content-encoding": "gzip"},
        stream=Packed([packed[:5], packed[5:]]),
        request=httpx2.Request("GET", "http://h"),
    )
    look_on(response, looking)
    assert response.read() == BODY
    assert (looking.seen, looking.ends) == (BODY, [None])


class Packed(httpx2.SyncByteStream):
    """These bytes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)
