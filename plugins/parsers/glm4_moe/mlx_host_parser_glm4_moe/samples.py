"""Outputs of GLM-4.5 to GLM-5, and the expected parts."""

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, WRITE, Sample, standard_samples

from mlx_host_parser_glm4_moe import Glm4MoeParser

SPACED, GLUED = Glm4MoeParser.calls

SAMPLES = (
    *standard_samples(Glm4MoeParser, malformed="<tool_call>a b</tool_call>"),
    Sample(
        "reasoning after a newline",
        "\n<think>Cold?</think>\nIt is cold.<|user|>",
        content="It is cold.",
        reasoning="Cold?",
        generation_prompt="<|assistant|>",
    ),
    Sample(
        "text after a newline", "\nIt is cold.", content="\nIt is cold.", generation_prompt="<|assistant|>", tools=TOOLS
    ),
    Sample(
        "reasoning, then calls of GLM-4.7",
        f"Cold?</think>{GLUED.write([ROME, ROME])}<|observation|>",
        reasoning="Cold?",
        calls=(ROME, ROME),
        generation_prompt="<|assistant|><think>",
        tools=TOOLS,
    ),
    Sample(
        "every type and markup of GLM-4.7", GLUED.write([NOW, LIGHT, WRITE]), calls=(NOW, LIGHT, WRITE), tools=TOOLS
    ),
    Sample("JSON arguments", '<tool_call>get_weather>{"city": "Oslo"}</tool_call>', calls=(OSLO,), tools=TOOLS),
    Sample("a vision model's box", "It is <|begin_of_box|>7<|end_of_box|>.", content="It is 7."),
)
