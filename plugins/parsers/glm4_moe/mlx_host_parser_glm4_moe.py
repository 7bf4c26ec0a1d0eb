"""GLM-4.5 to GLM-5: calls as a name with `<arg_key>` and `<arg_value>` pairs in `<tool_call>`, reasoning in `<think>`.

GLM-4.5 and 4.6 put a newline after each tag, 4.7 and later none; both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, Repeated, chain, one_of
from mlx_host.parsing import (
    BareText,
    Call,
    MarkupParser,
    Parser,
    Reading,
    Sample,
    Scanner,
    Tags,
    ToolChoice,
    functions,
    in_turn,
    json_object,
    named,
    read_json,
    typed_value,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, SCRIPT, TOOLS, WRITE
from mlx_host.requests import Json

_KEY = re.compile(r"[^\s<>{}]+")
_FUNCTION_NAME = re.compile(r"[^\s<>{}]*")


def _read_call(s: Scanner) -> Reading[None]:
    yield from s.space()
    name = yield from s.run(_FUNCTION_NAME)
    schema = s.schema(name)
    arguments: dict[str, str] = {}
    yield from s.space()
    # GLM-5 Flash now and then writes its arguments as JSON behind a stray bracket.
    if (yield from s.lookahead("{", ">")):
        yield from s.optional(">")
        raw = yield from read_json(s, first="{")
        yield from s.space()
        yield from s.optional("</tool_call>")
        s.call(name, raw)
        return
    while (yield from s.expect("<arg_key>", "</tool_call>")) == "<arg_key>":
        written, _ = yield from s.until("</arg_key>")
        key = written.strip()
        yield from s.space()
        yield from s.expect("<arg_value>")
        member = schema.member(key)
        value = yield from typed_value(s, member, "</arg_value>")
        arguments[key] = member.json(value)
        yield from s.space()
    s.call(name, json_object(arguments))


def _grammar(tools: Iterable[Json], gap: str) -> Grammar:
    """A call with `gap` after each tag: a newline up to GLM-4.6, nothing from 4.7 on."""
    tags = Tags("<arg_key>", f"</arg_key>{gap}<arg_value>", BareText("</arg_value>"), gap, _KEY)
    calls = [chain(named(function, _KEY) + gap, tags.arguments(function)) for function in functions(tools)]
    return chain("<tool_call>", one_of(*calls), "</tool_call>")


def _written(name: str, *arguments: tuple[str, str], gap: str = "\n") -> str:
    inner = "".join(f"<arg_key>{key}</arg_key>{gap}<arg_value>{value}</arg_value>{gap}" for key, value in arguments)
    return f"<tool_call>{name}{gap}{inner}</tool_call>"


CALL_OSLO = _written("get_weather", ("city", "Oslo"))
CALL_ROME = _written("get_weather", ("city", "Rome"), ("days", "3"), gap="")


class Glm4MoeParser(MarkupParser):
    name = "glm4_moe"
    aliases = ("glm45", "glm4", "glm46", "glm47", "glm47_flash", "glm5", "ling3")
    reads = "reasoning and calls of GLM-4.5, 4.6, 4.7 and 5, Ling 3"
    templates = (("<tool_call>", "<arg_key>", "</arg_key>", "<arg_value>"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|user|>", "<|observation|>", "<|endoftext|>", "<|begin_of_box|>", "<|end_of_box|>")
    calls = (Call("<tool_call>", _read_call),)
    samples = (
        Sample("answer", "\nIt is cold.", content="\nIt is cold.", prompt_tail="<|assistant|>", tools=TOOLS),
        Sample(
            "thinking",
            "\n<think>Cold?</think>\nIt is cold.<|user|>",
            content="It is cold.",
            reasoning="Cold?",
            prompt_tail="<|assistant|>",
        ),
        Sample(
            "thinking opened by the prompt, then glued calls",
            f"Cold?</think>{CALL_ROME}{CALL_ROME}<|observation|>",
            reasoning="Cold?",
            calls=(ROME, ROME),
            prompt_tail="<|assistant|><think>",
            tools=TOOLS,
        ),
        Sample(
            "thinking switched off",
            "It is cold.",
            content="It is cold.",
            prompt_tail="<|assistant|>\n<think></think>\n",
        ),
        Sample(
            "text around calls",
            f"I look.\n{CALL_OSLO}\nAnd {CALL_ROME}\nSo.",
            content="I look.\n\nAnd \nSo.",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("no arguments", _written("now", gap="") + _written("now"), calls=(("now", {}),) * 2, tools=TOOLS),
        Sample(
            "values of every type",
            _written(
                "set-light",
                ("level", "null"),
                ("warmth", "0.5"),
                ("on", "true"),
                ("rooms", '["hall", "7"]'),
                ("colour", '{"red": 9007199254740993}'),
                ("scene", "none"),
            ),
            calls=(LIGHT,),
            tools=TOOLS,
        ),
        Sample(
            "text that looks like markup and numbers",
            _written("write_file", ("path", "007"), ("text", SCRIPT)),
            calls=(WRITE,),
            tools=TOOLS,
        ),
        Sample("JSON arguments", '<tool_call>get_weather>{"city": "Oslo"}</tool_call>', calls=(OSLO,), tools=TOOLS),
        Sample(
            "call in thinking that is never closed",
            f"Cold? {CALL_OSLO}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<|assistant|><think>",
            tools=TOOLS,
        ),
        Sample(
            "a vision model's box",
            "It is <|begin_of_box|>7<|end_of_box|>.",
            content="It is 7.",
        ),
        Sample("cut off", CALL_OSLO[:50], content=CALL_OSLO[:50], tools=TOOLS),
        Sample(
            "malformed beside a good one",
            f"<tool_call>a b</tool_call>\n{CALL_OSLO}",
            content="<tool_call>a b</tool_call>\n",
            calls=(OSLO,),
            tools=TOOLS,
        ),
    )

    def thinking(self) -> Grammar:
        """GLM-4.5 and 4.6 begin with a newline."""
        match super().thinking():
            case Repeated(thought):
                return Repeated(one_of(thought, chain("\n", thought)), 0, 1)
            case other:
                return other

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return one_of(*(in_turn(_grammar(tools, gap), choice, gap) for gap in ("\n", "")))


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Glm4MoeParser]
