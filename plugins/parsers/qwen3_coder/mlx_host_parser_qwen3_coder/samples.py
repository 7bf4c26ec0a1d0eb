"""Outputs of Qwen3-Coder, and the expected parts."""

from mlx_host.testing.samples import LIGHT, OSLO, TOOLS, Sample, standard_samples

from mlx_host_parser_qwen3_coder import Qwen3CoderParser

CALL = Qwen3CoderParser.formats()[0].write([OSLO])


def written(name: str, **parameters: str) -> str:
    """Write a call with values exactly as given."""
    return Qwen3CoderParser.formats()[0].write([(name, parameters)])


SAMPLES = (
    *standard_samples(Qwen3CoderParser, malformed="<tool_call>\n{oops}\n</tool_call>"),
    Sample(
        "values of every type as Python writes them",
        written(
            "set-light",
            level="None",
            warmth="0.5",
            on="True",
            rooms="['hall', '7']",
            colour='{"red": 9007199254740993}',
            scene="none",
        ),
        calls=(LIGHT,),
        tools=TOOLS,
    ),
    Sample("the same tool twice", CALL + CALL, calls=(OSLO, OSLO), tools=TOOLS),
    Sample(
        "a closer within JSON, and invalid JSON",
        written("set-light", rooms='["</parameter>", "7"]') + written("f", a='{"b": "</parameter>"}', c="[x"),
        calls=(
            ("set-light", {"rooms": ["</parameter>", "7"]}),
            ("f", {"a": {"b": "</parameter>"}, "c": "[x"}),
        ),
        tools=TOOLS,
    ),
    Sample("values without a schema", written("f", a="1", b="x"), calls=(("f", {"a": 1, "b": "x"}),), tools=TOOLS),
    Sample(
        "opener missing",
        "Now.\n" + CALL.removeprefix("<tool_call>\n"),
        content="Now.\n",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("outer closer missing", CALL.removesuffix("\n</tool_call>"), calls=(OSLO,), tools=TOOLS),
)
