import json

import pytest
from mlx_host.parsing import Content, Reasoning, ToolCall
from mlx_host_parser_kimi_k3 import KimiK3Parser

from tests.parsers.feeding import parts_of, read

OPEN = '<|open|>tools<|sep|><|open|>call tool="set-light" index="1"<|sep|>'
CLOSE = "<|close|>call<|sep|><|close|>tools<|sep|>"


def arguments(argument: str) -> object:
    (call,) = [part for part in parts_of(KimiK3Parser, OPEN + argument + CLOSE) if isinstance(part, ToolCall)]
    return json.loads(call.arguments)


@pytest.mark.parametrize(
    ("attributes", "written", "value"),
    [
        ('key="a" type="string"', "7", "7"),
        ('key="a" type="string"', " null\n", " null\n"),
        ('key="a" type="string"', "", ""),
        ('key="a" type="integer"', "9007199254740993", 9007199254740993),
        ('key="a" type="number"', " 1.50 ", 1.5),
        ('key="a" type="null"', "null", None),
        ('type="array" key="a"', "[1]", [1]),
        ('key="a"', "x", "x"),
        ('key="a" type="number"', "many", "many"),
    ],
)
def test_value_is_parsed_by_its_type_attribute(attributes: str, written: str, value: object) -> None:
    assert arguments(f"<|open|>argument {attributes}<|sep|>{written}<|close|>argument<|sep|>") == {"a": value}


def test_a_name_is_unescaped() -> None:
    text = OPEN.replace("set-light", "a&amp;b &quot;c&quot;") + CLOSE
    assert [part.name for part in parts_of(KimiK3Parser, text) if isinstance(part, ToolCall)] == ['a&b "c"']


def test_reasoning_is_streamed_until_the_response() -> None:
    fed = read(KimiK3Parser, ["Co", "ld?<|open|>resp", "onse<|sep|>Y", "es"], generation_prompt="<|open|>think<|sep|>")
    assert fed[0] == [Reasoning("Co")]
    assert fed[1] == [Reasoning("ld?")]
    assert fed[2][-1] == Content("Y")
    assert fed[3] == [Content("es")]


def test_value_ends_only_at_its_closing_tag() -> None:
    value = "<|close|>call<|sep|><|open|>argument <|close|>argument"
    assert arguments(f'<|open|>argument key="a" type="string"<|sep|>{value}<|close|>argument<|sep|>') == {"a": value}
