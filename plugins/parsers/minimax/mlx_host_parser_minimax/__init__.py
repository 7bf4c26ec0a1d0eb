"""MiniMax-M2 to M2.7: reasoning in `<think>`, calls as `<invoke>` elements, several in one `<minimax:tool_call>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import (
    CallBlock,
    MarkupParser,
    Notation,
    Parser,
    ScanGenerator,
    Scanner,
    TagArguments,
    ToolChoice,
    ToolFunction,
    UnquotedValue,
    check_function_name,
    json_object,
)

_INVOKE, _END_INVOKE = '<invoke name="', "</invoke>"
# Models also write attributes in single quotes or none.
_BARE_INVOKE = "<invoke name="
_QUOTES = ('"', "'")
_KEY = re.compile(r'[^\s<>"]+')
# The chat template writes values without padding; some versions of the model add a newline on either side.
_PARAMETERS = TagArguments(
    '<parameter name="',
    '">',
    UnquotedValue("</parameter>", trimmed=True),
    _KEY,
    after="\n",
    variants=(("<parameter name='", "'>"), ("<parameter name=", ">")),
    strip_key=False,
)


@dataclass(frozen=True)
class MiniMaxCall(Notation):
    """One call as an `invoke` element with `parameter` elements."""

    @property
    def starts(self) -> tuple[str, ...]:
        return (_BARE_INVOKE,)

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.expect(_BARE_INVOKE)
        quote = yield from s.optional(*_QUOTES)
        name, _ = yield from s.until(f"{quote}>")
        s.stream.begin(name)
        arguments = yield from _PARAMETERS.read(s, s.schema(name), (_END_INVOKE,), closers)
        s.emit_call(name, json_object(arguments))

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        opener = f'{_INVOKE}{check_function_name(function, _KEY)}">\n'
        return chain(opener, _PARAMETERS.grammar(function), _END_INVOKE + "\n")

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return f'{_INVOKE}{name}">\n{_PARAMETERS.write(arguments)}{_END_INVOKE}\n'


class MiniMaxParser(MarkupParser):
    name = "minimax"
    aliases = ("minimax_m2",)
    description = "reasoning and calls of MiniMax-M2, M2.1, M2.5 and M2.7"
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("[e~[",)
    calls = (
        CallBlock(
            "<minimax:tool_call>", MiniMaxCall(), "</minimax:tool_call>", gap="\n", bare_starts=MiniMaxCall().starts
        ),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [MiniMaxParser]
