"""Hypothesis strategies for random calls to the sample tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from mlx_host.parsing.schema import resolve_pointer
from mlx_host.requests import Json

# Characters with a meaning in markup or JSON; they cannot form the closing marker of any family.
_CHARACTERS = "aZ7 -_.,:;{}[]()\"'\\\n\t<>/=&é🙂"
_INTEGERS = st.integers(-(10**18), 10**18)


@st.composite
def calls_of(draw: st.DrawFn, tools: tuple[Json, ...]) -> tuple[str, dict[str, Any]]:
    """A call to one of the tools, with its arguments in the order of the schema."""
    function = draw(st.sampled_from(tools))["function"]
    schema = function["parameters"]
    return function["name"], draw(_objects(schema, schema))


@st.composite
def _objects(draw: st.DrawFn, schema: Mapping[str, Any], root: object) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        key: draw(_values(member, root))
        for key, member in schema["properties"].items()
        if key in required or draw(st.booleans())
    }


def _values(schema: Mapping[str, Any], root: object, *, only_type: bool = True) -> st.SearchStrategy[Any]:
    """Values of a schema; if the type is not only string, strings cannot be mistaken for values of the other types."""
    if "$ref" in schema:
        resolved = resolve_pointer(root, schema["$ref"])
        assert isinstance(resolved, Mapping)
        return _values(resolved, root)
    if "anyOf" in schema:
        return st.one_of([_values(choice, root, only_type=False) for choice in schema["anyOf"]])
    if isinstance(schema["type"], list):
        return st.one_of([_values({**schema, "type": name}, root, only_type=False) for name in schema["type"]])
    match schema["type"]:
        case "object":
            return _objects(schema, root)
        case "array":
            return st.lists(_values(schema["items"], root), max_size=3)
        case "string":
            return st.text(_CHARACTERS, max_size=12) if only_type else st.text("wxyz", min_size=1, max_size=6)
        case "integer":
            return _INTEGERS
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False) | _INTEGERS
        case "boolean":
            return st.booleans()
    return st.none()
