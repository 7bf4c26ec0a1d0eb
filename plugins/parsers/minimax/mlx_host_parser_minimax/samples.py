"""Outputs of MiniMax-M2 to M2.7, and the expected parts."""

from mlx_host.testing.samples import OSLO, ROME, TOOLS, WRITE, Sample, standard_samples

from mlx_host_parser_minimax import MiniMaxCall, MiniMaxParser

[FORMAT] = MiniMaxParser.formats()
CUT = FORMAT.write([OSLO, ROME])[:130]

SAMPLES = (
    *standard_samples(MiniMaxParser, malformed="<minimax:tool_call>now()</minimax:tool_call>"),
    Sample(
        "reasoning, then two calls in one block",
        f"Cold?\n</think>\n\n{FORMAT.write([OSLO, ROME])}[e~[",
        reasoning="Cold?",
        calls=(OSLO, ROME),
        generation_prompt="<think>\n",
        tools=TOOLS,
    ),
    Sample(
        "values on separate lines",
        FORMAT.write([ROME]).replace(">Rome<", ">\nRome\n<").replace(">3<", ">\n3\n<"),
        calls=(ROME,),
        tools=TOOLS,
    ),
    Sample(
        "text with one newline more",
        FORMAT.write([("write_file", {**WRITE[1], "text": "TEXT"})]).replace("TEXT", WRITE[1]["text"] + "\n"),
        calls=(WRITE,),
        tools=TOOLS,
    ),
    Sample(
        "truncated in the second call",
        CUT,
        content=CUT[len("<minimax:tool_call>\n" + MiniMaxCall().write(*OSLO)) - 1 :],
        calls=(OSLO,),
        tools=TOOLS,
    ),
)
