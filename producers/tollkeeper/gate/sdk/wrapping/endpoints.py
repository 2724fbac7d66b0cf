"""Which requests of a client are model calls, which cost no tokens, and which aren't understood. Pure.

What isn't understood is refused by name: a new endpoint must not spend money that nobody holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum
from urllib.parse import urlsplit

from tollkeeper.errors import Misuse

READING = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods that start no inference."""


class Api(Enum):
    """The model calls that are held and metered."""

    MESSAGES = "Anthropic's Messages"
    CHAT = "OpenAI's Chat Completions"
    RESPONSES = "OpenAI's Responses"


_METERED = {
    "anthropic": {"/messages": Api.MESSAGES},
    "openai": {"/chat/completions": Api.CHAT, "/responses": Api.RESPONSES},
}

_FREE = {
    "anthropic": re.compile(
        r"/messages/count_tokens|/messages/batches/[^/]+/cancel|/(files|skills|organizations)(/.*)?"
    ),
    "openai": re.compile(
        r"/responses/input_tokens|/responses/[^/]+/cancel|/batches/[^/]+/cancel|/chat/completions/.+"
        r"|/(files|uploads|moderations|conversations|vector_stores|skills|organization|projects"
        r"|webhook_endpoints)(/.*)?"
    ),
}
"""What costs no tokens: counting, cancelling, files, settings. Not: batches, embeddings, images, audio,
video, agents, assistants' runs, fine-tuning, evaluations, and whatever comes after this release."""


def api_of(family: str, method: str, url: str, allowed: Collection[str]) -> Api | None:
    """Which model call the request is; None when it needs no hold. Misuse for one not understood.

    `allowed` are paths that may go without a hold, each with everything below it.
    """
    path = _path(url)
    if method.upper() in READING:
        return None
    api = _METERED[family].get(path)
    if api is not None:
        return api
    if _FREE[family].fullmatch(path) or is_allowed(path, allowed):
        return None
    raise not_understood(f"{method.upper()} {path}", path)


def is_allowed(path: str, allowed: Collection[str]) -> bool:
    """Whether one of the allowed paths is this one or above it."""
    return any(path == one or path.startswith(f"{one}/") for one in map(_path, allowed))


def not_understood(what: str, path: str) -> Misuse:
    """The error for a request that may cost tokens and that the gate can't price."""
    return Misuse(
        f"a wrapped client doesn't make {what}: what it costs isn't understood, so nothing would be "
        "held or charged for it. Call the unwrapped client and report the usage with the emitter, "
        f"or let it pass unmetered: gate.wrap(client, allow=({path!r},))"
    )


def _path(url: str) -> str:
    """The path alone: without host, query, version and closing slash."""
    path = "/" + urlsplit(url).path.strip("/")
    return path.removeprefix("/v1") if path.startswith("/v1/") else path
