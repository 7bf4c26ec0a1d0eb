"""DeepSeek-V4 and V4.1: calls in DSML as V3.2 writes it, but for the name of the block's tag, and V4.1's spaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, one_of
from mlx_host.parsing import (
    Parser,
    Sample,
    ToolChoice,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json
from mlx_host_parser_deepseek_v32 import DsmlParser, block_grammar, written


def _v4(*calls: str) -> str:
    return f"<｜DSML｜tool_calls>\n{''.join(calls)}</｜DSML｜tool_calls>"


def _v41(*calls: str) -> str:
    return f"<｜DSML｜ calls>{''.join(calls)}</｜DSML｜ calls>"


CALL_OSLO = written(OSLO)
SPACED_OSLO = written(OSLO, gap=" ", newline="")
SPACED_ROME = written(ROME, gap=" ", newline="")


class DeepSeekV4Parser(DsmlParser):
    name = "deepseek_v4"
    aliases = ("deepseekv4", "deepseek_v41", "deepseekv41")
    reads = "calls of DeepSeek-V4 and V4.1 in DSML, reasoning in <think>"
    templates = (
        ("｜DSML｜", "tool_calls", "invoke", "parameter"),
        ("｜DSML｜", " calls>", " invoke", " parameter"),
    )
    samples = (
        Sample(
            "thinking, then two calls in one block",
            f"Cold?</think>\n\n{_v4(CALL_OSLO, written(ROME))}<｜end▁of▁sentence｜>",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample("answer", "It is cold.\n", content="It is cold.\n", prompt_tail="<｜Assistant｜></think>", tools=TOOLS),
        Sample(
            "tags without newlines",
            _v4(written(OSLO, newline=""), written(WRITE, newline="")),
            calls=(OSLO, WRITE),
            tools=TOOLS,
        ),
        Sample(
            "V4.1",
            f"Cold?</think>I look.{_v41(SPACED_OSLO, SPACED_ROME, written(LIGHT, gap=' '))}",
            content="I look.",
            reasoning="Cold?",
            calls=(OSLO, ROME, LIGHT),
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample(
            "V4.1, strings verbatim",
            _v41(written(WRITE, gap=" ", newline="")),
            calls=(WRITE,),
            tools=TOOLS,
        ),
        Sample("V4.1, no parameters", _v41(written(("now", {}), gap=" ")), calls=(("now", {}),), tools=TOOLS),
        Sample(
            "the block's opener missing",
            _v4(CALL_OSLO).removeprefix("<｜DSML｜tool_calls>\n"),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "the opener missing, after text",
            f"So: {SPACED_OSLO}</｜DSML｜ calls>",
            content="So: ",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "V3.2's block",
            f"<｜DSML｜function_calls>\n{CALL_OSLO}</｜DSML｜function_calls>",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "the block's tag misspelt",
            _v4(CALL_OSLO).replace("<｜DSML｜tool_calls", "<｜DSML｜toolcalls"),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "thinking never closed before the call",
            f"Cold?{_v41(SPACED_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample(
            "markers mentioned in thinking",
            "I use <｜DSML｜ calls> with <｜DSML｜ invoke.</think>Yes.",
            content="Yes.",
            reasoning="I use <｜DSML｜ calls> with <｜DSML｜ invoke.",
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample(
            "cut off in the second call",
            _v4(CALL_OSLO, written(ROME))[:200],
            content=_v4(CALL_OSLO, written(ROME))[len("<｜DSML｜tool_calls>" + CALL_OSLO) : 200],
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _v41(SPACED_OSLO), content=_v41(SPACED_OSLO)),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Leave it to the model whether it is V4 or V4.1."""
        spaced = block_grammar(tools, choice, "calls", gap=" ", newline="")
        return one_of(block_grammar(tools, choice, "tool_calls"), spaced)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [DeepSeekV4Parser]
