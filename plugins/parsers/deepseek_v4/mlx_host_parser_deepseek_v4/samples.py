"""Outputs of DeepSeek-V4 and V4.1, and the expected parts."""

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples
from mlx_host_parser_deepseek_v32.dsml import DsmlCalls

from mlx_host_parser_deepseek_v4 import DeepSeekV4Parser

V4, V41 = DsmlCalls("tool_calls"), DsmlCalls("calls", gap=" ", newline="")
BLOCK, CALL_OSLO = V4.write([OSLO]), V4.write_invoke(*OSLO)
CUT = V4.write([OSLO, ROME])[:200]

SAMPLES = (
    *standard_samples(DeepSeekV4Parser),
    Sample(
        "tags without newlines",
        DsmlCalls("tool_calls", newline="").write([OSLO, WRITE]),
        calls=(OSLO, WRITE),
        tools=TOOLS,
    ),
    Sample(
        "V4.1",
        f"Cold?</think>I look.{V41.write([OSLO, ROME, LIGHT])}",
        content="I look.",
        reasoning="Cold?",
        calls=(OSLO, ROME, LIGHT),
        generation_prompt="<｜Assistant｜><think>",
        tools=TOOLS,
    ),
    Sample("V4.1, strings verbatim", V41.write([WRITE]), calls=(WRITE,), tools=TOOLS),
    Sample("V4.1, with newlines", DsmlCalls("calls", gap=" ").write([NOW, LIGHT]), calls=(NOW, LIGHT), tools=TOOLS),
    Sample("the block's opener missing", BLOCK.removeprefix("<｜DSML｜tool_calls>\n"), calls=(OSLO,), tools=TOOLS),
    Sample(
        "the opener missing, after text",
        f"So: {V41.write([OSLO]).removeprefix('<｜DSML｜ calls>')}",
        content="So: ",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("V3.2's block", DsmlCalls("function_calls").write([OSLO]), calls=(OSLO,), tools=TOOLS),
    Sample(
        "the block's tag misspelt",
        BLOCK.replace("<｜DSML｜tool_calls", "<｜DSML｜toolcalls"),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "V4.1's call in reasoning that is never closed",
        f"Cold?{V41.write([OSLO])}",
        reasoning="Cold?",
        calls=(OSLO,),
        generation_prompt="<｜Assistant｜><think>",
        tools=TOOLS,
    ),
    Sample(
        "markers mentioned in reasoning",
        "I use <｜DSML｜ calls> with <｜DSML｜ invoke.</think>Yes.",
        content="Yes.",
        reasoning="I use <｜DSML｜ calls> with <｜DSML｜ invoke.",
        generation_prompt="<｜Assistant｜><think>",
        tools=TOOLS,
    ),
    Sample(
        "truncated in the second call",
        CUT,
        content=CUT[len("<｜DSML｜tool_calls>" + CALL_OSLO) :],
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("V4.1, no tools in the request", V41.write([OSLO]), content=V41.write([OSLO])),
)
