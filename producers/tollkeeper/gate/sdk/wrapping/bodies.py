"""A request's body as plain data, and an upper bound of the tokens that its prompt has. Pure.

The prompt is never counted by a tokenizer: that would cost a round trip or a library for each model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings

MAX_NODES = 10_000_000
"""More values than a request within any provider's 32 MB can hold: a body that contains itself."""

PACKED_BYTES_PER_TOKEN = 30
"""A page of a document has about 75 KB in base64, and about 2,500 tokens with its picture."""
LIKELY_IMAGE_TOKENS = 1_600
"""Of a picture with 1.15 megapixels, to which larger ones are scaled down."""

_ABSENT = frozenset({"NotGiven", "Omit"})
"""How both client libraries name the classes of values that aren't sent."""

_IMAGES = frozenset({"image", "image_url", "input_image", "computer_screenshot"})
_IMAGE_DATA = frozenset({"data", "image_url", "url"})
_PACKED = frozenset({"data", "file_data"})
_ELSEWHERE = frozenset({"previous_response_id", "conversation", "prompt"})
_Within = Literal["text", "image", "packed"]
_NOT_PROMPT = frozenset({"metadata", "model", "stream", "stream_options", "service_tier"})


class Size(msgspec.Struct):
    """What a body holds that becomes prompt. `text_bytes` is in UTF-8, names and numbers included.

    Each name counts four bytes more, for what providers put around it.
    """

    text_bytes: int = 0
    packed_bytes: int = 0
    """Of documents and sound, as base64."""
    images: int = 0
    unseen: int = 0
    """Things that the body only refers to."""
    writes_5m: bool = False
    writes_1h: bool = False

    def most_tokens(self, settings: WrapSettings) -> int:
        """An upper bound of the prompt's tokens, if the settings are bounds."""
        shown = -(-(self.text_bytes + self.packed_bytes) // settings.bytes_per_token)
        return shown + self.images * settings.image_tokens + self.unseen * settings.unseen_tokens

    def likely_tokens(self, bytes_per_token: int) -> int:
        """About what the prompt has: what is charged for a call whose provider told no count."""
        shown = self.text_bytes // bytes_per_token + self.packed_bytes // PACKED_BYTES_PER_TOKEN
        return max(1, shown + self.images * LIKELY_IMAGE_TOKENS)


def plain(body: object) -> tuple[dict[str, Any], bool]:
    """The body as dicts, lists and scalars, without what isn't sent; whether an iterator was used up.

    The caller's containers stay as they are. Misuse for a body that is no object.
    """
    if not isinstance(body, Mapping):
        raise Misuse(f"a model call's body must be an object, not {type(body).__name__}")
    root: list[Any] = [body]
    pending: list[tuple[Any, Any]] = [(root, 0)]
    used_up = False
    for _node in range(MAX_NODES):
        if not pending:
            return root[0], used_up
        container, key = pending.pop()
        value, is_iterator = _opened(container[key])
        used_up = used_up or is_iterator
        container[key] = value
        if isinstance(value, dict):
            pending += [(value, name) for name in value]
        elif isinstance(value, list):
            pending += [(value, index) for index in range(len(value))]
    raise Misuse("a request's body must not contain itself")


def size_of(body: Mapping[str, Any]) -> Size:
    """Measure a plain body."""
    size = Size(unseen=sum(body.get(name) is not None for name in _ELSEWHERE))
    pending: list[tuple[str, Any, _Within]] = [
        (name, value, "text") for name, value in body.items() if name not in _NOT_PROMPT
    ]
    while pending:  # ends: a plain body is a tree
        name, value, within = pending.pop()
        if isinstance(value, dict):
            within = _enter(name, value, within, size)
            size.text_bytes += sum(len(inner) + 4 for inner in value)
            pending += [(inner, part, within) for inner, part in value.items()]
        elif isinstance(value, list):
            size.text_bytes += len(value)
            pending += [(name, part, within) for part in value]
        elif within == "packed" and name in _PACKED and isinstance(value, str):
            size.packed_bytes += len(value)
        elif within != "image" or name not in _IMAGE_DATA:
            _weigh(value, size)
    return size


def tools_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that a plain body offers to the model."""
    tools = body.get("tools")
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def whole_number(body: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is there; None when the body names no number or a wrong one."""
    for name in names:
        value = body.get(name)
        if type(value) is int and value >= 0:
            return value
    return None


def text_of(body: Mapping[str, Any], name: str) -> str | None:
    """A text of the body, or None."""
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def _opened(value: object) -> tuple[object, bool]:
    """One level of a value in plain containers of our own; whether it was a one-shot iterator."""
    if isinstance(value, str | int | float | bytes | None):
        return value, False
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        value = dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if type(v).__name__ not in _ABSENT}, False
    if isinstance(value, list | tuple | set | frozenset):
        return list(value), False
    if isinstance(value, Iterator) and not hasattr(value, "read"):  # files iterate over their lines
        return list(value), True
    return value, False


def _enter(name: str, value: Mapping[str, Any], within: _Within, size: Size) -> _Within:
    """Note what an object of the body is; what the values in it are part of."""
    kind = text_of(value, "type")
    if name == "cache_control":
        size.writes_1h = size.writes_1h or value.get("ttl") == "1h"
        size.writes_5m = size.writes_5m or value.get("ttl") != "1h"
    size.images += kind in _IMAGES
    if within == "image" or kind in _IMAGES:
        return "image"
    size.unseen += _is_unseen(name, kind, value)
    is_packed = kind in ("base64", "input_file") or name in ("file", "input_audio")
    return "packed" if is_packed else "text"


def _is_unseen(name: str, kind: str | None, value: Mapping[str, Any]) -> bool:
    """Whether a part stands for content whose length its bytes don't show."""
    if name == "source":  # a packed document may hold more text than it has bytes
        return kind in ("url", "file", "base64")
    if name == "file" or kind == "input_file":
        return any(value.get(key) for key in ("file_id", "file_url", "file_data"))
    return kind in ("item_reference", "container_upload")


def _weigh(value: object, size: Size) -> None:
    if isinstance(value, str):
        length = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        size.text_bytes += length
    elif isinstance(value, bytes):
        size.text_bytes += len(value)
    elif value is None or isinstance(value, int | float):
        size.text_bytes += len(str(value))
    else:  # a path or an open file, which the client library reads when it sends
        size.unseen += 1
