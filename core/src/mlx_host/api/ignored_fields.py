"""Finds the fields of a request body that have no effect, for the header `x-mlx-host-ignored`.

A pydantic model describes its own fields. A field that holds raw JSON, which is converted after validation, is
annotated with the fields that the conversion reads:

    messages: Annotated[list[dict[str, Any]], KnownFields("role", content=PARTS)]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel


class KnownFields:
    """The fields of a JSON object that have an effect.

    `names` are read whatever they contain; `nested` are read as objects, or lists of objects, with known fields.
    `unset` are values of other fields that clients send by default.
    """

    def __init__(
        self, *names: str, unset: Mapping[str, Any] = MappingProxyType({}), **nested: KnownFields | ByType
    ) -> None:
        self.names = frozenset(names)
        self.nested = nested
        self.unset = unset

    def of(self, value: Mapping[str, Any]) -> KnownFields | None:
        """Return the known fields of a value; None if they are not known."""
        return self


class ByType:
    """The known fields of objects by their `type`; objects of other types are not examined.

    `default` is the type of objects without one. `types` may be filled later, because types can contain each other.
    """

    def __init__(self, types: Mapping[str, KnownFields], default: str | None = None) -> None:
        self.types = types
        self._default = default

    def of(self, value: Mapping[str, Any]) -> KnownFields | None:
        """Return the known fields of a value; None if its type has none."""
        kind = value.get("type") or self._default
        return self.types.get(kind) if isinstance(kind, str) else None


def ignored_fields(body: BaseModel) -> list[str]:
    """Return the paths of the fields of a body that are set and unknown, sorted and without the indexes of lists.

    A path is `tools.cache_control`, however many tools have the field. A field is not set if it is null or an empty
    list or object.
    """
    return sorted(set(_of_model(body, "")))


@cache
def _plan(model: type[BaseModel]) -> Sequence[tuple[str, str, KnownFields | ByType | None]]:
    """The declared fields of a model: attribute, name in JSON, and the known fields of raw JSON."""
    plan = []
    for attribute, field in model.model_fields.items():
        known = next((each for each in field.metadata if isinstance(each, KnownFields | ByType)), None)
        plan.append((attribute, field.alias or attribute, known))
    return plan


def _of_model(body: BaseModel, prefix: str) -> Iterator[str]:
    for name, value in (body.model_extra or {}).items():
        if _is_set(value):
            yield f"{prefix}{name}"
    for attribute, name, known in _plan(type(body)):
        value = getattr(body, attribute)
        if isinstance(value, str) or value is None:
            continue
        if known is not None:
            yield from _of_json(value, known, f"{prefix}{name}")
            continue
        for member in value if isinstance(value, list) else (value,):
            if isinstance(member, BaseModel):
                yield from _of_model(member, f"{prefix}{name}.")


def _of_json(value: Any, known: KnownFields | ByType, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for member in value:
            yield from _of_json(member, known, path)
        return
    fields = known.of(value) if isinstance(value, dict) else None
    if fields is None:
        return
    for name, member in value.items():
        if (inner := fields.nested.get(name)) is not None:
            if not isinstance(member, str):
                yield from _of_json(member, inner, f"{path}.{name}")
        elif name not in fields.names and _is_set(member) and member != fields.unset.get(name):
            yield f"{path}.{name}"


def _is_set(value: Any) -> bool:
    return value is not None and value != [] and value != {}
