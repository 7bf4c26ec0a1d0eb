from mlx_host.parsing import Content, ToolCall
from mlx_host_parser_kimi_k2 import KimiK2Parser

from tests.parsers.feeding import parts_of, read


def call(id: str, arguments: str = "{}") -> str:
    return f"<|tool_call_begin|>{id}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


def section(*calls: str) -> str:
    return f"<|tool_calls_section_begin|>{''.join(calls)}<|tool_calls_section_end|>"


def ids(text: str) -> list[tuple[str, str | None]]:
    return [(part.name, part.id) for part in parts_of(KimiK2Parser, text) if isinstance(part, ToolCall)]


def test_id_is_unchanged() -> None:
    text = section(call("functions.now:4"), call("\nfunctions.get-weather:5 "), call("a.b:6"))
    assert ids(text) == [("now", "functions.now:4"), ("get-weather", "functions.get-weather:5"), ("a.b", "a.b:6")]


def test_ambiguous_id_is_dropped() -> None:
    text = section(call("functions.now"), call("functions.now:0"), call("functions.now:0"), call("now"))
    assert ids(text) == [("now", None), ("now", "functions.now:0"), ("now", None), ("now", None)]


def test_each_call_is_emitted_when_complete() -> None:
    first, second = call("functions.now:0"), call("functions.now:1")
    fed = read(KimiK2Parser, ["So. <|tool_calls_sec", "tion_begin|>" + first, second[:-1], second[-1]])
    assert fed[0] == [Content("So. ")]
    assert [[part.id for part in parts if isinstance(part, ToolCall)] for parts in fed[1:]] == [
        ["functions.now:0"],
        [],
        ["functions.now:1"],
        [],
    ]


def test_reasoning_is_streamed() -> None:
    fed = read(KimiK2Parser, ["Co", "ld? <|tool_call_begin|>", "functions", " are"], generation_prompt="<think>")
    assert ["".join(part.source for part in parts) for parts in fed] == [
        "Co",
        "ld?",
        "",
        "",
        " <|tool_call_begin|>functions are",
    ]
