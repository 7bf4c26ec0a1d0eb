"""Outputs of FunctionGemma, and the expected parts."""

from mlx_host.testing.samples import OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_function_gemma import FunctionGemmaParser

[FORMAT] = FunctionGemmaParser.calls
CALL_OSLO = FORMAT.write([OSLO])


def call(arguments: str, name: str = "get_weather") -> str:
    """Write a call with its arguments exactly as given."""
    return FORMAT.write_call(name, f"{{{arguments}}}")


SAMPLES = (
    *standard_samples(FunctionGemmaParser, malformed="<start_function_call>now()<end_function_call>"),
    Sample("call before a response", CALL_OSLO + "<start_function_response>", calls=(OSLO,), tools=TOOLS),
    Sample(
        "text around glued calls",
        f"I look. {FORMAT.write([OSLO, ROME])} So.<end_of_turn>",
        content="I look.  So.",
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample(
        "braces and the closer in a string",
        call("path:<escape>}, b: {1}<end_function_call><escape>,text:<escape><escape>", "write_file"),
        calls=(("write_file", {"path": "}, b: {1}<end_function_call>", "text": ""}),),
        tools=TOOLS,
    ),
    Sample(
        "objects in an array, without a schema",
        call("a:[{b:1.5},{c:<escape>x<escape>}],d:true,e:null", "f"),
        calls=(("f", {"a": [{"b": 1.5}, {"c": "x"}], "d": True, "e": None}),),
        tools=TOOLS,
    ),
    Sample(
        "no delimiters, typed by the schema",
        call("city:Paris, France,days:7"),
        calls=(("get_weather", {"city": "Paris, France", "days": 7}),),
        tools=TOOLS,
    ),
    Sample("the closer missing", CALL_OSLO.removesuffix("<end_function_call>"), calls=(OSLO,), tools=TOOLS),
)
