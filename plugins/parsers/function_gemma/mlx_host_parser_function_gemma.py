"""FunctionGemma: calls in Gemma 4's notation, with other tokens; it does not think."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar
from mlx_host.parsing import Call, MarkupParser, Parser, Sample, ToolChoice, in_turn
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json
from mlx_host_parser_gemma4_grammar import call_grammar
from mlx_host_parser_gemma4_notation import Notation, call_reader, written

NOTATION = Notation(
    opener="<start_function_call>",
    closer="<end_function_call>",
    delimiter="<escape>",
    inner="<escape>",
    stops=("<end_of_turn>", "<start_function_response>"),
)


def _call(arguments: str, name: str = "get_weather") -> str:
    return f"<start_function_call>call:{name}{{{arguments}}}<end_function_call>"


CALL_OSLO = written(OSLO, NOTATION)


class FunctionGemmaParser(MarkupParser):
    name = "function_gemma"
    aliases = ("functiongemma",)
    reads = "calls of FunctionGemma"
    templates = (("<start_function_call>",),)
    noise = NOTATION.stops
    calls = (Call(NOTATION.opener, call_reader(NOTATION)),)
    samples = (
        Sample("answer", "It is <cold>.\n", content="It is <cold>.\n", tools=TOOLS),
        Sample("call", CALL_OSLO + "<start_function_response>", calls=(OSLO,), tools=TOOLS),
        Sample(
            "text around parallel calls",
            f"I look. {CALL_OSLO}{written(ROME, NOTATION)} So.<end_of_turn>",
            content="I look.  So.",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("values of every type, nested", written(LIGHT, NOTATION), calls=(LIGHT,), tools=TOOLS),
        Sample("text that looks like markup and numbers", written(WRITE, NOTATION), calls=(WRITE,), tools=TOOLS),
        Sample(
            "braces and the closer in a string",
            _call("path:<escape>}, b: {1}<end_function_call><escape>,text:<escape><escape>", "write_file"),
            calls=(("write_file", {"path": "}, b: {1}<end_function_call>", "text": ""}),),
            tools=TOOLS,
        ),
        Sample("no arguments", _call("", "now"), calls=(("now", {}),), tools=TOOLS),
        Sample(
            "objects in an array, without a schema",
            _call("a:[{b:1.5},{c:<escape>x<escape>}],d:true,e:null", "f"),
            calls=(("f", {"a": [{"b": 1.5}, {"c": "x"}], "d": True, "e": None}),),
            tools=TOOLS,
        ),
        Sample(
            "no delimiters, typed by the schema",
            _call("city:Paris, France,days:7"),
            calls=(("get_weather", {"city": "Paris, France", "days": 7}),),
            tools=TOOLS,
        ),
        Sample("the closer missing", CALL_OSLO.removesuffix("<end_function_call>"), calls=(OSLO,), tools=TOOLS),
        Sample("cut off", CALL_OSLO[:60], content=CALL_OSLO[:60], tools=TOOLS),
        Sample(
            "malformed beside a good one",
            f"<start_function_call>now()<end_function_call>{CALL_OSLO}",
            content="<start_function_call>now()<end_function_call>",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", CALL_OSLO, content=CALL_OSLO),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return in_turn(call_grammar(tools, NOTATION), choice)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [FunctionGemmaParser]
