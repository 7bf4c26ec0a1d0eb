"""Outputs of Kimi K2 to K2.6, and the expected parts."""

import json

from mlx_host.testing.samples import NOW, OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_kimi_k2 import KimiK2Parser
from mlx_host_parser_kimi_k2.notation import ARGUMENT, BEGIN, END, KimiCall

[FORMAT] = KimiK2Parser.formats()
SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL_OSLO, CALL_ROME = KimiCall().write(*OSLO), KimiCall().write(*ROME, number=1)
BAD = f"{SECTION}{BEGIN}functions.now:0{ARGUMENT}{{oops}}{END}"
BOTH = FORMAT.write([OSLO, ROME])
MARKERS = ("f", {"a": END + SECTION_END})


def section(*calls: str) -> str:
    """Write a section of calls exactly as given."""
    return SECTION + "".join(calls) + SECTION_END


SAMPLES = (
    *standard_samples(KimiK2Parser, malformed=BAD + SECTION_END),
    Sample(
        "whitespace everywhere",
        f"{SECTION}\n{BEGIN} functions.now:0 {ARGUMENT}\n{{ }}\n{END}\n{BEGIN}\nfunctions.get_weather:12\n"
        f'{ARGUMENT} {{\n"city": "Oslo"}} {END}\n{SECTION_END}',
        calls=(NOW, OSLO),
        tools=TOOLS,
    ),
    Sample("markers in a string", FORMAT.write([MARKERS]), calls=(MARKERS,), tools=TOOLS),
    Sample(
        "names with hyphens and dots, ids without prefix or number",
        section(
            *(f"{BEGIN}{id}{ARGUMENT}{{}}{END}" for id in ("a-b.c:3", "functions.now")),
            f"{BEGIN}get_weather{ARGUMENT}{json.dumps(OSLO[1])}{END}",
        ),
        calls=(("a-b.c", {}), NOW, OSLO),
        tools=TOOLS,
    ),
    Sample(
        "no arguments, arguments without their marker, arguments as a string",
        section(
            f"{BEGIN}functions.now:0{ARGUMENT}{END}",
            CALL_ROME.replace(ARGUMENT, ""),
            f"{BEGIN}functions.get_weather:2{ARGUMENT}{json.dumps(json.dumps(OSLO[1]))}{END}",
        ),
        calls=(NOW, ROME, OSLO),
        tools=TOOLS,
    ),
    Sample("singular section", section(CALL_OSLO).replace("calls_section", "call_section"), calls=(OSLO,), tools=TOOLS),
    Sample("section missing", f"I look.\n{CALL_OSLO}", content="I look.\n", calls=(OSLO,), tools=TOOLS),
    Sample("closers missing", SECTION + CALL_OSLO.removesuffix(END), calls=(OSLO,), tools=TOOLS),
    Sample(
        "words where the name should be",
        f'{BEGIN}I think {{"a": 1}}',
        content=f'{BEGIN}I think {{"a": 1}}',
        tools=TOOLS,
    ),
    Sample("truncated after a number", section(CALL_ROME)[:110], content=section(CALL_ROME)[:110], tools=TOOLS),
    Sample(
        "truncated in the second call",
        BOTH[:190],
        content=BOTH[len(SECTION + CALL_OSLO) : 190],
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("malformed in the same section", f"{BAD}{CALL_ROME}{SECTION_END}", content=BAD, calls=(ROME,), tools=TOOLS),
)
