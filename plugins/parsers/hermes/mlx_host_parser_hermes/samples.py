"""Outputs of Hermes and other models of its family, and the expected parts."""

from mlx_host.parsing import JsonCall
from mlx_host.testing.samples import OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_hermes import HermesParser

CALL = HermesParser.formats()[0].write([OSLO])
OBJECT_OSLO, OBJECT_ROME = JsonCall().write(*OSLO), JsonCall().write(*ROME)

SAMPLES = (
    *standard_samples(HermesParser, malformed="<tool_call>\nget_weather(Oslo)\n</tool_call>"),
    Sample(
        "calls in an array", f"<tool_call>[{OBJECT_OSLO}, {OBJECT_ROME}]</tool_call>", calls=(OSLO, ROME), tools=TOOLS
    ),
    Sample(
        "keys in another order, arguments as a string",
        '<tool_call>{"arguments": "{\\"city\\": \\"Oslo\\"}", "name": "get_weather"}</tool_call>',
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("closer missing", CALL.removesuffix("</tool_call>"), calls=(OSLO,), tools=TOOLS),
)
