"""What a parser plugin provides, and the toolkit to write one: text in, parts out.

A family subclasses MarkupParser, declares its markers and brings a reader for each string that opens a call, or uses
the ones that exist. A family that is no markup implements Parser itself.

So that calls can be forced, it states their grammar, too: `functions` are what the tools declare, `json_object_calls`,
`function_xml_calls` and `Tags` the notations that several families share, `BareText`, `kinds`, `members` and
`separated` what others are made of. What none of these can guarantee they refuse with a sentence for the client.
"""

from mlx_host.parsing.arguments import arguments_of, is_json, json_call, json_object, json_string, object_members
from mlx_host.parsing.call_grammars import (
    Tags,
    function_xml_calls,
    in_turn,
    json_object_call,
    json_object_calls,
    json_object_members,
    kinds,
    named,
    separated,
    undeclared,
    writable,
)
from mlx_host.parsing.call_readers import function_xml, json_calls, json_or_xml, typed_value, value_until
from mlx_host.parsing.constraint import AnswerConstraint
from mlx_host.parsing.json_scanner import DEEPEST, read_balanced, read_json
from mlx_host.parsing.literal_matcher import Literals
from mlx_host.parsing.markup import Call, MarkupParser
from mlx_host.parsing.parser import Content, Marker, Parser, Part, Reasoning, Sample, ToolCall, ToolChoice
from mlx_host.parsing.scanner import NAME, SPACE, NotACall, Reader, Reading, Scanner
from mlx_host.parsing.schema import Schema, literal_json, python_literal
from mlx_host.parsing.schema_nodes import Function, Member, Place, branches, functions, members, values
from mlx_host.parsing.unquoted_values import BareText

__all__ = [
    "DEEPEST",
    "NAME",
    "SPACE",
    "AnswerConstraint",
    "BareText",
    "Call",
    "Content",
    "Function",
    "Literals",
    "Marker",
    "MarkupParser",
    "Member",
    "NotACall",
    "Parser",
    "Part",
    "Place",
    "Reader",
    "Reading",
    "Reasoning",
    "Sample",
    "Scanner",
    "Schema",
    "Tags",
    "ToolCall",
    "ToolChoice",
    "arguments_of",
    "branches",
    "function_xml",
    "function_xml_calls",
    "functions",
    "in_turn",
    "is_json",
    "json_call",
    "json_calls",
    "json_object",
    "json_object_call",
    "json_object_calls",
    "json_object_members",
    "json_or_xml",
    "json_string",
    "kinds",
    "literal_json",
    "members",
    "named",
    "object_members",
    "python_literal",
    "read_balanced",
    "read_json",
    "separated",
    "typed_value",
    "undeclared",
    "value_until",
    "values",
    "writable",
]
