"""Qwen3-Coder: calls as `<function=…>` with `<parameter=…>` in `<tool_call>`; it does not think."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import Call, MarkupParser, Parser, Sample, ToolChoice, function_xml, function_xml_calls, in_turn
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, SCRIPT, TOOLS, WRITE
from mlx_host.requests import Json


def _written(name: str, *parameters: tuple[str, str]) -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters)
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


CALL_OSLO = _written("get_weather", ("city", "Oslo"))
CALL_ROME = _written("get_weather", ("city", "Rome"), ("days", "3"))
CALL_WRITE = _written("write_file", ("path", "007"), ("text", SCRIPT))
CALL_LIGHT = _written(
    "set-light",
    ("level", "None"),
    ("warmth", "0.5"),
    ("on", "True"),
    ("rooms", "['hall', '7']"),
    ("colour", '{"red": 9007199254740993}'),
    ("scene", "none"),
)


class Qwen3CoderParser(MarkupParser):
    name = "qwen3_coder"
    aliases = ("qwen3_xml", "qwen3_coder_xml")
    reads = "XML calls of Qwen3-Coder and those trained like it"
    templates = (("<tool_call>\\n<function=", "<parameter="), ("<tool_call>\n<function=", "<parameter="))
    noise = ("<|im_end|>", "<|endoftext|>")
    calls = (
        Call("<tool_call>", function_xml("</tool_call>")),
        Call("<function=", function_xml("</tool_call>"), inclusive=True),
    )
    samples = (
        Sample("answer", "Use `git log`.\n", content="Use `git log`.\n", tools=TOOLS),
        Sample("call", CALL_OSLO + "<|im_end|>", calls=(OSLO,), tools=TOOLS),
        Sample(
            "text, then parallel calls",
            f"I look.\n{CALL_OSLO}\n{CALL_ROME}",
            content="I look.\n",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("the same tool twice", CALL_OSLO + CALL_OSLO, calls=(OSLO, OSLO), tools=TOOLS),
        Sample("text that looks like markup and numbers", CALL_WRITE, calls=(WRITE,), tools=TOOLS),
        Sample("values of every type", CALL_LIGHT, calls=(LIGHT,), tools=TOOLS),
        Sample(
            "a closer within JSON, and JSON that is none",
            _written("set-light", ("rooms", '["</parameter>", "7"]'))
            + _written("f", ("a", '{"b": "</parameter>"}'), ("c", "[x")),
            calls=(
                ("set-light", {"rooms": ["</parameter>", "7"]}),
                ("f", {"a": {"b": "</parameter>"}, "c": "[x"}),
            ),
            tools=TOOLS,
        ),
        Sample("no parameters", _written("now"), calls=(("now", {}),), tools=TOOLS),
        Sample(
            "unknown function", _written("f", ("a", "1"), ("b", "x")), calls=(("f", {"a": 1, "b": "x"}),), tools=TOOLS
        ),
        Sample(
            "opener forgotten",
            "Now.\n" + CALL_OSLO.removeprefix("<tool_call>\n"),
            content="Now.\n",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("outer closer forgotten", CALL_OSLO.removesuffix("\n</tool_call>"), calls=(OSLO,), tools=TOOLS),
        Sample("cut off", CALL_ROME[:60], content=CALL_ROME[:60], tools=TOOLS),
        Sample(
            "malformed beside a good one",
            "<tool_call>\n{oops}\n</tool_call>\n" + CALL_OSLO,
            content="<tool_call>\n{oops}\n</tool_call>\n",
            calls=(OSLO,),
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return in_turn(chain("<tool_call>\n", function_xml_calls(tools), "\n</tool_call>"), choice, "\n")


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Qwen3CoderParser]
