"""A prompt's bound is read from any body that the client libraries take, and nothing is used up by it."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.wrapping.bodies import plain, size_of
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings

SETTINGS = WrapSettings()


class Block(BaseModel):
    """Stands for a block of an earlier answer, which call sites put into the next request."""

    type: str = "text"
    text: str
    citations: list[str] | None = None


def body(*content: Any, **more: Any) -> dict[str, Any]:
    """A request with these blocks in its only message."""
    return {"model": "m", "messages": [{"role": "user", "content": list(content)}], **more}


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def test_models_of_the_library_are_dumped_as_they_are_sent() -> None:
    found, used_up = plain(body(Block(type="text", text="hi")))
    assert found["messages"][0]["content"] == [{"type": "text", "text": "hi"}]
    assert not used_up


def test_what_is_not_given_is_left_out() -> None:
    found, _ = plain({"model": "m", "system": anthropic.NOT_GIVEN, "top_k": anthropic.omit})
    assert found == {"model": "m"}


def test_an_iterator_is_used_up_once_and_kept() -> None:
    given = {"model": "m", "messages": iter([{"role": "user", "content": "hi"}])}
    found, used_up = plain(given)
    assert used_up
    assert found["messages"] == [{"role": "user", "content": "hi"}]
    assert given["messages"] is not found["messages"]


def test_the_caller_s_containers_stay_as_they_are() -> None:
    content = (Block(text="a"), Block(text="b"))
    given = body(*content, tools=({"name": "t"},))
    plain(given)
    assert given == body(*content, tools=({"name": "t"},))


@pytest.mark.parametrize("wrong", [None, "text", [1], b"{}"])
def test_a_body_that_is_no_object_is_refused(wrong: object) -> None:
    with pytest.raises(Misuse, match="must be an object"):
        plain(wrong)


def test_a_body_that_contains_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tollkeeper.gate.sdk.wrapping.bodies.MAX_NODES", 1_000)
    given: dict[str, Any] = {"model": "m"}
    given["messages"] = [given]
    with pytest.raises(Misuse, match="must not contain itself"):
        plain(given)


@pytest.mark.parametrize("text", ["plain ascii", "Grüße", "你好吗", "👩‍👩‍👧‍👦", "\ud800"])
def test_every_byte_of_the_text_may_be_a_token(text: str) -> None:
    shorter = size_of(body({"type": "text", "text": ""})).most_tokens(SETTINGS)
    longer = size_of(body({"type": "text", "text": text})).most_tokens(SETTINGS)
    assert longer - shorter == len(text.encode("utf-8", "surrogatepass"))


def test_a_setting_says_how_many_bytes_make_a_token() -> None:
    asked = body({"type": "text", "text": "x" * 3_000})
    exact = size_of(asked).text_bytes
    assert size_of(asked).most_tokens(WrapSettings(bytes_per_token=3)) == -(-exact // 3)


@pytest.mark.parametrize(
    "part",
    [
        image(type="base64", media_type="image/png", data="A" * 900_000),
        image(type="url", url="https://host.example/" + "a" * 5_000),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 900_000},
        {"type": "tool_result", "tool_use_id": "t", "content": [image(type="file", file_id="f")]},
    ],
)
def test_an_image_counts_as_an_image_and_not_by_its_bytes(part: dict[str, Any]) -> None:
    size = size_of(body(part))
    assert (size.images, size.unseen) == (1, 0)
    assert size.text_bytes < 300


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "url", "url": "https://host.example/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "base64", "data": "AAAA"}},
        {"type": "input_file", "file_id": "f"},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "item_reference", "id": "i"},
    ],
)
def test_what_is_only_referred_to_counts_as_unseen(part: dict[str, Any]) -> None:
    assert size_of(body(part)).unseen == 1


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_an_earlier_conversation_counts_as_unseen(name: str) -> None:
    assert size_of({"model": "m", "input": "hi", name: "id"}).unseen == 1
    assert size_of({"model": "m", "input": "hi", name: None}).unseen == 0


def test_addresses_in_what_is_shown_are_nothing_unseen() -> None:
    """The results of an earlier search stand in the conversation, each with its address and file."""
    result = {"type": "web_search_result", "url": "https://host.example", "file_id": "f"}
    found = {"type": "web_search_tool_result", "content": [result] * 20}
    assert size_of(body(found)).unseen == 0


def test_a_schema_with_types_in_a_list_is_only_text() -> None:
    schema = {"type": ["object", "null"], "properties": {"type": {"type": "string"}}}
    assert size_of(body(tools=[{"name": "t", "input_schema": schema}])).images == 0


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([], (False, False)),
        ([{"type": "ephemeral"}], (True, False)),
        ([{"type": "ephemeral", "ttl": "5m"}], (True, False)),
        ([{"type": "ephemeral", "ttl": "1h"}], (False, True)),
        ([{"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}], (True, True)),
    ],
)
def test_marks_for_the_cache_are_found_anywhere(
    marks: list[dict[str, Any]], expected: tuple[bool, bool]
) -> None:
    blocks = [{"type": "text", "text": "x", "cache_control": mark} for mark in marks]
    size = size_of(body(*blocks, cache_control=None))
    assert (size.writes_5m, size.writes_1h) == expected


def test_packed_documents_are_few_tokens_likely_and_many_at_most() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "A" * 300_000}
    asked = body({"type": "document", "source": source}, {"type": "text", "text": "x" * 3_000})
    size = size_of(asked)
    assert size.packed_bytes == 300_000
    assert 11_000 < size.likely_tokens(3) < 11_200
    assert size.most_tokens(SETTINGS) > 403_000


def test_data_in_a_tool_s_arguments_is_text() -> None:
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"data": "x" * 3_000}}
    size = size_of(body(call))
    assert (size.packed_bytes, size.text_bytes > 3_000) == (0, True)


def test_a_prompt_has_a_token_at_least() -> None:
    assert size_of({"model": "m"}).likely_tokens(3) == 1
