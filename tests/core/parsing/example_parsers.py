"""Small parsers, one for each kind of markup that models write, for the tests of the toolkit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from mlx_host.parsing import (
    CallReader,
    CallStart,
    CallSyntaxError,
    EitherNotation,
    FunctionXml,
    JsonArrayCalls,
    JsonCall,
    MarkupParser,
    ReadFunction,
    ScanGenerator,
    Scanner,
    TaggedCalls,
    json_object,
    python_literal,
    read_balanced,
    read_json,
)
from mlx_host.testing.samples import Sample

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"s": {"type": "string"}, "n": {"type": "integer"}}},
    },
}
TOOLS = (TOOL,)
SN = (("f", {"s": "7", "n": 7}),)


@dataclass(frozen=True)
class Custom(CallReader):
    """Adapts a function to CallReader; such calls cannot be forced."""

    opener: CallStart
    reader: ReadFunction
    closers: tuple[str, ...] = ()

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return (self.opener,)

    @property
    def syntax(self) -> tuple[str, ...]:
        return self.closers

    def read(self, s: Scanner) -> ScanGenerator[None]:
        return self.reader(s)


class WithReasoning(MarkupParser):
    name = "thinks"
    description = "reasoning only"
    think_open = ("<think>",)
    think_close = ("</think>",)
    samples: ClassVar[tuple[Sample, ...]] = (Sample("thinking", "<think>R</think>C", "C", "R"),)


class Tagged(WithReasoning):
    name = "tagged"
    description = "JSON or XML in tags, bare XML, and a stop token"
    ignored_tokens = ("<|end|>",)
    calls = (
        TaggedCalls("<call>", EitherNotation(JsonCall(), FunctionXml()), "</call>", bare_starts=FunctionXml().starts),
        JsonArrayCalls("<calls>", "</calls>"),
    )
    samples: ClassVar[tuple[Sample, ...]] = (
        Sample("thinking", "<think>R</think>C", "C", "R"),
        Sample("array", '<calls>[{"name": "f"}, {"name": "g"}]</calls>', calls=(("f", {}), ("g", {})), tools=TOOLS),
        Sample("json", '<call>{"name": "f", "arguments": {"s": "7", "n": 7}}</call><|end|>', calls=SN, tools=TOOLS),
        Sample(
            "bare xml", "<function=f><parameter=s>7</parameter></function>", calls=(("f", {"s": "7"}),), tools=TOOLS
        ),
    )


def read_glm(s: Scanner) -> ScanGenerator[None]:
    yield from s.space()
    name = yield from s.name()
    schema = s.schema(name)
    arguments = {}
    while True:
        yield from s.space()
        if (yield from s.expect("<arg_key>", "</tool_call>")) == "</tool_call>":
            break
        key, _ = yield from s.until("</arg_key>")
        yield from s.space()
        yield from s.expect("<arg_value>")
        value, _ = yield from s.until("</arg_value>")
        arguments[key] = schema.member(key).json(value)
    s.emit_call(name, json_object(arguments))


class Glm(WithReasoning):
    name = "glm"
    calls = (Custom(CallStart("<tool_call>"), read_glm),)
    samples = (
        Sample(
            "glm",
            "<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>7</arg_value>\n<arg_key>n</arg_key><arg_value>7</arg_value>"
            "</tool_call><tool_call>g</tool_call>",
            calls=(*SN, ("g", {})),
            tools=TOOLS,
        ),
    )


def read_minimax(s: Scanner) -> ScanGenerator[None]:
    while True:
        yield from s.space()
        if (yield from s.optional('<invoke name="', "</minimax:tool_call>")) != '<invoke name="':
            return
        name, _ = yield from s.until('">')
        schema = s.schema(name)
        arguments = {}
        while True:
            yield from s.space()
            if (yield from s.expect('<parameter name="', "</invoke>")) == "</invoke>":
                break
            key, _ = yield from s.until('">')
            value, _ = yield from s.until("</parameter>")
            arguments[key] = schema.member(key).json(value)
        s.emit_call(name, json_object(arguments))


class Minimax(WithReasoning):
    name = "minimax"
    calls = (Custom(CallStart("<minimax:tool_call>"), read_minimax, ('<invoke name="', "</minimax:tool_call>")),)
    samples = (
        Sample(
            "two calls in one block",
            '<minimax:tool_call>\n<invoke name="f">\n<parameter name="s">7</parameter><parameter name="n">7</parameter>'
            '\n</invoke>\n<invoke name="g">\n</invoke>\n</minimax:tool_call>\nDone.',
            content="\nDone.",
            calls=(*SN, ("g", {})),
            tools=TOOLS,
        ),
    )


def read_kimi(s: Scanner) -> ScanGenerator[None]:
    while True:
        yield from s.space()
        if (yield from s.optional("<|call_begin|>", "<|section_end|>")) != "<|call_begin|>":
            return
        id, _ = yield from s.until("<|argument_begin|>")
        arguments = yield from read_json(s, first="{")
        yield from s.space()
        yield from s.optional("<|call_end|>")
        id = id.strip()
        s.emit_call(id.removeprefix("functions.").rsplit(":", 1)[0], arguments, id)


class Kimi(WithReasoning):
    name = "kimi"
    calls = (Custom(CallStart("<|section_begin|>"), read_kimi, ("<|call_begin|>", "<|section_end|>")),)
    samples = (
        Sample(
            "section",
            '<|section_begin|><|call_begin|>functions.f:3<|argument_begin|>{"s": "7", "n": 7}<|call_end|><|call_begin|>'
            "functions.g-h:4<|argument_begin|>{}<|call_end|><|section_end|>",
            calls=(*SN, ("g-h", {})),
            tools=TOOLS,
        ),
    )


def read_fenced(s: Scanner) -> ScanGenerator[None]:
    yield from s.expect("function<|sep|>")
    name, _ = yield from s.until("\n```json\n")
    arguments = yield from read_json(s, first="{")
    yield from s.space()
    yield from s.optional("```")
    yield from s.optional("<|call_end|>")
    s.emit_call(name, arguments)


class Fenced(WithReasoning):
    name = "fenced"
    calls = (Custom(CallStart("<|call_begin|>"), read_fenced),)
    samples = (
        Sample(
            "fence",
            '<|call_begin|>function<|sep|>f\n```json\n{"s": "7",\n"n": 7}\n```<|call_end|>',
            calls=SN,
            tools=TOOLS,
        ),
    )


def read_mistral(s: Scanner) -> ScanGenerator[None]:
    yield from s.space()
    if (yield from s.peek()) in ("[", "{"):
        yield from JsonCall(id_key="id").read(s)
        return
    name = yield from s.name()
    id = ""
    if (yield from s.optional("[CALL_ID]")):
        id = yield from s.name()
    yield from s.optional("[ARGS]")
    arguments = yield from read_json(s, first="{")
    s.emit_call(name, arguments, id)


class Mistral(MarkupParser):
    name = "mistral"
    description = "calls without closers"
    calls = (Custom(CallStart("[TOOL_CALLS]"), read_mistral),)
    samples = (
        Sample(
            "args",
            '[TOOL_CALLS]f[ARGS]{"s": "7", "n": 7}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}',
            calls=(*SN, ("g", {})),
            tools=TOOLS,
        ),
        Sample(
            "array",
            '[TOOL_CALLS] [{"name": "f", "arguments": {"s": "7", "n": 7}, "id": "123456789"}, {"name": "g"}]',
            calls=(*SN, ("g", {})),
            tools=TOOLS,
        ),
    )


def read_llama(s: Scanner) -> ScanGenerator[None]:
    separator = ";"
    while separator:
        yield from s.space()
        raw = yield from read_json(s, first="{")
        if not s.emit_json_call(raw, need_arguments=True):
            return
        yield from s.space()
        separator = yield from s.optional(";")


class Llama(MarkupParser):
    name = "llama"
    description = "bare JSON"
    calls = (
        Custom(CallStart("<|python_tag|>"), read_llama, (";",)),
        Custom(CallStart("{", inclusive=True, leading=True), read_llama),
    )
    samples = (
        Sample(
            "bare",
            '{"name": "f", "parameters": {"s": "7", "n": 7}}; {"name": "g", "parameters": {}}',
            calls=(*SN, ("g", {})),
            tools=TOOLS,
        ),
        Sample("other JSON", '{"name": "Ann"}', content='{"name": "Ann"}', tools=TOOLS),
        Sample(
            "a brace in text", 'See {"name": "f", "parameters": {}}', 'See {"name": "f", "parameters": {}}', tools=TOOLS
        ),
    )


def read_pythonic(s: Scanner) -> ScanGenerator[None]:
    yield from s.expect("[")
    separator = ","
    while separator == ",":
        yield from s.space()
        name = yield from s.name()
        raw = yield from read_balanced(s)
        yield from s.space()
        separator = yield from s.optional(",", "]")
        arguments = python_literal("{" + raw[1:-1].replace("s=", '"s":').replace("n=", '"n":') + "}")
        if not isinstance(arguments, dict):
            raise CallSyntaxError
        s.emit_call(name, json.dumps(arguments))
    yield from s.optional("<|call_end|>")


class Pythonic(MarkupParser):
    name = "pythonic"
    description = "a list of Python calls"
    calls = (Custom(CallStart("<|call_start|>"), read_pythonic, ("<|call_end|>",)),)
    samples = (
        Sample("list", '<|call_start|>[f(s="7", n=7), g()]<|call_end|>', calls=(*SN, ("g", {})), tools=TOOLS),
        Sample("brackets", "<|call_start|>[f(s=')]\\'(')]<|call_end|>", calls=(("f", {"s": ")]'("}),), tools=TOOLS),
    )


SHAPES = (WithReasoning, Tagged, Glm, Minimax, Kimi, Fenced, Mistral, Llama, Pythonic)
