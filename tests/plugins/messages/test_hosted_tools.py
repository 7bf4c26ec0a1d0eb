"""A hosted tool that the model could not do without ends the message with a result that reports it as unavailable."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.support.client import post, text_script
from tests.support.server import ServerProcess

WEATHER: dict[str, Any] = {"name": "get_weather", "input_schema": {"type": "object"}}
SEARCH: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
FETCH: dict[str, Any] = {"type": "web_fetch_20260318", "name": "web_fetch"}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tools": [SEARCH]}, "web_search"),
        ({"tools": [FETCH]}, "web_fetch"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "web_search"),
        ({"tools": [SEARCH, WEATHER], "tool_choice": {"type": "tool", "name": "web_search"}}, "web_search"),
        ({"tools": [{"type": "code_execution_20260521", "name": "code_execution"}]}, "code_execution"),
    ],
)
def test_a_hosted_tool_is_unavailable(client: anthropic.Anthropic, fields: dict[str, Any], name: str) -> None:
    body: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": text_script("invented"), **fields}
    message = client.messages.create(**body)
    use, result, text = message.content
    assert (use.type, result.type, text.type) == ("server_tool_use", f"{name}_tool_result", "text")
    assert use.type == "server_tool_use"
    assert use.name == name
    contents = result.to_dict()
    assert contents["tool_use_id"] == use.id
    assert contents["content"] == {"type": f"{name}_tool_result_error", "error_code": "unavailable"}
    assert message.stop_reason == "end_turn"
    with client.messages.stream(**body) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in streamed.content] == [block.type for block in message.content]
    # The message can be sent back.
    client.messages.create(**{**body, "messages": [*body["messages"], message.to_param(), *text_script("a")]})


@pytest.mark.parametrize("fields", [{"tools": [SEARCH, WEATHER]}, {"tools": [SEARCH], "tool_choice": {"type": "none"}}])
def test_hosted_tools_are_ignored_where_the_model_can_do_without(server: ServerProcess, fields: Any) -> None:
    response = post(server, {"max_tokens": 9, "messages": text_script("a"), **fields}, "/v1/messages")
    assert response.json()["content"] == [{"type": "text", "text": "a"}]
    assert "tools.web_search_20250305" in response.headers["x-mlx-host-ignored"]
