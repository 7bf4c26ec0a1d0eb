"""Outputs of LFM2 and LFM2.5, and the expected parts."""

from collections.abc import Mapping

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples

from mlx_host_parser_lfm2 import Lfm2Parser

CLOSER = "<|tool_call_end|>"


def listed(text: str) -> str:
    """Write a list of calls exactly as given."""
    return f"<|tool_call_start|>[{text}]{CLOSER}"


def as_python(name: str, arguments: Mapping[str, object]) -> str:
    """Write a call with values as Python shows them, strings in single quotes."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


CALL_OSLO = listed(as_python(*OSLO))
CODE = listed("now(a=1 + 1)") + listed("f(a=open('x'))") + listed("f(*a)") + listed("f('x')")

SAMPLES = (
    *standard_samples(Lfm2Parser),
    Sample("a call, then text", f"{CALL_OSLO}I look.<|im_end|>", content="I look.", calls=(OSLO,), tools=TOOLS),
    Sample("calls as Python shows them", listed(f"{as_python(*ROME)}, now()"), calls=(ROME, NOW), tools=TOOLS),
    Sample(
        "literals as Python shows them",
        listed(f"{as_python(*LIGHT)}, {as_python(*WRITE)}"),
        calls=(LIGHT, WRITE),
        tools=TOOLS,
    ),
    Sample(
        "JSON's words, dots in a name, keywords as keys, layout",
        listed("\n  Home.set-light( on = true , level=null, rooms=['a', true,], scene=(1, -2.50e1) ),\n  f(from=1)\n"),
        calls=(
            ("Home.set-light", {"on": True, "level": None, "rooms": ["a", True], "scene": [1, -25.0]}),
            ("f", {"from": 1}),
        ),
        tools=TOOLS,
    ),
    Sample(
        "brackets, quotes and the closer in strings",
        listed("""f(a="])<|tool_call_end|>'", b=')"\\'', c=['a"]', {"k": "}"}], d="", e='''it's\n"x"''')"""),
        calls=(
            ("f", {"a": "])<|tool_call_end|>'", "b": ")\"'", "c": ['a"]', {"k": "}"}], "d": "", "e": 'it\'s\n"x"'}),
        ),
        tools=TOOLS,
    ),
    Sample(
        "escapes, and a line break as it is",
        listed('write_file(path="\\u00e9\\n", text="a\n\tb\\\\")'),
        calls=(("write_file", {"path": "é\n", "text": "a\n\tb\\"}),),
        tools=TOOLS,
    ),
    Sample(
        "words that are not literals",
        listed("get_weather(city=007, days=3), f(a=007, b=x)"),
        calls=(("get_weather", {"city": "007", "days": 3}), ("f", {"a": "007", "b": "x"})),
        tools=TOOLS,
    ),
    Sample("no arguments but whitespace", listed("now( )"), calls=(NOW,), tools=TOOLS),
    Sample(
        "JSON in place of Python",
        listed('{"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "now"}'),
        calls=(OSLO, NOW),
        tools=TOOLS,
    ),
    Sample("without brackets", f"<|tool_call_start|>now() {CLOSER}", calls=(NOW,), tools=TOOLS),
    Sample("the closer missing", CALL_OSLO.removesuffix(CLOSER), calls=(OSLO,), tools=TOOLS),
    Sample(
        "truncated in the second call",
        listed(f"{as_python(*OSLO)}, {as_python(*ROME)}")[:70],
        content=" get_weather(city='Rome',",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("code is not run", CODE + CALL_OSLO, content=CODE, calls=(OSLO,), tools=TOOLS),
)
