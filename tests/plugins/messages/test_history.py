"""No block of a conversation makes it unusable: blocks are passed to the model, or dropped and listed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.client import post, script
from tests.support.server import ServerProcess

PATH = "/v1/messages"
QUESTION = {"role": "user", "content": "q"}
CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
OPENAI_CALL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IGNORED = "x-mlx-host-ignored"


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def field_script(field: str) -> str:
    """The script of the scripted model that outputs a field of its request."""
    content: str = script(["request", field])[0]["content"]
    return content


def received(server: ServerProcess, field: str, *messages: Any, **body: Any) -> tuple[Any, str]:
    """Return a field of the request that the model gets for these messages and a last one, and the ignored fields."""
    last = {"role": "user", "content": field_script(field)}
    response = post(server, {"max_tokens": 9, "messages": [*messages, last], **body}, PATH)
    assert response.status_code == 200, response.text
    return json.loads(response.json()["content"][0]["text"]), response.headers.get(IGNORED, "")


def turn(*blocks: dict[str, Any]) -> list[Any]:
    return [QUESTION, {"role": "assistant", "content": list(blocks)}]


def results(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
FOUND = {"type": "web_search_result", "title": "T", "url": "https://example.org", "encrypted_content": "zz"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        # The model learns that a tool failed.
        (
            [*turn(CALL), results({"type": "tool_result", "tool_use_id": "t", "content": "boom", "is_error": True})],
            [{"role": "tool", "tool_call_id": "t", "content": "Error:\nboom"}],
        ),
        (
            [*turn(CALL), results({"type": "tool_result", "tool_use_id": "t", "is_error": True})],
            [{"role": "tool", "tool_call_id": "t", "content": "Error:"}],
        ),
        # The document's title and context.
        (
            [
                results(
                    {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "d"}},
                )
            ],
            [{"role": "user", "content": "T\nC\nd"}],
        ),
        # Calls of tools that another server ran.
        (
            turn(SEARCH, {"type": "web_search_tool_result", "tool_use_id": "s", "content": [FOUND]}, text("Found it.")),
            [
                {"role": "tool", "tool_call_id": "s", "content": json.dumps([dict(list(FOUND.items())[:3])])},
                {"role": "assistant", "content": "Found it."},
            ],
        ),
        (
            turn(
                {"type": "mcp_tool_use", "id": "m", "name": "x", "server_name": "s", "input": {}},
                {"type": "mcp_tool_result", "tool_use_id": "m", "content": [text("1"), text("2")]},
            ),
            [{"role": "tool", "tool_call_id": "m", "content": "1\n2"}],
        ),
        # A summary replaces what is before it.
        (
            [QUESTION, *turn({"type": "compaction", "content": "All."})],
            [{"role": "user", "content": "Summary of the conversation so far:\n\nAll."}],
        ),
        (
            [results({"type": "compaction", "content": "All."}, text("Next."))],
            [
                {"role": "user", "content": "Summary of the conversation so far:\n\nAll."},
                {"role": "user", "content": "Next."},
            ],
        ),
        # Late system messages, and one that only one turn sees.
        ([QUESTION, {"role": "system", "content": "Late."}], [{"role": "system", "content": "Late."}]),
        (
            [QUESTION, {"role": "system", "content": "Gone.", "clear_at": "next_user_message"}],
            [QUESTION],
        ),
    ],
)
def test_blocks_are_passed_to_the_model(server: ServerProcess, messages: list[Any], expected: list[Any]) -> None:
    converted, ignored = received(server, "messages", *messages)
    assert converted[-1 - len(expected) : -1] == expected
    assert "messages.content.compaction" not in ignored


@pytest.mark.parametrize(
    ("messages", "listed"),
    [
        (turn({"type": "acme_block", "x": 1}), "messages.content.acme_block"),
        (turn(text("a"), {"type": "mcp_tool_listing", "tools": []}), "messages.content.mcp_tool_listing"),
        (turn({"type": "redacted_thinking", "data": "x"}), "messages.content.redacted_thinking"),
        (
            turn({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
            "messages.content.web_search_tool_result",
        ),
        (turn({"type": "compaction", "content": None, "encrypted_content": "x"}), "messages.content.compaction"),
        ([results({"type": "container_upload", "file_id": "f"}, text("Hi."))], "messages.content.container_upload"),
        ([results({"type": "image", "source": {"type": "file", "file_id": "f"}})], "messages.content.image"),
        (
            [results({"type": "document", "title": "T", "source": {"type": "base64", "data": "JVBE"}})],
            "messages.content.document",
        ),
        ([QUESTION, {"role": "system", "content": [{"type": "acme"}]}], "messages.content.acme"),
        # Malformed blocks of earlier turns.
        (turn({"type": "tool_use"}), "messages.content.tool_use"),
        (turn({"type": "text", "text": 1}), "messages.content.text"),
        (turn({"x": 1}), "messages.content"),
        ([{"role": "user", "content": [{"type": "image"}]}, *turn(text("a"))], "messages.content.image"),
        ([{"role": "critic", "content": "x"}, *turn(text("a"))], "messages.role.critic"),
        ([{"role": "user"}, *turn(text("a"))], "messages.role.user"),
    ],
)
@pytest.mark.parametrize("path", ["", "/count_tokens"])
def test_other_blocks_are_dropped_and_listed(
    server: ServerProcess, messages: list[Any], listed: str, path: str
) -> None:
    response = post(server, {"max_tokens": 9, "messages": [*messages, QUESTION]}, f"{PATH}{path}")
    assert response.status_code == 200, response.text
    assert listed in response.headers[IGNORED].split(", ")


def test_a_document_that_cannot_be_read_is_mentioned_to_the_model(server: ServerProcess) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "document", "title": "T", "source": source}],
    }
    converted, _ = received(server, "messages", *turn(CALL), results(result))
    title, _, note = converted[-2]["content"].partition("\n")
    assert title == "T"
    assert note


def test_late_tools_join_the_tools(server: ServerProcess) -> None:
    def tool(name: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "input_schema": {"type": "object"}, **fields}

    def change(kind: str, tool: Any) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": kind, "tool": tool}]}

    def names(*messages: Any, **body: Any) -> list[str]:
        offered, _ = received(server, "tools", *messages, **body)
        return [each["function"]["name"] for each in offered]

    tools = [tool("a"), tool("b", defer_loading=True), tool("c", defer_loading=True)]
    assert names(QUESTION, tools=tools) == ["a"]
    reference = {"type": "tool_reference", "tool_name": "c"}
    found = results({"type": "tool_result", "tool_use_id": "t", "content": [reference]})
    assert names(*turn(CALL), found, tools=tools) == ["a", "c"]
    reference = {"type": "tool_reference", "name": "b"}
    assert names(change("tool_addition", reference), tools=tools) == ["a", "b"]
    definition = {"type": "tool_definition", "definition": tool("d")}
    assert names(change("tool_addition", definition), change("tool_removal", {"name": "a"}), tools=tools) == ["d"]
    assert names({"role": "system", "content": [{"type": "tool_addition", "tools": []}]}, tools=tools) == ["a"]
    # A hosted tool search would have found them.
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    assert names(QUESTION, tools=[*tools, search]) == ["a", "b", "c"]


def test_a_result_with_a_tool_reference_is_accepted_without_tools(server: ServerProcess) -> None:
    reference = {"type": "tool_reference", "tool_name": "f"}
    found = results({"type": "tool_result", "tool_use_id": "t", "content": [reference]})
    response = post(server, {"max_tokens": 9, "messages": [*turn(CALL), found]}, PATH)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("tool", "name", "properties"),
    [
        ({"type": "bash_20250124", "name": "bash"}, "bash", {"command", "restart"}),
        ({"type": "bash_20990101", "name": "shell"}, "shell", {"command", "restart"}),
        (
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9},
            "str_replace_based_edit_tool",
            {"command", "path", "file_text", "old_str", "new_str", "insert_line", "insert_text", "view_range"},
        ),
        (
            {"type": "text_editor_20250124", "name": "str_replace_editor"},
            "str_replace_editor",
            {"command", "path", "file_text", "old_str", "new_str", "insert_line", "view_range"},
        ),
        (
            {"type": "computer_20241022", "name": "computer", "display_width_px": 9, "display_height_px": 9},
            "computer",
            {"action", "coordinate", "text"},
        ),
        (
            {"type": "memory_20250818", "name": "memory"},
            "memory",
            {"command", "path", "view_range", "file_text", "old_str", "new_str", "insert_line", "insert_text"}
            | {"old_path", "new_path"},
        ),
    ],
)
def test_client_tools_are_offered_with_their_input(
    server: ServerProcess, tool: dict[str, Any], name: str, properties: set[str]
) -> None:
    (offered,), ignored = received(server, "tools", tools=[tool])
    assert offered["function"]["name"] == name
    assert set(offered["function"]["parameters"]["properties"]) == properties
    assert ignored == ""


def test_examples_of_inputs_are_described(server: ServerProcess) -> None:
    tool = {"name": "f", "description": "F.", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}
    (offered,), ignored = received(server, "tools", tools=[tool])
    assert offered["function"]["description"].splitlines()[0] == "F."
    assert offered["function"]["description"].splitlines()[-1] == '{"a": 1}'
    assert ignored == ""


def test_an_assistant_message_at_the_end_is_continued(server: ServerProcess) -> None:
    question = {"role": "user", "content": field_script("continue_final_message")}

    def continues(content: Any) -> bool:
        body = {"max_tokens": 9, "messages": [question, {"role": "assistant", "content": content}]}
        response = post(server, body, PATH)
        assert response.status_code == 200, response.text
        return bool(response.json()["content"][0]["text"] == "true")

    assert continues("One, two,")
    assert continues([text("One,"), text("two,")])
    assert not continues("")
    assert not continues([text("Look:"), CALL])
