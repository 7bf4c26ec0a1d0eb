"""Outputs of Phi-4-mini and Phi-4-reasoning, and the expected parts."""

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples

from mlx_host_parser_phi4 import Phi4Parser

WORD, TOKENS = Phi4Parser.formats()

SAMPLES = (
    *standard_samples(Phi4Parser, malformed="<|tool_call|>now()<|/tool_call|>"),
    Sample("in tokens, an object", TOKENS.write([OSLO]).replace("[", "").replace("]", ""), calls=(OSLO,), tools=TOOLS),
    Sample(
        "in tokens, an array",
        TOKENS.write([OSLO, ROME]).replace("[", "\n[").replace("]", "]\n") + "<|end|>",
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample(
        "parameters in place of arguments",
        WORD.write([ROME]).replace("arguments", "parameters"),
        calls=(ROME,),
        tools=TOOLS,
    ),
    Sample("brackets in arguments", WORD.write([LIGHT, WRITE]), calls=(LIGHT, WRITE), tools=TOOLS),
    Sample(
        "arguments left out",
        'functools[{"name": "now", "arguments": {}}, {"name": "now"}]',
        calls=(NOW, NOW),
        tools=TOOLS,
    ),
    Sample(
        "the Python module",
        "import functools\n\n@functools.cache\nx = functools[0]",
        content="import functools\n\n@functools.cache\nx = functools[0]",
        tools=TOOLS,
    ),
    Sample("an empty list", "functools[]", content="functools[]", tools=TOOLS),
    Sample("text in the list", "functools[ just text ]", content="functools[ just text ]", tools=TOOLS),
    Sample(
        "truncated in the second call",
        WORD.write([OSLO, ROME])[:89],
        content=' {"name": "get_weather",',
        calls=(OSLO,),
        tools=TOOLS,
    ),
)
