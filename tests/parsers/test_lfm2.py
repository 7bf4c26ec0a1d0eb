import json

import pytest
from mlx_host.parsing import ToolCall
from mlx_host_parser_lfm2 import Lfm2Parser

from tests.parsers.feeding import parts_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'it\\'s'", "it's"),
        ('"\\u00e9"', "é"),
        ("'a\nb'", "a\nb"),
        ("''", ""),
        ('"""a "b" c"""', 'a "b" c'),
        ("-1", -1),
        ("9007199254740993", 9007199254740993),
        ("1_000", 1000),
        ("[true, None, {'a': null}]", [True, None, {"a": None}]),
        ("()", []),
        ("Oslo", "Oslo"),
    ],
)
def test_literal_to_json(written: str, meant: object) -> None:
    [call] = parts_of(Lfm2Parser, f"<|tool_call_start|>[f(a={written})]")
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"a": meant}


@pytest.mark.parametrize(
    "written",
    [
        "1 + 1",
        "b'x'",
        "{1, 2}",
        "g()",
        "[g()]",
        "f'{x}'",
        "lambda: 1",
        "{(1, 2): 3}",
        "1j + 1",
        "[" * 2000,
        "",
        "'\\ud800'",
    ],
)
def test_malformed_calls_are_text(written: str) -> None:
    text = f"<|tool_call_start|>[f(a={written})]<|tool_call_end|>"
    assert "".join(part.source for part in parts_of(Lfm2Parser, text)) == text
    assert not [part for part in parts_of(Lfm2Parser, text) if isinstance(part, ToolCall)]
