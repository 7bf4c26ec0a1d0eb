"""Outputs of Gemma 4, and the expected parts."""

from mlx_host.testing.samples import NOW, OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_gemma4 import Gemma4Parser

[FORMAT] = Gemma4Parser.calls
CALL_OSLO, CALL_ROME = FORMAT.write([OSLO]), FORMAT.write([ROME])
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


def call(arguments: str, name: str = "get_weather") -> str:
    """Write a call with its arguments exactly as given."""
    return FORMAT.write_call(name, f"{{{arguments}}}")


SAMPLES = (
    *standard_samples(Gemma4Parser, malformed=call("a:", "now") + "<|tool_call>now()<tool_call|>"),
    Sample(
        "reasoning, glued calls",
        f"<|channel>thought\nCold?<channel|>{CALL_OSLO}{CALL_ROME}<|tool_response>",
        reasoning="Cold?",
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample("reasoning in a channel without a name", "<|channel>Hm.<channel|>Yes.", content="Yes.", reasoning="Hm."),
    Sample("empty reasoning", "<|channel>thought\n<channel|>It is cold.", content="It is cold."),
    Sample(
        "braces, brackets, commas and the closer in a string",
        call('path:<|"|>a},b:1]<tool_call|>{<|"|>,text:<|"|><|"|>', "write_file"),
        calls=(("write_file", {"path": "a},b:1]<tool_call|>{", "text": ""}),),
        tools=TOOLS,
    ),
    Sample("no arguments but whitespace", call(" ", "now"), calls=(NOW,), tools=TOOLS),
    Sample(
        "objects in an array, without a schema",
        call('e:[{o:<|"|>a<|"|>,n:{x:1.5}},{}],t:true,l:[[],[null]],w: word', "ns.my-edit"),
        calls=(("ns.my-edit", {"e": [{"o": "a", "n": {"x": 1.5}}, {}], "t": True, "l": [[], [None]], "w": "word"}),),
        tools=TOOLS,
    ),
    Sample(
        "the delimiter for a quotation mark",
        FORMAT.write([RUN]).replace('"', '<|"|>').replace('<|<|"|>|>', '<|"|>'),
        calls=(RUN,),
        tools=(RUN_TOOL,),
    ),
    Sample(
        "strings as JSON and Python write them",
        call('code:"a } \\" , b:",data:["x, y", \'z]\'],n: 1 ', "run")
        + call('"code": "if x:\n  y", "data": {"mode": "fast"}', "run"),
        calls=(
            ("run", {"code": 'a } " , b:', "data": ["x, y", "z]"], "n": 1}),
            ("run", {"code": "if x:\n  y", "data": {"mode": "fast"}}),
        ),
        tools=(RUN_TOOL,),
    ),
    Sample(
        "the opening delimiter missing",
        call('city:Paris, France<|"|>,days:3')
        + call('city:"Rome" {old}<|"|>')
        + call('code:<|"|>x<|"|>,data:[a<|"|>,<|"|>b<|"|>],n:1', "run"),
        calls=(
            ("get_weather", {"city": "Paris, France", "days": 3}),
            ("get_weather", {"city": '"Rome" {old}'}),
            ("run", {"code": "x", "data": ["a", "b"], "n": 1}),
        ),
        tools=(*TOOLS, RUN_TOOL),
    ),
    Sample(
        "no delimiters at all, typed by the schema",
        call("city:7,days:7") + call("level:none,on:True,warmth:1,scene:it's, so", "set-light"),
        calls=(
            ("get_weather", {"city": "7", "days": 7}),
            ("set-light", {"level": "none", "on": True, "warmth": 1, "scene": "it's, so"}),
        ),
        tools=TOOLS,
    ),
    Sample("the closer missing", CALL_OSLO.removesuffix("<tool_call|>"), calls=(OSLO,), tools=TOOLS),
    Sample("one brace too many", CALL_OSLO.replace("}", "}}"), calls=(OSLO,), tools=TOOLS),
    Sample("truncated before the closing brace", CALL_ROME[:-14], content=CALL_ROME[:-14], tools=TOOLS),
)
