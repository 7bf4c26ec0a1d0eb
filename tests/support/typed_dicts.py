"""Generates request bodies from the TypedDict parameters of SDKs: each differs from a minimal body in one field."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from typing_extensions import TypeAliasType, is_typeddict

SCHEMA = {"type": "object", "properties": {"probe": {"type": "string"}}}
# Valid values that are not the default, for fields whose type does not determine them.
VALUES: Mapping[str, Sequence[Any]] = {
    "arguments": ('{"probe": 1}',),
    "background": (True, "transparent"),
    "input_schema": (SCHEMA,),
    "logit_bias": ({"5": 1},),
    "max_tokens": (7,),
    "parameters": (SCHEMA,),
    "schema": (SCHEMA,),
    "size": ("256x512",),
    "stream": (True,),
}
SCALARS: Mapping[Any, Sequence[Any]] = {str: ("probe",), int: (2,), float: (0.5,), bool: (True, False)}


@dataclass(frozen=True)
class Change:
    """A value, and the same value with another content of the field at `path`, without the indexes of lists.

    `kind` identifies the alternative of the field's type; all scalars are one alternative. `required`: whether the
    field is in both. `types` are the types of the objects around the field, by their path.
    """

    path: str
    base: Any
    changed: Any
    kind: str
    required: bool
    types: Mapping[str, str]

    def inside(self, name: str, wrap: Any) -> Change:
        """Return the change within the field `name` of an object."""
        types = {f"{name}.{path}".strip("."): kind for path, kind in self.types.items()}
        path = f"{name}.{self.path}"
        return Change(path, wrap(self.base), wrap(self.changed), self.kind, self.required, types)


def changes(params: Any, seen: tuple[Any, ...] = ()) -> Iterator[Change]:
    """Yield values of a type which differ in one field of an object at any depth; `params` is a type of the SDK."""
    for alternative in _alternatives(params):
        if (member := _member(alternative)) is not None:
            for change in changes(member, seen):
                yield Change(change.path, [change.base], [change.changed], change.kind, change.required, change.types)
        elif is_typeddict(alternative) and alternative not in seen:
            yield from _object_changes(alternative, (*seen, alternative))


def _object_changes(params: Any, seen: tuple[Any, ...]) -> Iterator[Change]:
    minimal = minimal_object(params)
    own = {"": minimal["type"]} if isinstance(minimal.get("type"), str) else {}
    for name, (field, required) in fields_of(params).items():
        for kind, value in _examples(name, field):
            # An empty object sets nothing. Other types of a required field may say the same, and are examined below.
            if value != {} and not (required and (kind != "scalar" or value == minimal[name])):
                yield Change(name, minimal, {**minimal, name: value}, kind, required, own)
        for change in changes(field, seen):
            inner = change.inside(name, lambda value, name=name: {**minimal, name: value})
            yield Change(inner.path, inner.base, inner.changed, inner.kind, inner.required, {**own, **inner.types})


def minimal_object(params: Any) -> dict[str, Any]:
    """Return an object with the required fields of a TypedDict."""
    fields = fields_of(params)
    return {name: _examples(name, field)[0][1] for name, (field, required) in fields.items() if required}


def fields_of(params: Any) -> dict[str, tuple[Any, bool]]:
    """Return the types of a TypedDict's fields, and whether each is required."""
    hints = typing.get_type_hints(params, include_extras=True)
    required = {name: _is_required(params, name, hint) for name, hint in hints.items()}
    return {name: (hint, required[name]) for name, hint in hints.items()}


def _is_required(params: Any, name: str, hint: Any) -> bool:
    if typing.get_origin(hint) in (Required, NotRequired):
        return typing.get_origin(hint) is Required
    for base in types.get_original_bases(params) if hasattr(types, "get_original_bases") else params.__orig_bases__:
        if is_typeddict(base) and name in typing.get_type_hints(base):
            return _is_required(base, name, hint)
    return bool(params.__total__)


def _examples(name: str, field: Any) -> list[tuple[str, Any]]:
    """Return values of a field, each with the name of the alternative of the type."""
    if name in VALUES:
        return [("scalar", value) for value in VALUES[name]]
    found: list[tuple[str, Any]] = []
    for alternative in _alternatives(field):
        if typing.get_origin(alternative) is Literal:
            found += [("scalar", value) for value in typing.get_args(alternative)[:8]]
        elif alternative in SCALARS:
            found += [("scalar", value) for value in SCALARS[alternative]]
        elif (member := _member(alternative)) is not None:
            found += [(kind, [value]) for kind, value in _examples("", member)]
        elif is_typeddict(alternative):
            found.append((alternative.__name__, minimal_object(alternative)))
        elif alternative in (Any, object) or typing.get_origin(alternative) in (dict, Mapping):
            found.append(("scalar", {"probe": "probe"}))
        else:
            # A file.
            found.append(("scalar", "probe"))
    # A required string has to differ from its minimal value.
    if found and all(value == "probe" for _, value in found):
        found.append(("scalar", "other"))
    return found


def _alternatives(field: Any) -> Iterator[Any]:
    """The types of a union, without None and without the SDK's models of responses."""
    origin = typing.get_origin(field)
    if isinstance(field, TypeAliasType):
        yield from _alternatives(field.__value__)
    elif origin in (Required, NotRequired, Annotated):
        yield from _alternatives(typing.get_args(field)[0])
    elif origin in (Union, types.UnionType):
        members = [each for member in typing.get_args(field) for each in _alternatives(member)]
        has_text = str in members
        yield from (each for each in members if not (has_text and typing.get_origin(each) is Literal))
    elif field is not type(None) and not (isinstance(field, type) and hasattr(field, "model_fields")):
        yield field


def _member(field: Any) -> Any:
    """The type of a list's members; None if it is not a list."""
    is_list = typing.get_origin(field) in (list, Iterable, Sequence)
    return typing.get_args(field)[0] if is_list else None
