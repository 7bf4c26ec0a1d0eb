"""Output formats: `response_format`, `text.format` and vLLM's `structured_outputs`, converted to grammars.

Sources: the OpenAI SDK's `types/shared_params/response_format_*.py` and
`types/responses/response_format_text_config_param.py`; vLLM's `StructuredOutputsParams`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlx_host.api.json_io import loads
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar, JsonValue, LarkGrammar, Pattern

Schema = dict[str, Any]

ANY_OBJECT: Schema = {"type": "object"}
STRUCTURED = "structured_outputs"
KINDS = ("json", "regex", "choice", "grammar", "json_object")
# Fields that vLLM has removed, and the field of `structured_outputs` that replaces each.
REMOVED_FIELDS = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_whitespace_pattern": None,
    "structural_tag": None,
}


class NamedSchema(BaseModel):
    """A schema with the name that OpenAI requires; the name has no effect, and schemas are always strict."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    json_schema: Schema = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """`response_format` of chat completions and completions."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    # llama.cpp, Together and LM Studio document the schema at the top level, also with the type json_object.
    flat_schema: Schema | None = Field(None, alias="schema")

    def output_format(self) -> Grammar | None:
        """Return the grammar of the content; None if it is unconstrained."""
        if self.json_schema is None:
            if self.type == "json_schema" and self.flat_schema is None:
                raise _missing("response_format.json_schema", "an object with a name and a schema")
            return schema_output_format(self.type, self.flat_schema, "response_format", "schema")
        if self.flat_schema is not None:
            raise InvalidRequestError(
                "response_format.schema and response_format.json_schema cannot both be set.",
                param="response_format.schema",
            )
        return schema_output_format(self.type, self.json_schema.json_schema, "response_format", "json_schema.schema")


class TextFormat(BaseModel):
    """`text.format` of the Responses API, which has the name and the schema at its top level."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(None, min_length=1)
    json_schema: Schema | None = Field(None, alias="schema")
    strict: bool | None = None

    def output_format(self) -> Grammar | None:
        """Return the grammar of the content; None if it is unconstrained."""
        if self.type == "json_schema" and self.name is None:
            raise _missing("text.format.name", "a string")
        return schema_output_format(self.type, self.json_schema, "text.format", "schema")


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: exactly one of its five formats, and options."""

    model_config = ConfigDict(extra="allow")

    json_schema: Schema | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1)
    grammar: str | None = None
    json_object: bool | None = None

    # Fields that are rejected: they would change the output and are not supported.
    structural_tag: Any = None
    whitespace_pattern: str | None = None
    disable_additional_properties: bool | None = None

    def output_format(self) -> Grammar:
        """Return the grammar of the content; InvalidRequestError unless exactly one format is given."""
        for name, hint in (
            ("structural_tag", "; use tools or another format"),
            ("whitespace_pattern", ": JSON has at most one space, after a comma or a colon"),
            ("disable_additional_properties", "; set additionalProperties: false in the schema"),
        ):
            if getattr(self, name):
                raise InvalidRequestError(
                    f"{STRUCTURED}.{name} is not supported by this server{hint}.", param=f"{STRUCTURED}.{name}"
                )
        given = {
            "json": None if self.json_schema is None else JsonValue(self._schema(), f"{STRUCTURED}.json"),
            "regex": None if self.regex is None else Pattern(self.regex, f"{STRUCTURED}.regex"),
            "choice": None if self.choice is None else Pattern(self._choice_regex(), f"{STRUCTURED}.choice"),
            "grammar": None if self.grammar is None else LarkGrammar(self.grammar, f"{STRUCTURED}.grammar"),
            "json_object": JsonValue(ANY_OBJECT, f"{STRUCTURED}.json_object") if self.json_object else None,
        }
        formats = {name: grammar for name, grammar in given.items() if grammar is not None}
        if len(formats) != 1:
            got = " and ".join(formats) or "none"
            raise InvalidRequestError(
                f"{STRUCTURED} must have exactly one of {', '.join(KINDS)}; got {got}.", param=STRUCTURED
            )
        (grammar,) = formats.values()
        return grammar

    def _choice_regex(self) -> str:
        # A regex, because the strings of special tokens in a list of literals would match the tokens.
        return "|".join(map(re.escape, self.choice or ()))

    def _schema(self) -> Schema:
        if not isinstance(self.json_schema, str):
            return self.json_schema or {}
        where = f"{STRUCTURED}.json"
        try:
            schema = loads(self.json_schema.encode(), where)
        except InvalidRequestError as error:
            error.param = where
            raise
        if not isinstance(schema, dict):
            raise InvalidRequestError(f"{where} must be a JSON schema, which is an object.", param=where)
        return schema


def schema_output_format(kind: str, schema: Schema | None, field: str, path: str) -> Grammar | None:
    """Return the grammar for a format of type text, json_object or json_schema; None for text.

    The schema of a json_object is optional. A schema without a type allows only objects there.
    `field` is the name of the request field, and `path` that of the schema within it, for error messages.
    """
    match kind:
        case "text":
            return None
        case "json_object":
            return JsonValue(ANY_OBJECT, field) if schema is None else JsonValue(_object(schema), f"{field}.{path}")
        case _:
            if schema is None:
                raise _missing(f"{field}.{path}", "a JSON schema")
            return JsonValue(schema, f"{field}.{path}")


def _object(schema: Schema) -> Schema:
    return schema if schema.keys() & {"type", "$ref"} else {**schema, **ANY_OBJECT}


def reject_removed_fields(fields: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for a field that vLLM has removed; the message names its replacement."""
    for name, replacement in REMOVED_FIELDS.items():
        if fields.get(name) is not None:
            hint = f"; use {STRUCTURED}: {{{replacement!r}: ...}}" if replacement else ""
            raise InvalidRequestError(f"{name} is not supported by this server{hint}.", param=name)


def _missing(where: str, expected: str) -> InvalidRequestError:
    return InvalidRequestError(f"{where} is missing; it must be {expected}.", param=where)
