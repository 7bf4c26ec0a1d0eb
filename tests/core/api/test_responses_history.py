"""Input items of other servers and of the future: passed to the model, or dropped and listed, but never rejected."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from mlx_host._apis.responses import opaque
from mlx_host._apis.responses.chat_messages import Conversation, to_conversation
from mlx_host._apis.responses.items import normalize_items
from mlx_host.errors import InvalidRequestError, UnsupportedRequestError

from tests.core.api.test_chat import cut
from tests.core.api.test_responses import RESPONSES, script, text_script
from tests.support.client import error_of, get, post
from tests.support.server import ServerProcess

USER = {"role": "user", "content": text_script("ok")}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def converted(*items: Any, modalities: Any = None) -> Conversation:
    return to_conversation(None, normalize_items(list(items), {}), modalities=modalities)


def roles(conversation: Conversation) -> list[str]:
    return [message["role"] for message in conversation.messages]


PASSED: list[tuple[list[dict[str, Any]], list[str], str, str]] = [
    (
        [
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
        ],
        ["patch"],
        '{"input": "x"}',
        "ok",
    ),
    (
        [{"type": "mcp_call", "id": "m", "name": "x", "server_label": "s", "arguments": "{}", "output": "r"}],
        ["x"],
        "{}",
        "r",
    ),
    (
        [{"type": "mcp_call", "id": "m", "name": "x", "server_label": "s", "arguments": "{}", "error": "no"}],
        ["x"],
        "{}",
        "no",
    ),
    (
        [
            {
                "type": "local_shell_call",
                "call_id": "c",
                "id": "l",
                "action": {"command": ["ls"]},
                "status": "completed",
            },
            {"type": "local_shell_call_output", "id": "c", "output": "files"},
        ],
        ["local_shell"],
        '{"command":["ls"]}',
        "files",
    ),
    (
        [
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "f"}]},
        ],
        ["shell"],
        '{"commands":["ls"]}',
        '[{"stdout":"f"}]',
    ),
    (
        [
            {"type": "apply_patch_call", "call_id": "c", "operation": {"path": "a"}, "status": "completed"},
            {"type": "apply_patch_call_output", "call_id": "c", "status": "failed"},
        ],
        ["apply_patch"],
        '{"path":"a"}',
        "[failed]",
    ),
    (
        [
            {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"query": "q"}},
            {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": []},
        ],
        ["tool_search"],
        '{"query":"q"}',
        "Found tools: none",
    ),
]


@pytest.mark.parametrize(("items", "names", "arguments", "result"), PASSED)
def test_calls_of_other_types_are_passed(
    server: ServerProcess, items: list[dict[str, Any]], names: list[str], arguments: str, result: str
) -> None:
    conversation = converted(*items, USER)
    call, output, _ = conversation.messages
    assert [each["function"]["name"] for each in call["tool_calls"]] == names
    assert call["tool_calls"][0]["function"]["arguments"] == arguments
    assert output["tool_call_id"] == call["tool_calls"][0]["id"]
    assert output["content"] == result
    assert conversation.ignored == []
    response = post(server, {"input": [*items, USER]}, RESPONSES)
    assert response.status_code == 200, response.text
    # The label of an MCP server is the only field without an effect.
    labelled = any("server_label" in item for item in items)
    assert response.headers.get("x-mlx-host-ignored") == ("input.server_label" if labelled else None)


DROPPED: list[dict[str, Any]] = [
    {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "file_search_call", "id": "f", "status": "completed", "queries": []},
    {"type": "code_interpreter_call", "id": "c", "status": "completed", "code": "1", "container_id": "x"},
    {"type": "image_generation_call", "id": "i", "status": "completed", "result": "AAAA"},
    {"type": "computer_call", "id": "c", "call_id": "c", "status": "completed", "action": {}},
    {"type": "mcp_list_tools", "id": "m", "server_label": "s", "tools": []},
    {"type": "mcp_call", "id": "m"},
    {"type": "compaction", "encrypted_content": "opaque"},
    {"type": "compaction", "encrypted_content": "mlx-host.1.%%%"},
    {"type": "compaction"},
    {"type": "acme_note", "id": "n", "status": "completed", "text": "x"},
    {"type": "acme_note", "id": ["n"]},
]


@pytest.mark.parametrize("item", DROPPED)
def test_other_items_are_dropped_and_listed(server: ServerProcess, item: dict[str, Any]) -> None:
    for stream in (False, True):
        response = post(server, {"input": [item, USER], "stream": stream}, RESPONSES)
        assert response.status_code == 200, response.text
        assert response.headers["x-mlx-host-ignored"] == f"input.{item['type']}"
    stored = post(server, {"input": [item, USER]}, RESPONSES).json()
    listed = get(server, f"{RESPONSES}/{stored['id']}/input_items?order=asc").json()["data"]
    assert {**item, "id": listed[0]["id"]} == listed[0]
    following = post(server, {"input": [USER], "previous_response_id": stored["id"]}, RESPONSES)
    assert (following.status_code, following.headers["x-mlx-host-ignored"]) == (200, f"input.{item['type']}")


@pytest.mark.parametrize("type", [{}, {"type": None}])
def test_an_item_with_an_id_only_is_a_reference(server: ServerProcess, type: dict[str, Any]) -> None:
    error = error_of(post(server, {"input": [{**type, "id": "msg_1"}, USER]}, RESPONSES), 404)
    assert (error["code"], error["param"]) == ("item_not_found", "input")
    first = post(server, {"input": text_script("said")}, RESPONSES).json()
    given = {"input": [{**type, "id": first["output"][0]["id"]}, USER]}
    assert post(server, given, RESPONSES).status_code == 200


def test_phases_and_encrypted_reasoning_are_kept(server: ServerProcess) -> None:
    items = [
        {"type": "message", "role": "assistant", "phase": "commentary", "content": "c"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "opaque"},
        USER,
    ]
    response = post(server, {"input": items}, RESPONSES)
    assert response.headers["x-mlx-host-ignored"] == "input.encrypted_content"
    listed = get(server, f"{RESPONSES}/{response.json()['id']}/input_items?order=asc").json()["data"]
    assert (listed[0]["phase"], listed[1]["encrypted_content"]) == ("commentary", "opaque")


def test_encrypted_reasoning_makes_the_round_trip(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="m", input=script(*cut("<think>\nHm.\n</think>\n\nYes.")), include=["reasoning.encrypted_content"]
    )
    reasoning = response.output[0]
    assert reasoning.type == "reasoning"
    assert reasoning.encrypted_content
    # Some clients send back neither the content nor the id.
    sent = {"type": "reasoning", "summary": [], "encrypted_content": reasoning.encrypted_content}
    conversation = converted(sent, response.output[1].to_dict())
    assert conversation.messages[0]["reasoning_content"].strip() == "Hm."
    assert conversation.ignored == []


def test_unknown_parts_are_dropped_and_listed() -> None:
    conversation = converted(
        {"role": "user", "content": [{"type": "acme_video", "x": 1}, {"type": "input_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "acme_video"}]},
        USER,
    )
    assert [message["content"] for message in conversation.messages[:3]] == ["a", None, ""]
    assert conversation.ignored == ["input.content.acme_video", "input.output.acme_video"]


def test_media_in_the_history_is_omitted_for_a_text_model() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    earlier = [{"role": "user", "content": [IMAGE, audio]}, {"role": "assistant", "content": "no"}]
    shown = {"type": "function_call_output", "call_id": "c", "output": [IMAGE]}
    conversation = converted(*earlier, shown, USER, modalities={"text"})
    assert conversation.ignored == [
        "input.content.input_image",
        "input.content.input_audio",
        "input.output.input_image",
    ]
    parts = conversation.messages[0]["content"]
    assert [part["type"] for part in parts] == ["text", "text"]
    assert "image" in conversation.messages[2]["content"]
    last = {"role": "user", "content": [IMAGE]}
    for modalities in ({"text", "image"}, None):
        kept = converted(*earlier[:1], last, modalities=modalities).messages
        assert kept[0]["content"][0]["type"] == kept[1]["content"][0]["type"] == "image_url"
    assert converted(last, modalities={"text"}).messages[0]["content"][0]["type"] == "image_url"


def test_files_by_id_are_rejected_only_in_the_last_message() -> None:
    file = {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}
    assert converted(file, USER).ignored == ["input.content.input_image"]
    with pytest.raises(InvalidRequestError) as rejected:
        converted(USER, file)
    assert "input[1].content[0]" in rejected.value.message


def test_model_errors_refer_to_the_fields_of_the_client() -> None:
    conversation = to_conversation(
        "be",
        normalize_items(
            [
                {"role": "assistant", "content": "earlier"},
                {"role": "user", "content": [{"type": "acme"}, {"type": "input_text", "text": "a"}, IMAGE]},
            ],
            {},
        ),
        history=1,
    )
    error = UnsupportedRequestError("messages[2].content[1] is of type 'image_url'; no", param="messages")
    conversation.translate(error)
    assert error.message.startswith("input[0].content[2] is of type 'input_image'")
    assert error.param == "input"


def test_an_image_for_a_text_model_is_rejected_by_its_path(server: ServerProcess) -> None:
    steps = script(["reject", "messages[0].content is too long"])
    error = error_of(post(server, {"input": [{"role": "user", "content": steps}]}, RESPONSES), 400)
    assert error["message"].startswith("input[0].content")
    assert error["param"] == "input"


def test_a_compaction_trigger_is_rejected_only_at_the_end(server: ServerProcess) -> None:
    trigger = {"type": "compaction_trigger"}
    assert error_of(post(server, {"input": [USER, trigger]}, RESPONSES), 400)["param"] == "input"
    response = post(server, {"input": [trigger, USER]}, RESPONSES)
    assert (response.status_code, response.headers["x-mlx-host-ignored"]) == (200, "input.compaction_trigger")


def test_an_output_without_its_call_is_rejected_only_in_a_stored_conversation(server: ServerProcess) -> None:
    orphan = {"type": "function_call_output", "call_id": "call_0", "output": text_script("x")}
    assert post(server, {"input": [orphan]}, RESPONSES).status_code == 200
    first = post(server, {"input": text_script("x")}, RESPONSES).json()
    error = error_of(post(server, {"input": [orphan], "previous_response_id": first["id"]}, RESPONSES), 400)
    assert error["code"] == "tool_call_not_found"


def test_opaque_text_of_others_is_not_decoded() -> None:
    assert opaque.decode(opaque.encode({"a": "ü\ud800"})) == {"a": "ü?"}
    for text in ("", "gAAAA", "mlx-host.1.", "mlx-host.1.!", 5, None, opaque.encode(1)[:-3]):
        assert opaque.decode(text) in (None, 1)
