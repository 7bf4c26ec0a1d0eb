import json

import pytest
from mlx_host.parsing import Content, ToolCall
from mlx_host.requests import Json
from mlx_host_parser_deepseek_v4 import DeepSeekV4Parser
from mlx_host_parser_deepseek_v31 import DeepSeekV31Parser

from tests.parsers.feeding import parts_of, read


def invoke(*parameters: str, gap: str = "") -> str:
    inner = "".join(f"<｜DSML｜{gap}parameter {each}</｜DSML｜{gap}parameter>" for each in parameters)
    return f'<｜DSML｜{gap}invoke name="get_weather">{inner}</｜DSML｜{gap}invoke>'


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ('name="city" string="true"> 7 ', " 7 "),
        ('name="city" string="true">null', "null"),
        ('name="city" string="true">', ""),
        ('name="city" string="false">7', "7"),
        ('name="other" string="false">7', 7),
        ('name="city" string="false">{oops}', "{oops}"),
        ('name="city"> 7 ', " 7 "),
        ('name="days"> 7 ', 7),
        ('name="other">[1]', [1]),
        ('name="city" string="true"><｜DSML｜parameter name="days">', '<｜DSML｜parameter name="days">'),
    ],
)
def test_parameter_types(parameter: str, value: object) -> None:
    for gap in ("", " "):
        [call] = parts_of(DeepSeekV4Parser, invoke(parameter, gap=gap))
        assert isinstance(call, ToolCall)
        assert list(json.loads(call.arguments).values()) == [value]


def test_each_invoke_is_emitted_when_complete() -> None:
    one = invoke('name="city" string="true">Oslo')
    fed = read(
        DeepSeekV4Parser, ["<｜DSML｜tool_calls>\n" + one[:-1], one[-1], "\n" + one, "\n</｜DSML｜tool_calls>", "So."]
    )
    assert [sum(isinstance(part, ToolCall) for part in parts) for parts in fed] == [0, 1, 1, 0, 0, 0]
    assert fed[-2][-1] == Content("So.")


def test_tag_in_text_is_emitted_once_no_call_can_follow() -> None:
    fed = read(DeepSeekV4Parser, ["Write <｜DSML｜tool_calls>", " first", "."])
    assert ["".join(part.source for part in parts) for parts in fed] == [
        "Write ",
        "<｜DSML｜tool_calls> first",
        ".",
        "",
    ]


def test_v31_call_is_emitted_before_its_closing_tokens() -> None:
    call = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{"a": "<｜tool▁call▁end｜>"}'
    [part] = parts_of(DeepSeekV31Parser, call)
    assert isinstance(part, ToolCall)
    assert part.name == "now"


def test_wrapped_arguments_are_unwrapped_unless_declared() -> None:
    wrapped = invoke('name="arguments" string="false">{"city": "Oslo"}')
    tool: Json = {"name": "get_weather", "parameters": {"properties": {"arguments": {"type": "object"}}}}
    parser = DeepSeekV4Parser(tools=[{"type": "function", "function": tool}])
    [call] = parser.feed(wrapped) + parser.finish()
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"arguments": {"city": "Oslo"}}
    [call] = parts_of(DeepSeekV4Parser, wrapped)
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"city": "Oslo"}
