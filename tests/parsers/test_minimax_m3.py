import pytest
from mlx_host.parsing import Content, ToolCall
from mlx_host_parser_minimax_m3 import MiniMaxM3Parser
from mlx_host_parser_minimax_m3.notation import NS

from tests.parsers.feeding import parts_of, read

CALL = f'{NS}<invoke name="get_weather">{NS}<city>Oslo{NS}</city>{NS}</invoke>'


def test_each_invoke_is_emitted_when_complete() -> None:
    fed = read(MiniMaxM3Parser, [f"{NS}<tool_call>\n{CALL[:-1]}", CALL[-1], f"\n{CALL}", f"\n{NS}</tool_call>", "So."])
    assert [sum(isinstance(part, ToolCall) for part in parts) for parts in fed] == [0, 1, 1, 0, 0, 0]
    assert fed[-2] == [Content("So.")]


@pytest.mark.parametrize("depth", [2, 126])
def test_elements_nest(depth: int) -> None:
    text = f'{NS}<invoke name="f">' + f"{NS}<a>" * depth + "1" + f"{NS}</a>" * depth + f"{NS}</invoke>"
    [call] = parts_of(MiniMaxM3Parser, text)
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"a": ' * depth + "1" + "}" * depth


def test_too_deeply_nested_call_is_text() -> None:
    text = f'{NS}<invoke name="f">' + f"{NS}<a>" * 2000 + f"{NS}</a>" * 2000 + f"{NS}</invoke>"
    assert not [part for part in parts_of(MiniMaxM3Parser, text) if isinstance(part, ToolCall)]


def test_tag_in_text_is_emitted_once_no_call_can_follow() -> None:
    fed = read(MiniMaxM3Parser, ["Write <tool_call>", " first", "."])
    assert ["".join(part.source for part in parts) for parts in fed] == ["Write ", "<tool_call> first", ".", ""]
