"""Outputs of Granite 3 and 4.0, and the expected parts."""

import json

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples

from mlx_host_parser_granite import GraniteParser

ARRAY, TAGGED, TAGGED_ARRAY = GraniteParser.formats()
CALL_OSLO = ARRAY.write([OSLO])

SAMPLES = (
    *standard_samples(GraniteParser, malformed="<|tool_call|>now()"),
    Sample("several values of every type", ARRAY.write([LIGHT, WRITE]), calls=(LIGHT, WRITE), tools=TOOLS),
    Sample("calls after a tag", TAGGED_ARRAY.write([OSLO, ROME]), calls=(OSLO, ROME), tools=TOOLS),
    Sample("Granite 4.0", TAGGED.write([OSLO, ROME]), calls=(OSLO, ROME), tools=TOOLS),
    Sample(
        "Granite 4.0, arguments as a string",
        TAGGED.write([OSLO]).replace(json.dumps(OSLO[1]), json.dumps(json.dumps(OSLO[1]))),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "Granite 20B",
        '<function_call> {"name": "get_weather", "arguments": {"city": "Oslo"}}\n<function_call> {"name": "now"}',
        calls=(OSLO, NOW),
        tools=TOOLS,
    ),
    Sample(
        "Granite 3.2's reasoning",
        "Here is my thought process: Cold?\n\nHere is my response: It is cold.",
        content="It is cold.",
        reasoning="Cold?",
    ),
    Sample(
        "the same in other words, then a call",
        f"Here's my thought process:\nCold?\nHere's my response:\n{CALL_OSLO}",
        reasoning="Cold?",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "these words in the middle of the output",
        "Well. Here is my thought process: none. Here is my response: none.",
        content="Well. Here is my thought process: none. Here is my response: none.",
    ),
    Sample(
        "Granite 3.3's reasoning",
        "<think>Cold?</think>\n<response>It is cold.</response><|end_of_text|>",
        content="It is cold.",
        reasoning="Cold?",
    ),
    Sample(
        "tags without a response",
        "<think>Cold?</think>\n\nIt is </response> cold.",
        content="It is </response> cold.",
        reasoning="Cold?",
    ),
    Sample(
        "call in Granite 3.2's reasoning that is never closed",
        f"Here is my thought process: Cold?\n{CALL_OSLO}",
        reasoning="Cold?",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("Granite 3.2's reasoning truncated", "Here is my thought process: Cold", reasoning="Cold"),
    Sample(
        "call drafted in Granite 3.3's reasoning",
        f"<think>Maybe {CALL_OSLO}?</think><response>It is cold.</response>",
        content="It is cold.",
        reasoning=f"Maybe {CALL_OSLO}?",
        tools=TOOLS,
    ),
    Sample(
        "truncated in the second call",
        ARRAY.write([OSLO, ROME])[:100],
        content=' {"name": "get_weather", "argum',
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("no calls in the list", "<|tool_call|>[]", content="<|tool_call|>[]", tools=TOOLS),
)
