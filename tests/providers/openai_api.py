"""OpenAI's Chat Completions and Responses APIs as far as the tests need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from providers.stand_in import Answer, Asked, json_answer
from providers.turns import Turn, as_document, as_stream, event

CHAT = "/chat/completions"
RESPONSES = "/responses"
DONE = b"data: [DONE]\n\n"


def answers(turn: Turn | None = None) -> Callable[[Asked], Answer]:
    """The turn by the API that was asked, streamed if the request says so.

    As at OpenAI, a chat completion's stream tells its usage only if `include_usage` was asked for.
    """
    shown = turn or Turn()

    def answer(asked: Asked) -> Answer:
        model = shown.model or str(asked.body.get("model"))
        if asked.path == CHAT:
            if not asked.body.get("stream"):
                return as_document(shown, completion(shown, model))
            options = asked.body.get("stream_options") or {}
            chunks = chat_chunks(shown, model, has_usage=bool(options.get("include_usage")))
            return as_stream(shown, chunks, event(None, _error(shown.error)))
        if asked.path == RESPONSES:
            if not asked.body.get("stream"):
                return as_document(shown, response(shown, model))
            return as_stream(shown, response_events(shown, model), _failed(shown, model))
        return failing(404, "not_found")

    return answer


def failing(status: int, code: str, **headers: str) -> Answer:
    """An error instead of an answer; `retry_after_ms="1"` makes the client's retry quick."""
    return json_answer(_error(code), status=status, **headers)


def completion(turn: Turn, model: str) -> dict[str, Any]:
    """The turn as a whole chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(turn.text), "refusal": None}
    if turn.tool is not None:
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": _function(turn)}]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        **_chat_head(turn, model, "chat.completion"),
        "choices": [choice],
        "usage": _usage(turn),
    }


def chat_chunks(turn: Turn, model: str, *, has_usage: bool) -> list[bytes]:
    """The turn's chunks; with usage each says that it has none, and one more carries it."""
    head = _chat_head(turn, model, "chat.completion.chunk")
    if has_usage:
        head["usage"] = None
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in turn.text]
    if turn.tool is not None:
        call = {"index": 0, "id": "call_1", "type": "function", "function": _function(turn)}
        deltas.append({"tool_calls": [call]})
    chunks = [_chunk(head, delta, None) for delta in deltas]
    chunks.append(_chunk(head, {}, "stop"))
    if has_usage:
        chunks.append({**head, "choices": [], "usage": _usage(turn)})
    return [event(None, chunk) for chunk in chunks] + [DONE]


def response(turn: Turn, model: str) -> dict[str, Any]:
    """The turn as a whole response."""
    details = {"cached_tokens": turn.cache_read_tokens, "cache_write_tokens": _written(turn)}
    total = turn.input_tokens + turn.cache_read_tokens + _written(turn)
    usage = {
        "input_tokens": total,
        "input_tokens_details": details,
        "output_tokens": turn.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": total + turn.output_tokens,
    }
    return {**_response_head(turn, model, "completed"), "output": _output(turn), "usage": usage}


def response_events(turn: Turn, model: str) -> list[bytes]:
    """The turn's events in the order of the API."""
    begun = {**_response_head(turn, model, "in_progress"), "output": [], "usage": None}
    documents: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    item["status"] = "in_progress"
    documents += [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": empty},
    ]
    for piece in turn.text:
        delta = {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        documents.append(delta)
    documents.append({"type": "response.completed", "response": response(turn, model)})
    return [
        event(document["type"], {**document, "sequence_number": number})
        for number, document in enumerate(documents)
    ]


def _chat_head(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": kind, "created": 1_793_880_000, "model": model}
    return head if turn.tier is None else {**head, "service_tier": turn.tier}


def _chunk(head: dict[str, Any], delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**head, "choices": [choice]}


def _function(turn: Turn) -> dict[str, str]:
    assert turn.tool is not None
    return {"name": turn.tool[0], "arguments": turn.tool[1]}


def _usage(turn: Turn) -> dict[str, Any]:
    total = turn.input_tokens + turn.cache_read_tokens + _written(turn)
    return {
        "prompt_tokens": total,
        "completion_tokens": turn.output_tokens,
        "total_tokens": total + turn.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": turn.cache_read_tokens,
            "cache_write_tokens": _written(turn),
        },
    }


def _written(turn: Turn) -> int:
    return turn.cache_write_5m_tokens + turn.cache_write_1h_tokens


def _response_head(turn: Turn, model: str, status: str) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_793_880_000,
        "model": model,
        "status": status,
        "service_tier": turn.tier or "default",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _output(turn: Turn) -> list[dict[str, Any]]:
    part = {"type": "output_text", "text": "".join(turn.text), "annotations": [], "logprobs": []}
    text = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    searches = [
        {
            "type": "web_search_call",
            "id": f"ws_{number}",
            "status": "completed",
            "action": {"type": "search", "query": "q"},
        }
        for number in range(turn.web_searches)
    ]
    output: list[dict[str, Any]] = [*searches, {**text, "content": [part]}]
    if turn.tool is not None:
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", **_function(turn)}
        output.append({**call, "status": "completed"})
    return output


def _failed(turn: Turn, model: str) -> bytes:
    document = {
        **_response_head(turn, model, "failed"),
        "output": [],
        "error": {"code": turn.error, "message": "scripted"},
        "usage": None,
    }
    return event(
        "response.failed", {"type": "response.failed", "response": document, "sequence_number": 99}
    )


def _error(code: str | None) -> dict[str, Any]:
    return {"error": {"message": "scripted", "type": "server_error", "param": None, "code": code}}
