"""Outputs of DeepSeek-V3.2, and the expected parts."""

from mlx_host.testing.samples import NOW, OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_deepseek_v32 import DeepSeekV32Parser
from mlx_host_parser_deepseek_v32.dsml import DsmlCalls

FORMAT, V41 = DsmlCalls("function_calls"), DsmlCalls("calls", gap=" ", newline="")
BLOCK, CALL_OSLO = FORMAT.write([OSLO]), FORMAT.write_invoke(*OSLO)
CLOSER = "</｜DSML｜function_calls>"
ODD = ("write_file", {"path": " 007\n", "text": '</｜DSML｜invoke></think> {"a": null}\n'})
TYPES = ("f", {"a": "7", "b": 7, "c": [None], "d": {"e": 0.5}})
HELD = ("f", {"input": {"city": "Oslo"}})


def block(*invokes: str) -> str:
    """Write a block of calls exactly as given."""
    return FORMAT.write([]).removesuffix(CLOSER) + "".join(invokes) + CLOSER


SAMPLES = (
    *standard_samples(DeepSeekV32Parser, malformed=block("now()")),
    Sample("space, closers and JSON in strings", FORMAT.write([ODD]), calls=(ODD,), tools=TOOLS),
    Sample("types from the tag without a schema", FORMAT.write([TYPES]), calls=(TYPES,), tools=TOOLS),
    Sample(
        "no string attribute, typed by the schema",
        block(
            '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city">7</｜DSML｜parameter>\n'
            '<｜DSML｜parameter name="days">7</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        ),
        calls=(("get_weather", {"city": "7", "days": 7}),),
        tools=TOOLS,
    ),
    Sample(
        "marked as not a string, but not JSON",
        block(
            '<｜DSML｜invoke name="set-light"><｜DSML｜parameter name="on" string="false">True</｜DSML｜parameter>'
            '<｜DSML｜parameter name="scene" string="false">warm</｜DSML｜parameter></｜DSML｜invoke>'
        ),
        calls=(("set-light", {"on": True, "scene": "warm"}),),
        tools=TOOLS,
    ),
    Sample("an empty element", block('<｜DSML｜invoke name="now"/>'), calls=(NOW,), tools=TOOLS),
    Sample(
        "JSON within an invoke",
        block('<｜DSML｜invoke name="get_weather">\n{"city": "Oslo"}\n</｜DSML｜invoke>\n'),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "all arguments in one that the function does not have",
        FORMAT.write([("get_weather", {"arguments": '{"city": "Oslo"}'}), ("get_weather", HELD[1]), HELD]),
        calls=(OSLO, OSLO, HELD),
        tools=TOOLS,
    ),
    Sample("the block's tags missing", f"So:\n{CALL_OSLO}", content="So:\n", calls=(OSLO,), tools=TOOLS),
    Sample("the block's closer missing", BLOCK.removesuffix(CLOSER), calls=(OSLO,), tools=TOOLS),
    Sample(
        "an invoke closed by the block's closer",
        BLOCK.replace("</｜DSML｜invoke>\n", ""),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "stray closers",
        BLOCK + "\n</｜DSML｜invoke>\n</｜DSML｜function_calls>\nDone.",
        content="\nDone.",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "V4's tag, V4.1's spaces, a tag misspelt, plain bars",
        BLOCK.replace("function_calls", "tool_calls")
        + V41.write([OSLO])
        + BLOCK.replace("<｜DSML｜function_calls", "<｜DSML｜functioncalls")
        + BLOCK.replace("｜", "|"),
        calls=(OSLO,) * 4,
        tools=TOOLS,
    ),
    Sample(
        "markup mentioned in text",
        'Write <｜DSML｜invoke name="now"> in <｜DSML｜function_calls>.',
        content='Write <｜DSML｜invoke name="now"> in <｜DSML｜function_calls>.',
        tools=TOOLS,
    ),
    Sample(
        "reasoning, then two calls in one block",
        f"Cold?</think>\n\n{FORMAT.write([OSLO, ROME])}<｜end▁of▁sentence｜>",
        reasoning="Cold?",
        calls=(OSLO, ROME),
        generation_prompt="<｜Assistant｜><think>",
        tools=TOOLS,
    ),
    Sample(
        "reasoning closed by the prompt alone", "Yes.\n", content="Yes.\n", generation_prompt="<｜Assistant｜></think>"
    ),
)
