"""The stand-ins are believed by the providers' real client libraries, with all that tests rest on."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx2
import openai
import pytest
from providers import anthropic_api, openai_api
from providers.stand_in import CUT_BEFORE_ANSWERING, NEVER_ANSWERED, Ending, StandIn
from providers.turns import Turn


@pytest.fixture
def api() -> Iterator[StandIn]:
    """A server that answers what the test says."""
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def claude(api: StandIn) -> Iterator[anthropic.Anthropic]:
    """The real client, talking to the stand-in."""
    with anthropic.Anthropic(api_key="k", base_url=api.url, timeout=10) as client:
        yield client


@pytest.fixture
def gpt(api: StandIn) -> Iterator[openai.OpenAI]:
    """The real client, talking to the stand-in."""
    with openai.OpenAI(api_key="k", base_url=api.url, timeout=10) as client:
        yield client


def ask(client: anthropic.Anthropic) -> anthropic.types.Message:
    return client.messages.create(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "Who?"}]
    )


@pytest.mark.parametrize("is_gzipped", [False, True])
def test_a_message_and_its_tool_use_are_read(
    api: StandIn, claude: anthropic.Anthropic, is_gzipped: bool
) -> None:
    api.will(anthropic_api.answers(Turn(tool=("find", '{"q": 1}'), is_gzipped=is_gzipped)))
    message = ask(claude)
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (100, 20)
    assert api.asked[0].body["max_tokens"] == 5


@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize("piece_bytes", [None, 1, 7])
def test_a_message_stream_is_read_however_it_is_cut(
    api: StandIn, claude: anthropic.Anthropic, piece_bytes: int | None, is_gzipped: bool
) -> None:
    turn = Turn(tool=("find", '{"q": 1}'), piece_bytes=piece_bytes, is_gzipped=is_gzipped)
    api.will(anthropic_api.answers(turn))
    with claude.messages.stream(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "Who?"}]
    ) as stream:
        assert "".join(stream.text_stream) == "Cäsar came, saw"
        assert stream.get_final_message().usage.output_tokens == 20


def test_a_retry_takes_the_next_answer(api: StandIn, claude: anthropic.Anthropic) -> None:
    api.will(anthropic_api.failing(529, "overloaded_error", retry_after_ms="1"))
    api.will(anthropic_api.answers())
    assert ask(claude).id == "msg_01"
    assert (len(api.asked), api.unused) == (2, 0)


def test_an_unexpected_request_is_an_error(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.APIStatusError, match="the test expected no POST /v1/messages"):
        ask(claude)


def test_an_answer_that_never_comes_times_out(api: StandIn, claude: anthropic.Anthropic) -> None:
    api.will(NEVER_ANSWERED)
    with pytest.raises(anthropic.APITimeoutError):
        ask(claude.with_options(timeout=0.05, max_retries=0))


def test_a_connection_that_is_cut_is_an_error(api: StandIn, claude: anthropic.Anthropic) -> None:
    api.will(CUT_BEFORE_ANSWERING, anthropic_api.answers(Turn(ending=Ending.CUT)))
    once = claude.with_options(max_retries=0)
    for _ in range(2):
        with pytest.raises(anthropic.APIConnectionError):
            ask(once)


def test_a_stream_that_is_cut_shows_what_came(api: StandIn, claude: anthropic.Anthropic) -> None:
    api.will(anthropic_api.answers(Turn(events=5, ending=Ending.CUT)))
    stream = claude.messages.create(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "Who?"}], stream=True
    )
    seen: list[str] = []
    with pytest.raises(httpx2.RemoteProtocolError):
        seen.extend(event.type for event in stream)
    assert seen[0] == "message_start" and seen[-1] == "content_block_delta"
    assert len(api.asked) == 1


def test_a_message_stream_that_fails_midway(api: StandIn, claude: anthropic.Anthropic) -> None:
    api.will(anthropic_api.answers(Turn(events=4, error="overloaded_error")))
    stream = claude.messages.create(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "Who?"}], stream=True
    )
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        list(stream)


@pytest.mark.parametrize("has_usage", [False, True])
def test_a_chat_stream_tells_its_usage_only_if_asked(
    api: StandIn, gpt: openai.OpenAI, has_usage: bool
) -> None:
    api.will(openai_api.answers(Turn(cache_read_tokens=30)))
    stream = gpt.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "Who?"}],
        stream=True,
        stream_options={"include_usage": has_usage},
    )
    usages = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert [usage.prompt_tokens for usage in usages] == ([130] if has_usage else [])


def test_a_completion_and_a_response_are_read(api: StandIn, gpt: openai.OpenAI) -> None:
    turn = Turn(tool=("find", '{"q": 1}'), web_searches=2, cache_write_5m_tokens=7)
    api.will(openai_api.answers(turn), openai_api.answers(turn))
    chat = gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": "Who?"}])
    assert chat.choices[0].message.tool_calls is not None
    assert chat.usage is not None and chat.usage.prompt_tokens == 107
    response = gpt.responses.create(model="m", input="Who?")
    assert (response.output_text, len(response.output)) == ("Cäsar came, saw", 4)
    assert response.usage is not None and response.usage.input_tokens == 107


def test_a_response_stream_is_read(api: StandIn, gpt: openai.OpenAI) -> None:
    api.will(openai_api.answers(Turn(piece_bytes=7)))
    with gpt.responses.stream(model="m", input="Who?") as stream:
        assert "".join(e.delta for e in stream if e.type == "response.output_text.delta") == (
            "Cäsar came, saw"
        )
        assert stream.get_final_response().id == "resp_1"
