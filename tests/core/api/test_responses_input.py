"""Input items of POST /v1/responses, and their conversion to chat messages."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host._apis.responses.chat_messages import to_conversation
from mlx_host._apis.responses.items import MAX_REFERENCES, ItemNotFoundError, normalize_items, referenced_ids
from mlx_host.errors import InvalidRequestError
from openai.types.responses import ResponseItemList

from tests.support.copy_counting_str import CopyCountingStr

IMAGE = "data:image/png;base64,AAAA"


def messages(given: Any, instructions: str | None = None) -> list[dict[str, Any]]:
    return to_conversation(instructions, normalize_items(given, {})).messages


def call(number: int) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"call_{number}", "name": "f", "arguments": "{}"}


def result(number: int) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": f"out {number}"}


def chat_call(number: int) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def assistant_message(text: str) -> dict[str, Any]:
    """An assistant message as the SDK dumps it, including null fields."""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    return {
        "type": "message",
        "id": "msg",
        "role": "assistant",
        "status": "completed",
        "phase": None,
        "content": [part],
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
        (
            [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            [{"role": "user", "content": "hi"}],
        ),
        ([{"role": "developer", "content": "be"}], [{"role": "system", "content": "be"}]),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "what?"},
                        {"type": "input_image", "image_url": IMAGE, "detail": "low"},
                    ],
                }
            ],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what?"},
                        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
                    ],
                }
            ],
        ),
        (
            [assistant_message("a"), assistant_message("b")],
            [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
        ),
        (
            [thought("hm"), assistant_message("so"), call(1), call(2), result(1), result(2)],
            [
                {
                    "role": "assistant",
                    "content": "so",
                    "reasoning_content": "hm",
                    "tool_calls": [chat_call(1), chat_call(2)],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "out 1"},
                {"role": "tool", "tool_call_id": "call_2", "content": "out 2"},
            ],
        ),
        (
            [call(1), assistant_message("and"), call(2)],
            [{"role": "assistant", "content": "and", "tool_calls": [chat_call(1), chat_call(2)]}],
        ),
        (
            [thought("a"), assistant_message("b"), thought("c"), assistant_message("d")],
            [
                {"role": "assistant", "content": "b", "reasoning_content": "a"},
                {"role": "assistant", "content": "d", "reasoning_content": "c"},
            ],
        ),
        (
            [
                {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "short"}]},
                assistant_message("b"),
            ],
            [{"role": "assistant", "content": "b", "reasoning_content": "short"}],
        ),
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": "x"}, assistant_message("b")],
            [{"role": "assistant", "content": "b"}],
        ),
        (
            [{**result(1), "output": [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]}],
            [
                {
                    "role": "tool",
                    "tool_call_id": "call_1",
                    "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}],
                }
            ],
        ),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        ),
    ],
)
def test_items_become_messages(given: Any, expected: list[dict[str, Any]]) -> None:
    assert messages(given) == expected


def test_instructions_come_first_and_are_joined_with_developer_messages() -> None:
    assert messages("hi", "be") == [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
    developer = {"role": "developer", "content": "brief"}
    assert messages([developer, {"role": "user", "content": "hi"}], "be") == [
        {"role": "system", "content": "be\n\nbrief"},
        {"role": "user", "content": "hi"},
    ]
    assert [message["role"] for message in messages([assistant_message("a"), developer], "be")] == [
        "system",
        "assistant",
        "system",
    ]


@pytest.mark.parametrize(
    ("item", "part"),
    [
        ({"type": 5}, "input[1].type must be a string"),
        ({"role": "wizard", "content": "x"}, "input[1].role must be one of user"),
        ({"content": "x"}, "input[1].role"),
        ({"role": "user"}, "input[1].content must be"),
        ({"role": "user", "content": ["x"]}, "input[1].content[0] must be an object"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[1].content[0].text must be a string"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[1].content[0].image_url must be a string"),
        ({**call(1), "arguments": []}, "input[1].arguments must be a string"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "n"}, "input[1].input must be a string"),
        ({"type": "function_call_output", "output": "x"}, "input[1].call_id must be a string"),
        ({**result(1), "output": {}}, "input[1].output must be"),
        ({"type": "reasoning", "summary": "x"}, "input[1].summary must be a list"),
        ({"type": "reasoning", "summary": [{"type": "summary_text"}]}, "input[1].summary[0].text"),
    ],
)
def test_invalid_items_are_rejected_by_name(item: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidRequestError) as rejected:
        normalize_items([{"role": "user", "content": "x"}, item], {})
    assert part in rejected.value.message
    assert rejected.value.param == "input"


def reference(id: str) -> dict[str, Any]:
    return {"type": "item_reference", "id": id}


def test_references_are_replaced_by_the_stored_items() -> None:
    (stored,) = normalize_items([assistant_message("stored")], {})
    given = [reference("msg"), {"role": "user", "content": "x"}]
    assert referenced_ids(given) == ["msg"]
    assert normalize_items(given, {"msg": stored})[0] == stored
    with pytest.raises(ItemNotFoundError, match=r"input\[0\].*'msg'"):
        normalize_items(given, {})


def test_the_number_of_references_is_limited() -> None:
    given = [reference(f"msg_{number}") for number in range(MAX_REFERENCES)]
    assert len(referenced_ids(given)) == MAX_REFERENCES
    with pytest.raises(InvalidRequestError, match=f"{MAX_REFERENCES + 1}.*{MAX_REFERENCES}"):
        referenced_ids([*given, reference("one_more")])
    with pytest.raises(InvalidRequestError, match=r"input\[1\].*'a'"):
        referenced_ids([reference("a"), reference("a")])


@pytest.mark.parametrize("role", ["developer", "assistant"])
def test_many_messages_are_joined_once(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CopyCountingStr, "copied", 0)
    items = [
        {"role": role, "content": [{"type": "input_text", "text": CopyCountingStr("x" * 10)}]} for _ in range(1000)
    ]
    (message,) = messages([call(1), *items] if role == "assistant" else items)
    assert message["content"] == ("" if role == "assistant" else "\n\n").join(["x" * 10] * 1000)
    assert CopyCountingStr.copied <= 2 * 10 * len(items)


def test_normalized_items_can_be_listed_by_the_sdk() -> None:
    items = normalize_items(
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, thought("z"), call(1), result(1)], {}
    )
    ids = [item["id"] for item in items]
    assert len(set(ids)) == len(ids)
    listed = {"object": "list", "data": items, "first_id": ids[0], "last_id": ids[-1], "has_more": False}
    assert [item.type for item in ResponseItemList.model_validate(listed).data] == [item["type"] for item in items]
    assert normalize_items(items, {}) == items
