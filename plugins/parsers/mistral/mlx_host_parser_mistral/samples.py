"""Outputs of Mistral, Magistral, Ministral and Devstral, and the expected parts."""

import json

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_mistral import MistralParser

NAMED, ARRAY = MistralParser.formats()
CALL_OSLO, CALL_ROME = NAMED.write([OSLO]), NAMED.write([ROME])
MARKERS = ("f", {"a": "[TOOL_CALLS]g[ARGS]{}[/THINK]"})

SAMPLES = (
    *standard_samples(MistralParser, malformed="[TOOL_CALLS]now[ARGS]{oops}"),
    Sample("brackets in text", " It is [cold].\n</s>", content=" It is [cold].\n", tools=TOOLS),
    Sample("reasoning of version 11", "<think>\nCold?\n</think>\nIt is.", content="It is.", reasoning="Cold?"),
    Sample(
        "version 11",
        CALL_OSLO.replace("[ARGS]", "[CALL_ID]a1B2c3D4e[ARGS]") + CALL_ROME,
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample("version 3", ARRAY.write([OSLO, ROME]), calls=(OSLO, ROME), tools=TOOLS),
    Sample(
        "version 3, without arguments or as a string",
        ARRAY.write([OSLO])
        .replace(json.dumps(OSLO[1]), json.dumps(json.dumps(OSLO[1])))
        .replace(" [", '[{"name": "now"},\n'),
        calls=(NOW, OSLO),
        tools=TOOLS,
    ),
    Sample("version 3, without brackets", '[TOOL_CALLS] {"name": "now", "arguments": {}}', calls=(NOW,), tools=TOOLS),
    Sample(
        "[ARGS] missing",
        CALL_OSLO.replace("[ARGS]", "") + CALL_ROME.replace("[ARGS]", " ") + "[TOOL_CALLS]now\n{}",
        calls=(OSLO, ROME, NOW),
        tools=TOOLS,
    ),
    Sample("values of every type in an array", ARRAY.write([LIGHT, LIGHT]), calls=(LIGHT, LIGHT), tools=TOOLS),
    Sample("markers in a string", NAMED.write([MARKERS]), calls=(MARKERS,), tools=TOOLS),
    Sample(
        "truncated in the second of an array",
        ARRAY.write([OSLO, ROME])[:120],
        content=ARRAY.write([OSLO, ROME])[88:120],
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "arguments that are not an object",
        '[TOOL_CALLS] [{"name": "now", "arguments": [1]}]',
        content='[TOOL_CALLS] [{"name": "now", "arguments": [1]}]',
        tools=TOOLS,
    ),
)
