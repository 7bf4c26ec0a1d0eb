"""Outputs of Qwen3, Qwen3-Next and Qwen3-VL, and the expected parts."""

from mlx_host.parsing import JsonCall
from mlx_host.testing.samples import NOW, OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_qwen3 import Qwen3Parser

CALL = Qwen3Parser.formats()[0].write([OSLO])
OBJECT_OSLO, OBJECT_ROME = JsonCall().write(*OSLO), JsonCall().write(*ROME)

SAMPLES = (
    *standard_samples(Qwen3Parser, malformed='<tool_call>\n{"name": "now", "arguments": {oops}}\n</tool_call>'),
    Sample("empty reasoning", "<think>\n\n</think>\n\nYes.", content="Yes."),
    Sample("stray closer", "Yes.</think> No.", content="Yes. No."),
    Sample("tag mentioned in text", "Write `<think>` first.", content="Write `<think>` first."),
    Sample(
        "calls in an array",
        f"<tool_call>\n[\n  {OBJECT_OSLO} ,\n  {OBJECT_ROME}\n]\n</tool_call>",
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample(
        "no arguments, keys in any order",
        '<tool_call>{"arguments": {}, "name": "now"}</tool_call>\n<tool_call>{"name": "now"}</tool_call>',
        calls=(NOW, NOW),
        tools=TOOLS,
    ),
    Sample(
        "markers in a string",
        '<tool_call>\n{"name": "say", "arguments": {"text": "<tool_call></tool_call></think>\\"}}"}}\n</tool_call>',
        calls=(("say", {"text": '<tool_call></tool_call></think>"}}'}),),
        tools=TOOLS,
    ),
    Sample(
        "arguments that are not an object",
        '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
        content='<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
        tools=TOOLS,
    ),
    Sample("closer missing", CALL.removesuffix("</tool_call>"), calls=(OSLO,), tools=TOOLS),
    Sample("one brace too many", CALL.replace("}}", "}}}"), calls=(OSLO,), tools=TOOLS),
    Sample("fenced JSON is text", f"```json\n{OBJECT_OSLO}\n```", content=f"```json\n{OBJECT_OSLO}\n```", tools=TOOLS),
    Sample(
        "boxes of a vision model",
        '[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "cat"}\n]',
        content='[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "cat"}\n]',
        tools=TOOLS,
    ),
    Sample(
        "Qwen3-Coder's call",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n"
        "</parameter>\n</function>\n</tool_call>",
        calls=(ROME,),
        tools=TOOLS,
    ),
)
