"""Outputs of DeepSeek-V3 and R1-0528, and the expected parts."""

import json

from mlx_host.testing.samples import NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples

from mlx_host_parser_deepseek_v3 import DeepSeekV3Parser
from mlx_host_parser_deepseek_v3.notation import BEGIN, CALL, CALL_END, END, SEPARATOR, V3_CALLS, V31_CALLS

BLOCK = V3_CALLS.write([OSLO])
CALL_OSLO = V3_CALLS.notation.write(*OSLO)
BAD = f"{CALL}function{SEPARATOR}now\n```json\n{{oops}}\n```{CALL_END}"
MARKERS = ("write_file", {"text": f"```json\n{CALL_END}{END}\n```"})
NO_OBJECT = BLOCK.replace('{"city": "Oslo"}', "[1]")

SAMPLES = (
    *standard_samples(DeepSeekV3Parser, malformed=f"{BEGIN}{BAD}{END}"),
    Sample(
        "JSON over several lines",
        V3_CALLS.write([WRITE]).replace(json.dumps(WRITE[1]), json.dumps(WRITE[1], indent=2)),
        calls=(WRITE,),
        tools=TOOLS,
    ),
    Sample("markers and a fence in a string", V3_CALLS.write([MARKERS]), calls=(MARKERS,), tools=TOOLS),
    Sample(
        "arguments left out",
        f"{BEGIN}{V3_CALLS.notation.write(*NOW)}\n{CALL}function{SEPARATOR}now\n{CALL_END}{END}",
        calls=(NOW, NOW),
        tools=TOOLS,
    ),
    Sample("a call as V3.1 writes it", V31_CALLS.write([OSLO]), calls=(OSLO,), tools=TOOLS),
    Sample("outer markers missing", f"So:{CALL_OSLO}", content="So:", calls=(OSLO,), tools=TOOLS),
    Sample("all closers missing", BLOCK.split("\n```<")[0], calls=(OSLO,), tools=TOOLS),
    Sample("repeated opener", BEGIN * 3 + "M", content=BEGIN * 3 + "M", tools=TOOLS),
    Sample(
        "truncated in the second call",
        V3_CALLS.write([OSLO, ROME])[:140],
        content=V3_CALLS.write([OSLO, ROME])[len(BEGIN + CALL_OSLO) : 140],
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "malformed between good ones",
        f"{BEGIN}{CALL_OSLO}{BAD}{CALL_OSLO}{END}",
        content=BAD,
        calls=(OSLO, OSLO),
        tools=TOOLS,
    ),
    Sample("arguments that are not an object", NO_OBJECT, content=NO_OBJECT, tools=TOOLS),
)
