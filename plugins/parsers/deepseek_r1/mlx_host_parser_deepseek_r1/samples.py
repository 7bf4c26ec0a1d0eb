"""Outputs of DeepSeek-R1, and the expected parts."""

from mlx_host.testing.samples import Sample, standard_samples

from mlx_host_parser_deepseek_r1 import DeepSeekR1Parser

SAMPLES = (
    *standard_samples(DeepSeekR1Parser),
    Sample("no reasoning", "It is 4.", content="It is 4."),
    Sample(
        "an end-of-sentence token",
        "Two and two.\n</think>\n\nIt is 4.<｜end▁of▁sentence｜>",
        content="It is 4.",
        reasoning="Two and two.",
        generation_prompt="<｜Assistant｜><think>\n",
    ),
)
