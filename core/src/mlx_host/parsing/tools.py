"""The tools of a request, as parsers need them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mlx_host.parsing.schema import Schema
from mlx_host.requests import Json

_PREFIX = "functions."


class Tools:
    """The functions of `tools`, which are in OpenAI's format, by the names that models write."""

    def __init__(self, tools: Sequence[Json] = ()) -> None:
        declared = [tool.get("function", tool) for tool in tools]
        self._functions: dict[str, Mapping[str, Any]] = {
            function["name"]: function
            for function in reversed(declared)
            if isinstance(function, Mapping) and isinstance(function.get("name"), str)
        }
        self._by_folded_name: dict[str, list[str]] = {}
        for name in self._functions:
            self._by_folded_name.setdefault(name.casefold(), []).append(name)

    def __contains__(self, name: str) -> bool:
        return self.resolve(name) in self._functions

    def names(self) -> list[str]:
        return list(self._functions)

    def resolve(self, name: str) -> str:
        """Return the tool's name if `name` differs from exactly one only in case or by the prefix `functions.`."""
        if name in self._functions:
            return name
        folded = name.casefold()
        bare = name[len(_PREFIX) :] if folded.startswith(_PREFIX) else name
        if bare in self._functions:
            return bare
        found = {tool for key in (folded, bare.casefold()) for tool in self._by_folded_name.get(key, ())}
        return found.pop() if len(found) == 1 else name

    def schema(self, function: str) -> Schema:
        """Return the JSON Schema of a function's parameters; it allows anything if the function is unknown."""
        parameters = self._parameters(function)
        return Schema(parameters, parameters)

    def parameters(self, function: str) -> frozenset[str] | None:
        """Return the names of a function's parameters; None if the function is unknown."""
        return self.schema(function).members() if function in self else None

    def accepts(self, function: str, arguments: str) -> bool:
        """Return whether a function is known and its schema allows `arguments`, the JSON text of an object."""
        if function not in self:
            return False
        import jsonschema_rs  # Only damaged calls need it.

        schema = self._parameters(function)
        if schema is not None and not isinstance(schema, dict | bool):
            return False
        try:
            validator = jsonschema_rs.validator_for({} if schema is None else schema, retriever=_reject_reference)
            return bool(validator.is_valid(json.loads(arguments)))
        except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError):
            # Arguments cannot be checked with an invalid schema.
            return False

    def _parameters(self, function: str) -> object:
        parameters = self._functions.get(self.resolve(function), {}).get("parameters")
        if not isinstance(parameters, dict):
            return parameters
        # Some clients send null for keywords without a value.
        return {key: value for key, value in parameters.items() if value is not None}


def _reject_reference(reference: str) -> NoReturn:
    raise ValueError(f"schemas are not downloaded: {reference}")
