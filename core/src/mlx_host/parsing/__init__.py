"""The parser interface for plugins, and building blocks for parsers.

Subclass MarkupParser and declare the family's markers and call formats. `TaggedCalls`, `CallBlock` and `JsonArrayCalls`
are common call formats; `JsonCall` and `FunctionXml` are common notations of one call. For another notation implement
`Notation`, for another arrangement of calls `CallFormat`. If the format is not based on fixed markers, subclass
`Parser`.
"""

from mlx_host.parsing.arguments import (
    is_json,
    json_call,
    json_object,
    json_string,
    normalize_arguments,
    object_members,
    replace_escaped_surrogates,
    replace_surrogates,
)
from mlx_host.parsing.bare_calls import BareJsonCalls
from mlx_host.parsing.call_blocks import CallBlock, TaggedCalls
from mlx_host.parsing.call_format import (
    CallFormat,
    CallReader,
    CallStart,
    CallValues,
    EitherNotation,
    Notation,
    ReadOnlyCalls,
)
from mlx_host.parsing.call_grammars import (
    check_function_name,
    check_key,
    one_or_more,
    parameters,
    separated_list,
    separated_parameters,
    split_by_type,
    undeclared_key,
)
from mlx_host.parsing.call_stream import CallStream
from mlx_host.parsing.constraint import OutputConstraint
from mlx_host.parsing.damaged_json import open_fence, read_arguments, read_call_object
from mlx_host.parsing.json_notation import JsonArrayCalls, JsonCall
from mlx_host.parsing.json_scanner import MAX_DEPTH, read_balanced, read_json
from mlx_host.parsing.literal_matcher import LiteralMatcher
from mlx_host.parsing.markup import MarkupParser
from mlx_host.parsing.parser import Content, Marker, Parser, Part, Reasoning, ToolCall, ToolCallDelta, ToolChoice
from mlx_host.parsing.python_calls import PythonCalls
from mlx_host.parsing.scanner import NAME, SPACE, CallSyntaxError, Decision, ReadFunction, ScanGenerator, Scanner
from mlx_host.parsing.schema import Schema, literal_json, python_literal
from mlx_host.parsing.schema_nodes import (
    Property,
    SchemaNode,
    ToolFunction,
    alternatives,
    enum_values,
    object_properties,
    tool_functions,
)
from mlx_host.parsing.tag_arguments import FunctionXml, TagArguments
from mlx_host.parsing.tools import Tools
from mlx_host.parsing.unquoted_values import UnquotedValue
from mlx_host.parsing.value_readers import ValueTags, at_natural_end, json_starts, read_typed_value, read_value

__all__ = [
    "MAX_DEPTH",
    "NAME",
    "SPACE",
    "BareJsonCalls",
    "CallBlock",
    "CallFormat",
    "CallReader",
    "CallStart",
    "CallStream",
    "CallSyntaxError",
    "CallValues",
    "Content",
    "Decision",
    "EitherNotation",
    "FunctionXml",
    "JsonArrayCalls",
    "JsonCall",
    "LiteralMatcher",
    "Marker",
    "MarkupParser",
    "Notation",
    "OutputConstraint",
    "Parser",
    "Part",
    "Property",
    "PythonCalls",
    "ReadFunction",
    "ReadOnlyCalls",
    "Reasoning",
    "ScanGenerator",
    "Scanner",
    "Schema",
    "SchemaNode",
    "TagArguments",
    "TaggedCalls",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolFunction",
    "Tools",
    "UnquotedValue",
    "ValueTags",
    "alternatives",
    "at_natural_end",
    "check_function_name",
    "check_key",
    "enum_values",
    "is_json",
    "json_call",
    "json_object",
    "json_starts",
    "json_string",
    "literal_json",
    "normalize_arguments",
    "object_members",
    "object_properties",
    "one_or_more",
    "open_fence",
    "parameters",
    "python_literal",
    "read_arguments",
    "read_balanced",
    "read_call_object",
    "read_json",
    "read_typed_value",
    "read_value",
    "replace_escaped_surrogates",
    "replace_surrogates",
    "separated_list",
    "separated_parameters",
    "split_by_type",
    "tool_functions",
    "undeclared_key",
]
