"""Gemma 4: reasoning in a channel, calls in a notation of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar
from mlx_host.parsing import Call, MarkupParser, Parser, Sample, ToolChoice, in_turn
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json
from mlx_host_parser_gemma4_grammar import call_grammar
from mlx_host_parser_gemma4_notation import Notation, call_reader, written

GEMMA4 = Notation("<|tool_call>", "<tool_call|>", '<|"|>', '"', ("<turn|>", "<|tool_response>"))


def _call(arguments: str, name: str = "get_weather") -> str:
    return f"<|tool_call>call:{name}{{{arguments}}}<tool_call|>"


CALL_OSLO = written(OSLO, GEMMA4)
CALL_ROME = written(ROME, GEMMA4)
RUN = ("run", {"code": 'say("""x {y}, z: 1""", "a", {"b": "c"})', "data": ["d"], "n": 1})
RUN_TOOL = {
    "type": "function",
    "function": {
        "name": "run",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "data": {"type": "array"}, "n": {"type": "integer"}},
        },
    },
}


class Gemma4Parser(MarkupParser):
    name = "gemma4"
    reads = "reasoning channel and calls of Gemma 4"
    templates = (("<|tool_call>", "<tool_call|>"), ("<|channel>", "<channel|>"))
    think_open = ("<|channel>thought", "<|channel>")
    think_close = ("<channel|>",)
    noise = ("<turn|>", "<|tool_response>", "<eos>")
    calls = (Call("<|tool_call>", call_reader(GEMMA4)),)
    samples = (
        Sample("answer", "It is {cold}.\n", content="It is {cold}.\n", tools=TOOLS),
        Sample(
            "thinking, then an answer",
            "<|channel>thought\nCold?\n<channel|>It is cold.<turn|>",
            content="It is cold.",
            reasoning="Cold?",
        ),
        Sample("empty thinking", "<|channel>thought\n<channel|>It is cold.", content="It is cold."),
        Sample("thinking switched off", "Cold.", content="Cold.", prompt_tail="<|channel>thought\n<channel|>"),
        Sample(
            "thinking opened by the prompt",
            "Cold?\n<channel|>It is cold.",
            content="It is cold.",
            reasoning="Cold?",
            prompt_tail="<|channel>thought\n",
        ),
        Sample(
            "thinking, then glued calls",
            f"<|channel>thought\nCold?<channel|>{CALL_OSLO}{CALL_ROME}<|tool_response>",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "text around calls",
            f"I look. {CALL_OSLO} And {CALL_ROME} so.",
            content="I look.  And  so.",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("values of every type, nested", written(LIGHT, GEMMA4), calls=(LIGHT,), tools=TOOLS),
        Sample("text that looks like markup and numbers", written(WRITE, GEMMA4), calls=(WRITE,), tools=TOOLS),
        Sample(
            "braces, brackets, commas and the closer in a string",
            _call('path:<|"|>a},b:1]<tool_call|>{<|"|>,text:<|"|><|"|>', "write_file"),
            calls=(("write_file", {"path": "a},b:1]<tool_call|>{", "text": ""}),),
            tools=TOOLS,
        ),
        Sample("no arguments", _call("", "now") + _call(" ", "now"), calls=(("now", {}),) * 2, tools=TOOLS),
        Sample(
            "objects in an array, without a schema",
            _call('e:[{o:<|"|>a<|"|>,n:{x:1.5}},{}],t:true,l:[[],[null]],w: word', "ns.my-edit"),
            calls=(
                ("ns.my-edit", {"e": [{"o": "a", "n": {"x": 1.5}}, {}], "t": True, "l": [[], [None]], "w": "word"}),
            ),
            tools=TOOLS,
        ),
        Sample(
            "the delimiter for a quotation mark",
            written(RUN, GEMMA4).replace('"', '<|"|>').replace('<|<|"|>|>', '<|"|>'),
            calls=(RUN,),
            tools=(RUN_TOOL,),
        ),
        Sample(
            "strings as JSON and Python write them",
            _call('code:"a } \\" , b:",data:["x, y", \'z]\'],n: 1 ', "run")
            + _call('"code": "if x:\n  y", "data": {"mode": "fast"}', "run"),
            calls=(
                ("run", {"code": 'a } " , b:', "data": ["x, y", "z]"], "n": 1}),
                ("run", {"code": "if x:\n  y", "data": {"mode": "fast"}}),
            ),
            tools=(RUN_TOOL,),
        ),
        Sample(
            "the opening delimiter missing",
            _call('city:Paris, France<|"|>,days:3')
            + _call('city:"Rome" {old}<|"|>')
            + _call('code:<|"|>x<|"|>,data:[a<|"|>,<|"|>b<|"|>],n:1', "run"),
            calls=(
                ("get_weather", {"city": "Paris, France", "days": 3}),
                ("get_weather", {"city": '"Rome" {old}'}),
                ("run", {"code": "x", "data": ["a", "b"], "n": 1}),
            ),
            tools=(*TOOLS, RUN_TOOL),
        ),
        Sample(
            "no delimiters at all, typed by the schema",
            _call("city:7,days:7") + _call("level:none,on:True,warmth:1,scene:it's, so", "set-light"),
            calls=(
                ("get_weather", {"city": "7", "days": 7}),
                ("set-light", {"level": "none", "on": True, "warmth": 1, "scene": "it's, so"}),
            ),
            tools=TOOLS,
        ),
        Sample("the closer missing", CALL_OSLO.removesuffix("<tool_call|>"), calls=(OSLO,), tools=TOOLS),
        Sample("one brace too many", CALL_OSLO.replace("}", "}}"), calls=(OSLO,), tools=TOOLS),
        Sample(
            "thinking never closed before the call",
            f"Cold?\n{CALL_OSLO}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<|channel>thought\n",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"<|channel>thought\nMaybe {CALL_OSLO}<channel|>It is cold.",
            content="It is cold.",
            reasoning=f"Maybe {CALL_OSLO}",
            tools=TOOLS,
        ),
        Sample("cut off", CALL_ROME[:-14], content=CALL_ROME[:-14], tools=TOOLS),
        Sample(
            "malformed beside good ones",
            f"{CALL_OSLO}<|tool_call>call:now{{a:}}<tool_call|><|tool_call>now()<tool_call|>{CALL_ROME}",
            content="<|tool_call>call:now{a:}<tool_call|><|tool_call>now()<tool_call|>",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("no tools in the request", CALL_OSLO, content=CALL_OSLO),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return in_turn(call_grammar(tools, GEMMA4), choice)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Gemma4Parser]
