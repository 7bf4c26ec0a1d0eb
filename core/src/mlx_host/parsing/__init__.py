"""What a parser plugin provides, and the toolkit to write one: text in, parts out.

A family subclasses MarkupParser and declares its markers and the formats of its calls. `TaggedCalls`, `CallBlock` and
`JsonArrayCalls` arrange calls, `JsonCall` and `FunctionXml` are the notations that many families share, and a family
with a notation of its own implements `Notation` or, if it arranges calls in its own way, `CallFormat`. A family that
does not mark things by fixed strings implements Parser itself.
"""

from mlx_host.parsing.arguments import arguments_of, is_json, json_call, json_object, json_string, object_members
from mlx_host.parsing.call_blocks import CallBlock, TaggedCalls
from mlx_host.parsing.call_format import (
    CallFormat,
    CallReader,
    CallValues,
    EitherNotation,
    Notation,
    Opener,
    ReadOnlyCalls,
)
from mlx_host.parsing.call_grammars import (
    in_turn,
    kinds,
    named,
    parameters,
    separated,
    separated_parameters,
    undeclared,
    writable,
)
from mlx_host.parsing.constraint import AnswerConstraint
from mlx_host.parsing.json_notation import JsonArrayCalls, JsonCall
from mlx_host.parsing.json_scanner import DEEPEST, read_balanced, read_json
from mlx_host.parsing.literal_matcher import Literals
from mlx_host.parsing.markup import MarkupParser
from mlx_host.parsing.parser import Content, Marker, Parser, Part, Reasoning, ToolCall, ToolChoice
from mlx_host.parsing.scanner import NAME, SPACE, NotACall, Reader, Reading, Scanner
from mlx_host.parsing.schema import Schema, literal_json, python_literal
from mlx_host.parsing.schema_nodes import Function, Member, Place, branches, functions, members, values
from mlx_host.parsing.tag_arguments import FunctionXml, TagArguments
from mlx_host.parsing.unquoted_values import BareText
from mlx_host.parsing.value_readers import typed_value, value_until

__all__ = [
    "DEEPEST",
    "NAME",
    "SPACE",
    "AnswerConstraint",
    "BareText",
    "CallBlock",
    "CallFormat",
    "CallReader",
    "CallValues",
    "Content",
    "EitherNotation",
    "Function",
    "FunctionXml",
    "JsonArrayCalls",
    "JsonCall",
    "Literals",
    "Marker",
    "MarkupParser",
    "Member",
    "NotACall",
    "Notation",
    "Opener",
    "Parser",
    "Part",
    "Place",
    "ReadOnlyCalls",
    "Reader",
    "Reading",
    "Reasoning",
    "Scanner",
    "Schema",
    "TagArguments",
    "TaggedCalls",
    "ToolCall",
    "ToolChoice",
    "arguments_of",
    "branches",
    "functions",
    "in_turn",
    "is_json",
    "json_call",
    "json_object",
    "json_string",
    "kinds",
    "literal_json",
    "members",
    "named",
    "object_members",
    "parameters",
    "python_literal",
    "read_balanced",
    "read_json",
    "separated",
    "separated_parameters",
    "typed_value",
    "undeclared",
    "value_until",
    "values",
    "writable",
]
