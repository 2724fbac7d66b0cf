"""A wrapped client is the library's own, the original stays as it is, and nothing slips past the gate."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from providers import anthropic_api, openai_api
from providers.stand_in import StandIn, json_answer
from providers.turns import Turn
from wrapping.ways import ASKED, CHAT, MODEL, RESPONSE

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.gate.sdk import Identity, Refused, WrapSettings, acting_for
from tollkeeper.testing import AsyncFakeGate, FakeGate, FakeWorld

ANN = Identity(organization="acme", member="ann", surface="web")


@pytest.fixture
def gate() -> FakeGate:
    """A gate without limits."""
    return FakeGate()


@pytest.fixture
def claude(api: StandIn) -> Iterator[anthropic.Anthropic]:
    """The library's client, unwrapped."""
    with anthropic.Anthropic(
        api_key="k", base_url=api.url, http_client=httpx2.Client(verify=False), max_retries=0
    ) as client:
        yield client


@pytest.fixture
def gpt(api: StandIn) -> Iterator[openai.OpenAI]:
    """The library's client, unwrapped."""
    with openai.OpenAI(
        api_key="k", base_url=api.url, http_client=httpx2.Client(verify=False), max_retries=0
    ) as client:
        yield client


def test_a_wrapped_client_is_of_the_library_s_class(
    gate: FakeGate, claude: anthropic.Anthropic, gpt: openai.OpenAI
) -> None:
    """Anthropic's tells by its very class how to sign in."""
    assert type(gate.wrap(claude)) is anthropic.Anthropic
    wrapped = gate.wrap(gpt)
    assert isinstance(wrapped, openai.OpenAI) and type(wrapped).__name__ == "OpenAI"
    for one, other in ((gate.wrap(claude), claude), (wrapped, gpt)):
        for name in ("base_url", "api_key", "max_retries", "timeout"):
            assert getattr(one, name) == getattr(other, name)
        assert one._client is other._client  # one pool of connections


def test_the_client_itself_stays_as_it_is(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    gate.wrap(claude)
    api.will(anthropic_api.answers())
    claude.messages.create(**ASKED)
    assert "hold" not in gate.world.functions.calls and gate.usages == []


def test_copies_of_a_wrapped_client_hold_once(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic, gpt: openai.OpenAI
) -> None:
    api.will(anthropic_api.answers(), openai_api.answers(), anthropic_api.answers())
    deep = gate.wrap(claude, default=ANN).with_options(timeout=3).copy(max_retries=1)
    assert (deep.timeout, deep.max_retries) == (3, 1)
    deep.messages.create(**ASKED)
    gate.wrap(gpt, default=ANN).with_options(timeout=3).copy().responses.create(**RESPONSE)
    gate.wrap(claude, default=ANN).with_middleware(_pass_on).messages.create(**ASKED)
    assert gate.world.functions.calls.count("hold") == 3 and len(gate.usages) == 3


def _pass_on(request: Any, call_next: Any) -> Any:
    return call_next(request)


def test_a_default_identity_may_be_given(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    api.will(anthropic_api.answers(), anthropic_api.answers())
    wrapped = gate.wrap(claude, default=ANN)
    wrapped.messages.create(**ASKED)
    with acting_for(organization="acme", member="bob", surface="cowork", scopes=("group/g",)):
        wrapped.messages.create(**ASKED)
    assert [(usage.member, usage.surface) for usage in gate.usages] == [
        ("ann", "web"),
        ("bob", "cowork"),
    ]


@pytest.mark.parametrize(
    ("wrap", "match"),
    [
        (lambda gate, claude: gate.wrap(object()), "takes a client of anthropic or openai"),
        (lambda gate, claude: gate.wrap(anthropic), "takes a client of anthropic or openai"),
        (lambda gate, claude: gate.wrap(gate.wrap(claude)), "is wrapped"),
        (lambda gate, claude: gate.wrap(gate.wrap(claude).copy()), "is wrapped"),
        (lambda gate, claude: gate.wrap(claude, allow="/embeddings"), "must be paths"),
        (lambda gate, claude: AsyncFakeGate().wrap(claude), "Anthropic needs a Gate"),
        (
            lambda gate, claude: gate.wrap(anthropic.AnthropicBedrock(aws_region="r", api_key="k")),
            "frames of AWS",
        ),
        (
            lambda gate, claude: gate.wrap(anthropic.AsyncAnthropic(api_key="k")),
            "AsyncAnthropic needs an AsyncGate",
        ),
    ],
)
def test_what_cannot_be_wrapped_is_told_why(
    gate: FakeGate, claude: anthropic.Anthropic, wrap: Any, match: str
) -> None:
    with pytest.raises(Misuse, match=match):
        wrap(gate, claude)


def test_a_closed_gate_makes_no_call(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    wrapped = gate.wrap(claude, default=ANN)
    gate.close()
    with pytest.raises(Misuse, match="closed"):
        wrapped.messages.create(**ASKED)
    assert api.asked == []


def test_the_hold_is_there_while_the_provider_answers_and_covers_the_request(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    held: list[int] = []

    def answer(asked: Any) -> Any:
        held.append(gate.reserved_micros)
        return anthropic_api.answers()(asked)

    api.will(answer, answer, answer)
    wrapped = gate.wrap(claude, default=ANN)
    for max_tokens, prompt in ((1_000, 0), (2_000, 0), (2_000, 1_000)):
        messages = [{"role": "user", "content": "x" * prompt}]
        wrapped.messages.create(model=MODEL, max_tokens=max_tokens, messages=messages)  # type: ignore[arg-type] # plain dicts
    bare = held[0] - 10 * 1_000  # 10 USD a million of output
    assert 0 < bare < 500
    assert held == [bare + 10_000, bare + 20_000, bare + 20_000 + 2 * 1_000]


def test_settings_say_how_much_is_held(gate: FakeGate, api: StandIn, gpt: openai.OpenAI) -> None:
    held: list[int] = []

    def answer(asked: Any) -> Any:
        held.append(gate.reserved_micros)
        return openai_api.answers()(asked)

    api.will(answer)
    settings = WrapSettings(max_output_tokens=5_000, bytes_per_token=4)
    wrapped = gate.wrap(gpt, default=ANN, settings=settings)
    wrapped.responses.create(model=MODEL, input="x" * 40_000)
    [micros] = held
    assert 5_000 * 10 + 10_000 * 2.5 <= micros < 5_000 * 10 + 10_100 * 4.01


def test_a_stream_may_be_left_without_its_usage(
    gate: FakeGate, api: StandIn, gpt: openai.OpenAI
) -> None:
    """For servers that don't know `stream_options`: charged by the text that came."""
    api.will(openai_api.answers(Turn(text=("x" * 30, "y" * 30))))
    wrapped = gate.wrap(gpt, default=ANN, settings=WrapSettings(asks_stream_usage=False))
    list(wrapped.chat.completions.create(**CHAT, stream=True))
    assert "stream_options" not in api.asked[0].body
    [usage] = gate.usages
    assert (usage.usage_source, usage.output_tokens) == ("estimated", 20)
    assert 150 < usage.input_tokens < 250


@pytest.mark.parametrize("asked", [False, True])
def test_a_call_site_s_own_stream_options_stay(
    gate: FakeGate, api: StandIn, gpt: openai.OpenAI, asked: bool
) -> None:
    options: Any = {"include_usage": asked, "include_obfuscation": False}
    api.will(openai_api.answers())
    stream = gate.wrap(gpt, default=ANN).chat.completions.create(
        **CHAT, stream=True, stream_options=options
    )
    usages = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert len(usages) == int(asked)
    assert api.asked[0].body["stream_options"] == {**options, "include_usage": True}
    assert options["include_usage"] is asked
    assert [usage.usage_source for usage in gate.usages] == ["reported"]


@pytest.mark.parametrize(
    ("asked", "answered", "recorded"),
    [
        (MODEL, f"{MODEL}-20260131", MODEL),
        (MODEL, f"{MODEL}-2026-01-31", MODEL),
        (MODEL, "claude-opus-5", "claude-opus-5"),
        (MODEL, f"{MODEL}-5", f"{MODEL}-5"),
        ("our-deployment", "our-deployment", MODEL),
        ("our-deployment", f"{MODEL}-2026-01-31", MODEL),
        ("our-deployment", "claude-opus-5", "claude-opus-5"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_usage_has_the_model_s_name_on_the_rate_card(
    gate: FakeGate,
    api: StandIn,
    gpt: openai.OpenAI,
    asked: str,
    answered: str,
    recorded: str,
    is_stream: bool,
) -> None:
    """By the name of the dated snapshot, which providers answer with, it would have no price."""
    api.will(openai_api.answers(Turn(model=answered)))
    wrapped = gate.wrap(gpt, default=ANN, settings=WrapSettings(models={"our-deployment": MODEL}))
    answer: Any = wrapped.responses.create(model=asked, input="hi", stream=is_stream)
    if is_stream:
        list(answer)
    assert [usage.model for usage in gate.usages] == [recorded]
    assert api.asked[0].body["model"] == asked


def test_extra_body_counts_for_the_hold(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    held: list[int] = []

    def answer(asked: Any) -> Any:
        held.append(gate.reserved_micros)
        return anthropic_api.answers()(asked)

    api.will(answer)
    gate.wrap(claude, default=ANN).messages.create(**ASKED, extra_body={"max_tokens": 9_000})
    assert held[0] > 90_000 and api.asked[0].body["max_tokens"] == 9_000


def test_messages_may_come_from_an_iterator(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic, gpt: openai.OpenAI
) -> None:
    api.will(anthropic_api.answers(), openai_api.answers())
    prompt: Any = {"role": "user", "content": "Who?"}
    more = {**ASKED, "messages": iter([prompt])}
    gate.wrap(claude, default=ANN).messages.create(**more)
    chat = {**CHAT, "messages": iter([prompt])}
    gate.wrap(gpt, default=ANN).chat.completions.create(**chat)
    assert [asked.body["messages"] for asked in api.asked] == [[prompt], [prompt]]


def test_every_request_of_the_library_s_tool_runner_is_held(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    @anthropic.beta_tool
    def find(q: int) -> str:
        """Find it.

        Args:
            q: What.
        """
        return f"found {q}"

    api.will(anthropic_api.answers(Turn(tool=("find", '{"q": 1}'))), anthropic_api.answers())
    runner = gate.wrap(claude, default=ANN).beta.messages.tool_runner(**ASKED, tools=[find])
    runner.until_done()
    assert gate.world.functions.calls.count("hold") == 2 and len(gate.usages) == 2


def test_counting_tokens_needs_no_hold_and_nobody_who_pays(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    api.will(anthropic_api.counted(17))
    messages: Any = ASKED["messages"]
    counted = gate.wrap(claude).messages.count_tokens(model=MODEL, messages=messages)
    assert counted.input_tokens == 17 and "hold" not in gate.world.functions.calls


def test_what_is_not_understood_is_refused_by_name_unless_allowed(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic, gpt: openai.OpenAI
) -> None:
    with pytest.raises(Misuse, match="POST /embeddings"):
        gate.wrap(gpt, default=ANN).embeddings.create(model="m", input="x", encoding_format="float")
    with pytest.raises(Misuse, match="POST /images/generations"):
        gate.wrap(gpt, default=ANN).images.generate(model="m", prompt="x")
    with pytest.raises(Misuse, match="POST /messages/batches"):
        gate.wrap(claude, default=ANN).messages.batches.create(requests=[])
    assert api.asked == []
    embedding = {"object": "embedding", "index": 0, "embedding": [0.5]}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    api.will(json_answer({"object": "list", "data": [embedding], "model": "m", "usage": usage}))
    allowed = gate.wrap(gpt, allow=("/embeddings",))
    found = allowed.embeddings.create(model="m", input="x", encoding_format="float")
    assert found.data[0].embedding == [0.5]
    assert "hold" not in gate.world.functions.calls


def test_a_body_in_bytes_is_refused(gate: FakeGate, gpt: openai.OpenAI) -> None:
    with pytest.raises(Misuse, match="not as bytes"):
        gate.wrap(gpt, default=ANN).post("/responses", content=b"{}", cast_to=object)


def test_an_identity_that_the_log_would_refuse_is_refused_before_the_call(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    wrapped = gate.wrap(claude)
    with acting_for(organization="a@b", member="ann", surface="web"), pytest.raises(InvalidInput):
        wrapped.messages.create(**ASKED)
    assert api.asked == []


def resources_that_connect() -> list[tuple[str, ...]]:
    """The resources of the installed library that have a `connect`, by their place below a client."""
    spec = importlib.util.find_spec("openai.resources")
    assert spec is not None and spec.submodule_search_locations
    root = Path(next(iter(spec.submodule_search_locations)))
    found = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        if "connect" in names:
            place = path.relative_to(root).with_suffix("").parts
            found.append(place[:-1] if len(place) > 1 and place[-1] == place[-2] else place)
    return found


@pytest.mark.parametrize("place", resources_that_connect(), ids=".".join)
def test_no_websocket_is_opened(
    gate: FakeGate, gpt: openai.OpenAI, place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new way to connect, in a newer release of the library, is found here."""
    library = ModuleType("websockets.sync.client")
    library.connect = lambda *_, **__: pytest.fail("a connection was opened")  # type: ignore[attr-defined] # a stand-in
    for name in ("websockets", "websockets.sync"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, library.__name__, library)
    resource: Any = gate.wrap(gpt, default=ANN).with_options(timeout=5)
    for name in place:
        resource = getattr(resource, name)
    needed: dict[str, Any] = {"model": "m"}
    if place[0] == "responses" or place == ("beta", "responses"):
        needed = {}
    elif place[0] == "live":
        needed = {"session_id": "s"} if len(place) > 1 else {}
    with pytest.raises(Misuse, match="WebSocket connections"):
        resource.connect(**needed).enter()


def test_websockets_may_be_allowed(gate: FakeGate, gpt: openai.OpenAI) -> None:
    wrapped = gate.wrap(gpt.copy(websocket_base_url="ws://127.0.0.1:9"), allow=("/websocket",))
    assert type(wrapped) is openai.OpenAI
    assert wrapped.with_options(timeout=1).websocket_base_url == "ws://127.0.0.1:9"


def test_where_websockets_are_is_kept_for_copies(gate: FakeGate, gpt: openai.OpenAI) -> None:
    wrapped = gate.wrap(gpt.copy(websocket_base_url="ws://127.0.0.1:9"))
    kept = wrapped.with_options(timeout=1).copy()
    assert vars(kept)["_tollkeeper_websocket_base_url"] == "ws://127.0.0.1:9"
    with pytest.raises(Misuse):
        _ = kept.websocket_base_url


def test_a_policy_may_let_calls_through_and_they_are_charged(
    api: StandIn, claude: anthropic.Anthropic
) -> None:
    gate = FakeGate(FakeWorld(cap_usd="0.000001", policy="observe"))
    api.will(anthropic_api.answers())
    gate.wrap(claude, default=ANN).messages.create(**ASKED)
    [usage] = gate.usages
    assert (usage.hold_id, usage.usage_source, usage.input_tokens) == (None, "reported", 100)


def test_a_gate_that_is_away_refuses_and_says_so(
    gate: FakeGate, api: StandIn, claude: anthropic.Anthropic
) -> None:
    gate.world.functions.is_away = True
    with pytest.raises(Refused) as refused:
        gate.wrap(claude, default=ANN).messages.create(**ASKED)
    assert refused.value.is_unavailable and api.asked == []


def test_a_model_without_a_price_is_refused(
    gate: FakeGate, api: StandIn, gpt: openai.OpenAI
) -> None:
    with pytest.raises(Refused, match="no price for gpt-unheard-of"):
        gate.wrap(gpt, default=ANN).responses.create(model="gpt-unheard-of", input="Who?")
    assert api.asked == []
