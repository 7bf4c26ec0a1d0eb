"""Building blocks for the grammars of calls: names, parameters, separated lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import Alternatives, Concat, Grammar, LiteralText, Repeat, TextThrough, chain, optional
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.schema_nodes import SchemaNode, ToolFunction, alternatives, object_properties

# Small models that are forced to call tools do not stop by themselves.
MAX_CALLS = 16


def one_or_more(call: Grammar, choice: ToolChoice, between: str = "") -> Grammar:
    """Return the grammar of one call, or of up to MAX_CALLS if `choice.parallel`."""
    return chain(call, Repeat(chain(between, call), 0, MAX_CALLS - 1)) if choice.parallel else call


def check_function_name(function: ToolFunction, name: re.Pattern[str]) -> str:
    """Return the name of a function; UnsupportedRequestError if it does not match the pattern `name`."""
    return check_key(function.name, name, function.name)


def check_key(text: str, allowed: re.Pattern[str], tool: str) -> str:
    """Return a name or key unchanged; UnsupportedRequestError if the call format cannot represent it."""
    if not allowed.fullmatch(text):
        raise UnsupportedRequestError(
            f"The tool {tool!r} cannot be forced or strict with this model: its tool-call format does not "
            f"allow the name {text!r}.",
            param="tools",
        )
    return text


def parameters(
    function: ToolFunction,
    before: str,
    after: str,
    key: re.Pattern[str],
    value: Callable[[SchemaNode], Grammar],
    *,
    escape: Callable[[str], str] = str,
    other_key: re.Pattern[str] | None = None,
    reserved: Sequence[str] = (),
) -> Grammar:
    """Return the grammar of arguments without separators: the declared ones in order, then any others.

    Each is `before`, the key as `escape` encodes it, `after`, and the grammar that `value` returns. `key` matches the
    keys that the format can represent. Undeclared keys match `other_key`, by default `key`, and are not `reserved`.
    """
    declared, others = object_properties(function.parameters)
    parts: list[Grammar] = []
    for member in declared:
        written = escape(check_key(member.key, key, function.name))
        part = chain(before + written + after, value(member.node))
        parts.append(part if member.required else optional(part))
    if others is not None:
        known = [*(escape(member.key) for member in declared), *reserved]
        parts.append(Repeat(chain(before, undeclared_key(after, known, other_key or key), value(others))))
    return Concat(tuple(parts))


def separated_parameters(
    node: SchemaNode, after: str, key: re.Pattern[str], value: Callable[[SchemaNode], Grammar], separator: str
) -> Grammar:
    """Return the grammar of an object's members with separators: the declared ones in order, then any others."""
    declared, others = object_properties(node)
    parts = [
        (chain(check_key(member.key, key, node.tool) + after, value(member.node)), member.required)
        for member in declared
    ]
    more = None
    if others is not None:
        more = chain(undeclared_key(after, [member.key for member in declared], key), value(others))
    return separated_list(parts, more, separator)


def undeclared_key(after: str, declared: Sequence[str], key: re.Pattern[str]) -> Grammar:
    """Return the grammar of a key that is not `declared`, and of the text `after` it."""
    unless = ("|".join(map(re.escape, declared)),) if declared else ()
    # Python's \s includes these characters, llguidance's does not.
    return TextThrough((after,), (key.pattern.replace(r"\s", r"\s\x1c-\x1f"),), unless)


def split_by_type(node: SchemaNode) -> tuple[list[SchemaNode], list[SchemaNode]]:
    """Split a schema into its string alternatives and its others, for formats that mark strings.

    The others have one type each if the schema restricts the types.
    """
    node = node.resolved()
    types = node.types()
    if types and "string" not in types:
        return [], alternatives(node) if len(types) > 1 else [node]
    parts = alternatives(node)
    if types:
        return [part for part in parts if part.types() == {"string"}], [p for p in parts if p.types() != {"string"}]
    if any(not part.keywords() for part in parts):
        return [node.subschema({"type": "string"})], [node.subschema({})]
    return [], [node]


def separated_list(parts: Sequence[tuple[Grammar, bool]], more: Grammar | None, separator: str) -> Grammar:
    """Return the grammar of (part, required) pairs in order, then any number of `more`, joined by a separator."""

    def following(rest: Sequence[tuple[Grammar, bool]]) -> list[Grammar]:
        last = [] if more is None else [Repeat(chain(separator, more))]
        return [chain(separator, part) if required else optional(separator, part) for part, required in rest] + last

    starts: list[Grammar] = []
    for n, (part, required) in enumerate(parts):
        starts.append(chain(part, *following(parts[n + 1 :])))
        if required:
            return Alternatives(tuple(starts))
    if more is not None:
        starts.append(chain(more, *following([])))
    return Alternatives((*starts, LiteralText("")))
