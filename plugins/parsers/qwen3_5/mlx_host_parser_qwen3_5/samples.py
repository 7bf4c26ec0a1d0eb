"""Outputs of Qwen3.5 and those trained like it, and the expected parts."""

from mlx_host.testing.samples import OSLO, TOOLS, Sample, standard_samples

from mlx_host_parser_qwen3_5 import Qwen35Parser

SAMPLES = (
    *standard_samples(Qwen35Parser, malformed="<tool_call>\n{oops}\n</tool_call>"),
    Sample(
        "a JSON call",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "truncated in a call in reasoning",
        "Cold? I <tool_call>\n<function=get_w",
        reasoning="Cold? I <tool_call>\n<function=get_w",
        generation_prompt="<think>\n",
        tools=TOOLS,
    ),
)
