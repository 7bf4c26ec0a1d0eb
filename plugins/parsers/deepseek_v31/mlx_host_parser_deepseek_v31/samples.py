"""Outputs of DeepSeek-V3.1, and the expected parts."""

import json

from mlx_host.testing.samples import NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples
from mlx_host_parser_deepseek_v3.notation import BEGIN, CALL, CALL_END, END, SEPARATOR, V3_CALLS, V31_CALLS

from mlx_host_parser_deepseek_v31 import DeepSeekV31Parser

BLOCK = V31_CALLS.write([OSLO])
CALL_OSLO = V31_CALLS.notation.write(*OSLO)
MARKERS = ("write_file", {"text": CALL_END + END})
BAD = f"{BEGIN}{CALL}now{SEPARATOR}{{oops}}{CALL_END}"
CUT = V31_CALLS.write([OSLO, ROME])[: len(BEGIN + CALL_OSLO) + 50]

SAMPLES = (
    *standard_samples(DeepSeekV31Parser, malformed=f"{BAD}{END}"),
    Sample(
        "reasoning without line breaks",
        "Cold?</think>It is.",
        "It is.",
        "Cold?",
        generation_prompt="<｜Assistant｜><think>",
    ),
    Sample("stray closer", "</think>It is cold.", content="It is cold.", generation_prompt="<｜Assistant｜></think>"),
    Sample(
        "JSON over several lines",
        V31_CALLS.write([WRITE]).replace(json.dumps(WRITE[1]), json.dumps(WRITE[1], indent=2)),
        calls=(WRITE,),
        tools=TOOLS,
    ),
    Sample("a marker in a string", V31_CALLS.write([MARKERS]), calls=(MARKERS,), tools=TOOLS),
    Sample("arguments left out", f"{BEGIN}{CALL}now{SEPARATOR}{CALL_END}{END}", calls=(NOW,), tools=TOOLS),
    Sample(
        "fenced JSON",
        BLOCK.replace('{"city": "Oslo"}', '\n```json\n{"city": "Oslo"}\n```'),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("a call as V3 writes it", V3_CALLS.write([OSLO]), calls=(OSLO,), tools=TOOLS),
    Sample("outer closer missing", BEGIN + CALL_OSLO, calls=(OSLO,), tools=TOOLS),
    Sample(
        "truncated in the second call",
        CUT,
        content=CUT.removeprefix(BEGIN + CALL_OSLO),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("malformed in the same block", f"{BAD}{CALL_OSLO}{END}", content=BAD, calls=(OSLO,), tools=TOOLS),
)
