"""The Messages API of Anthropic as far as the tests need it: whole messages, streams, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from providers.stand_in import Answer, Asked, json_answer
from providers.turns import Turn, as_document, as_stream, event

PATH = "/v1/messages"


def answers(turn: Turn | None = None) -> Callable[[Asked], Answer]:
    """The turn, streamed if the request says so."""
    shown = turn or Turn()

    def answer(asked: Asked) -> Answer:
        if asked.path != PATH:
            return failing(404, "not_found_error")
        model = shown.model or str(asked.body["model"])
        if not asked.body.get("stream"):
            return as_document(shown, message(shown, model))
        return as_stream(shown, stream_events(shown, model), error_event(shown.error or ""))

    return answer


def failing(status: int, kind: str, **headers: str) -> Answer:
    """An error instead of an answer; `retry_after_ms="1"` makes the client's retry quick."""
    body = {"type": "error", "error": {"type": kind, "message": "scripted"}}
    return json_answer(body, status=status, **headers)


def counted(tokens: int) -> Answer:
    """The answer of `count_tokens`."""
    return json_answer({"input_tokens": tokens})


def message(turn: Turn, model: str) -> dict[str, Any]:
    """The turn as a whole message."""
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _content(turn),
        "stop_reason": "end_turn" if turn.tool is None else "tool_use",
        "stop_sequence": None,
        "usage": _usage(turn),
    }


def stream_events(turn: Turn, model: str) -> list[bytes]:
    """The turn's events in the order of the API."""
    started = {**message(turn, model), "content": [], "stop_reason": None}
    started["usage"] = {**_usage(turn), "output_tokens": 1}
    documents: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
    documents.append({"type": "ping"})
    for index, block in enumerate(_content(turn)):
        documents += _block_events(index, block, turn)
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    final = {"type": "message_delta", "delta": stop, "usage": _final_usage(turn)}
    documents += [final, {"type": "message_stop"}]
    return [event(document["type"], document) for document in documents]


def error_event(kind: str) -> bytes:
    """What a stream that fails midway sends last."""
    return event("error", {"type": "error", "error": {"type": kind, "message": "scripted"}})


def _content(turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "".join(turn.text)}]
    if turn.tool is not None:
        name, arguments = turn.tool
        blocks.append(
            {"type": "tool_use", "id": "toolu_01", "name": name, "input": json.loads(arguments)}
        )
    return blocks


def _block_events(index: int, block: dict[str, Any], turn: Turn) -> list[dict[str, Any]]:
    if block["type"] == "text":
        empty: dict[str, Any] = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in turn.text]
    else:
        assert turn.tool is not None
        half = len(turn.tool[1]) // 2
        empty = {**block, "input": {}}
        halves = (turn.tool[1][:half], turn.tool[1][half:])
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in halves]
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _usage(turn: Turn) -> dict[str, Any]:
    return {
        **_final_usage(turn),
        "cache_creation": {
            "ephemeral_5m_input_tokens": turn.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": turn.cache_write_1h_tokens,
        },
        "service_tier": turn.tier or "standard",
    }


def _final_usage(turn: Turn) -> dict[str, Any]:
    return {
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "cache_read_input_tokens": turn.cache_read_tokens,
        "cache_creation_input_tokens": turn.cache_write_5m_tokens + turn.cache_write_1h_tokens,
        "server_tool_use": {"web_search_requests": turn.web_searches, "web_fetch_requests": 0},
    }
