"""Every request is a model call, known to cost no tokens, or refused by its name."""

from __future__ import annotations

import pytest

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.wrapping.endpoints import Api, api_of


@pytest.mark.parametrize(
    ("family", "url", "expected"),
    [
        ("anthropic", "/v1/messages", Api.MESSAGES),
        ("anthropic", "/v1/messages?beta=true", Api.MESSAGES),
        ("openai", "/chat/completions", Api.CHAT),
        ("openai", "/responses", Api.RESPONSES),
        ("openai", "/responses?beta=true", Api.RESPONSES),
        ("openai", "https://host.example/v1/chat/completions/", Api.CHAT),
        ("openai", "responses", Api.RESPONSES),
        ("anthropic", "/v1/messages/count_tokens?beta=true", None),
        ("anthropic", "/v1/messages/batches/b1/cancel", None),
        ("anthropic", "/v1/files?beta=true", None),
        ("openai", "/responses/input_tokens", None),
        ("openai", "/responses/r1/cancel", None),
        ("openai", "/chat/completions/c1", None),
        ("openai", "/uploads/u1/parts", None),
        ("openai", "/moderations", None),
    ],
)
def test_requests_are_recognised_by_their_path(family: str, url: str, expected: Api | None) -> None:
    assert api_of(family, "post", url, ()) is expected


@pytest.mark.parametrize(
    ("family", "url"),
    [
        ("anthropic", "/v1/messages/batches"),
        ("anthropic", "/v1/complete"),
        ("anthropic", "/v1/sessions/s1/events"),
        ("anthropic", "/v1/filesystem"),
        ("openai", "/embeddings"),
        ("openai", "/completions"),
        ("openai", "/images/generations"),
        ("openai", "/audio/speech"),
        ("openai", "/batches"),
        ("openai", "/threads/runs"),
        ("openai", "/realtime/client_secrets"),
        ("openai", "/responses/compact"),
        ("openai", "/fine_tuning/jobs"),
        ("openai", "/anything/new"),
        ("openai", "/openai/deployments/d/embeddings"),
    ],
)
def test_what_may_cost_tokens_is_refused_by_name(family: str, url: str) -> None:
    with pytest.raises(Misuse, match=f"POST {url.removeprefix('/v1')}: what it costs"):
        api_of(family, "post", url, ())
    for method in ("get", "delete"):
        assert api_of(family, method, url, ()) is None


def test_paths_may_be_allowed_with_all_below_them() -> None:
    assert api_of("openai", "post", "/images/generations", ("/images",)) is None
    assert api_of("openai", "post", "/embeddings", ("embeddings",)) is None
    with pytest.raises(Misuse):
        api_of("openai", "post", "/imagesets", ("/images",))


def test_a_model_call_stays_one_though_its_path_is_allowed() -> None:
    assert api_of("openai", "post", "/responses", ("/responses",)) is Api.RESPONSES
