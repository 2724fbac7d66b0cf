"""What a model call may cost, read from its request: the worst case of what it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.wrapping.bodies import Size, size_of, text_of, tools_of, whole_number
from tollkeeper.gate.sdk.wrapping.endpoints import Api
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings
from tollkeeper.rating.worst_case import Expected

_CLIENT_TOOLS_ANTHROPIC = ("custom", "bash_", "text_editor_", "memory_", "computer_")
_CLIENT_TOOLS_OPENAI = ("function", "custom", "computer", "local_shell", "shell", "apply_patch")
"""Tools that the caller runs. Others are the provider's, who runs the model again with their results."""

_TIERS = {"auto": "standard", "default": "standard", "fast": "priority"}


def expected_of(api: Api, body: Mapping[str, Any], settings: WrapSettings) -> tuple[Expected, ...]:
    """The most that the call may consume, and then what further models may consume besides.

    A further one may read the whole prompt and write the whole output: it gives advice, compacts the
    context or is fallen back on. `body` is plain. Misuse for a call whose usage would never be seen.
    """
    expected = _messages(body, settings) if api is Api.MESSAGES else _openai(api, body, settings)
    further = _further_models(body, expected.model) if api is Api.MESSAGES else []
    every = (expected, *(msgspec.structs.replace(expected, model=model) for model in further))
    names = settings.models
    return tuple(
        msgspec.structs.replace(one, model=names.get(one.model, one.model)) for one in every
    )


def _messages(body: Mapping[str, Any], settings: WrapSettings) -> Expected:
    size, model = size_of(body), _model(body)
    kinds = [(text_of(tool, "type") or "custom", tool) for tool in tools_of(body)]
    own = [tool for kind, tool in kinds if not kind.startswith(_CLIENT_TOOLS_ANTHROPIC)]
    uses = sum(whole_number(tool, "max_uses") or settings.tool_uses for tool in own)
    uses += settings.tool_uses if body.get("mcp_servers") else 0
    searches = [tool for kind, tool in kinds if kind.startswith("web_search_")]
    output = whole_number(body, "max_tokens")
    return Expected(
        model=model,
        input_tokens=_input(size, uses, bool(kinds), settings),
        max_output_tokens=settings.max_output_tokens if output is None else output,
        cache_write="1h" if size.writes_1h else "5m" if size.writes_5m else None,
        web_searches=sum(whole_number(tool, "max_uses") or settings.tool_uses for tool in searches),
        speed=text_of(body, "speed") or "standard",
        region="us" if text_of(body, "inference_geo") == "us" else "global",
    )


def _openai(api: Api, body: Mapping[str, Any], settings: WrapSettings) -> Expected:
    if body.get("background"):
        raise Misuse(
            "a wrapped client doesn't make background responses: their usage comes after the call; "
            "use the unwrapped client, and report the usage with the emitter when you retrieve it"
        )
    tools = [text_of(tool, "type") or "function" for tool in tools_of(body)]
    if "image_generation" in tools:
        raise Misuse(
            "a wrapped client doesn't offer the tool image_generation: its tokens are billed by "
            "another model's price and aren't part of the usage"
        )
    own = [kind for kind in tools if not kind.startswith(_CLIENT_TOOLS_OPENAI)]
    most = whole_number(body, "max_tool_calls")
    uses = (settings.tool_uses if most is None else most) if own else 0
    searches = uses if any(kind.startswith("web_search") for kind in own) else 0
    tier = text_of(body, "service_tier") or "auto"
    return Expected(
        model=_model(body),
        input_tokens=_input(size_of(body), uses, bool(tools), settings),
        max_output_tokens=_openai_output(api, body, settings),
        cache_write="any",  # no request says whether it writes: models that bill it write by themselves
        web_searches=searches + ("web_search_options" in body),
        service_tier=_TIERS.get(tier, tier),
    )


def _openai_output(api: Api, body: Mapping[str, Any], settings: WrapSettings) -> int:
    is_chat = api is Api.CHAT
    names = ("max_completion_tokens", "max_tokens") if is_chat else ("max_output_tokens",)
    output = whole_number(body, *names)
    output = settings.max_output_tokens if output is None else output
    prediction = body.get("prediction")
    if isinstance(prediction, dict):  # what is predicted wrongly is billed as output
        output += -(-size_of(prediction).text_bytes // settings.bytes_per_token)
    return output * max(1, whole_number(body, "n") or 1)


def _input(size: Size, uses: int, has_tools: bool, settings: WrapSettings) -> int:
    """The prompt, read once more with each use of a provider's tool and with what that brought."""
    prompt = size.most_tokens(settings) + (settings.tool_overhead_tokens if has_tools else 0)
    readings = (prompt + n * settings.tool_result_tokens for n in range(uses + 1))
    return sum(min(reading, settings.max_input_tokens) for reading in readings)


def _further_models(body: Mapping[str, Any], model: str) -> list[str]:
    found = [text_of(tool, "model") for tool in tools_of(body)]
    fallbacks = body.get("fallbacks")
    if isinstance(fallbacks, list):
        found += [text_of(one, "model") for one in fallbacks if isinstance(one, dict)]
    if body.get("compaction") or "compact" in str(body.get("context_management") or ""):
        found.append(model)
    return [name for name in found if name is not None]


def _model(body: Mapping[str, Any]) -> str:
    model = text_of(body, "model")
    if model is None:
        raise Misuse(
            "a wrapped client's call must name its model: a stored prompt may choose one that has "
            "another price"
        )
    return model
