import re

import pytest
from mlx_host.parsing import Content, ToolCall
from mlx_host_parser_mistral import MistralParser

from tests.parsers.feeding import parts_of, read


def test_new_ids_are_valid_in_chat_templates() -> None:
    ids = {MistralParser.new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", id) for id in ids)


@pytest.mark.parametrize(
    "text",
    ["[TOOL_CALLS]now[CALL_ID]{}[ARGS]{{}}", '[TOOL_CALLS] [{{"name": "now", "arguments": {{}}, "id": "{}"}}]'],
)
@pytest.mark.parametrize(("written", "id"), [("a1B2c3D4e", "a1B2c3D4e"), ("call_0123456789", None), ("", None)])
def test_invalid_id_is_dropped(text: str, written: str, id: str | None) -> None:
    calls = [part for part in parts_of(MistralParser, text.format(written)) if isinstance(part, ToolCall)]
    assert [(call.name, call.id) for call in calls] == [("now", id)]


def test_call_is_emitted_when_its_arguments_are_complete() -> None:
    fed = read(MistralParser, ["So. [TOOL", "_CALLS]now[AR", "GS]{", "}", "[TOOL_CALLS]now{}"])
    assert fed == [
        [Content("So. ")],
        [],
        [],
        [ToolCall("now", "{}", "[TOOL_CALLS]now[ARGS]{}")],
        [ToolCall("now", "{}", "[TOOL_CALLS]now{}")],
        [],
    ]
