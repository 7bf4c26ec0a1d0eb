import json

import pytest
from mlx_host.parsing import Content, ToolCall
from mlx_host_parser_function_gemma import FunctionGemmaParser
from mlx_host_parser_gemma4 import Gemma4Parser

from tests.parsers.feeding import parts_of, read


def arguments(text: str) -> list[object]:
    return [json.loads(part.arguments) for part in parts_of(Gemma4Parser, text) if isinstance(part, ToolCall)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('a:<|"|>He said <|"|>hi<|"|>, then: left<|"|>,b:1', {"a": 'He said "hi", then: left', "b": 1}),
        ('a:<|"|>http://x?y=1,z:2<|"|>,b:1', {"a": "http://x?y=1,z:2", "b": 1}),
        ('a:<|"|>if x { say(<|"|>y<|"|>) }<|"|>', {"a": 'if x { say("y") }'}),
        ("a:-1.5e3,b:null,c:true", {"a": -1.5e3, "b": None, "c": True}),
        ("a:[1,2,],b:{c:1,},", {"a": [1, 2], "b": {"c": 1}}),
        ('"a": "b", "c": [1]', {"a": "b", "c": [1]}),
        ("a:'it\\'s', b:'x'", {"a": "it's", "b": "x"}),
        ('city:<|"|>Oslo<|"|>,days:3,', {"city": "Oslo", "days": 3}),
    ],
)
def test_value_boundaries(written: str, meant: dict[str, object]) -> None:
    assert arguments(f"<|tool_call>call:f{{{written}}}<tool_call|>") == [meant]


def test_brace_at_end_of_output_ends_only_unambiguous_calls() -> None:
    assert arguments('<|tool_call>call:f{a:<|"|>x<|"|>}') == [{"a": "x"}]
    assert arguments('<|tool_call>call:f{a:<|"|>if <|"|>x<|"|> {y<|"|>}') == []
    assert arguments("<|tool_call>call:f{a:if x {y}") == []


def test_text_that_cannot_be_a_call_is_streamed() -> None:
    assert read(Gemma4Parser, ["<|tool_call>", "calls", " so"])[1] == [Content("<|tool_call>calls")]
    assert read(Gemma4Parser, ["<|tool_call>call:f{a:x", "<tool_call|>", " so"])[2] == [Content(" so")]


@pytest.mark.parametrize("opener", ["{a:", "[", "{a:["])
def test_too_deeply_nested_call_is_text(opener: str) -> None:
    text = "<|tool_call>call:f{a:" + opener * 2000
    assert arguments(text) == []


def test_function_gemma_delimiter_in_string() -> None:
    text = "<start_function_call>call:f{a:<escape>x<escape>y<escape>}<end_function_call>"
    [call] = parts_of(FunctionGemmaParser, text)
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"a": "x<escape>y"}
