"""The forms of answer that clients may ask for, in each dialect's words, and the grammars that they are.

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
# Where vLLM had its forms before they were put together, and what is written instead.
FORMER = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_whitespace_pattern": None,
    "structural_tag": None,
}


class Named(BaseModel):
    """A schema with the name that OpenAI requires; the name changes nothing here."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    json_schema: Schema = Field(alias="schema")


class ResponseFormat(BaseModel):
    """`response_format` of chat completions and completions."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Named | None = None

    def form(self) -> Grammar | None:
        """What the content is to be; None if it is left open."""
        if self.type == "json_schema" and self.json_schema is None:
            raise _missing("response_format.json_schema", "an object with a name and a schema")
        schema = self.json_schema.json_schema if self.json_schema is not None else None
        return schema_form(self.type, schema, "response_format", "json_schema.schema")


class TextFormat(BaseModel):
    """`text.format` of responses, where name and schema lie flat."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(None, min_length=1)
    json_schema: Schema | None = Field(None, alias="schema")

    def form(self) -> Grammar | None:
        """What the content is to be; None if it is left open."""
        if self.type == "json_schema" and self.name is None:
            raise _missing("text.format.name", "a string")
        return schema_form(self.type, self.json_schema, "text.format", "schema")


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: one form of these, and how it is written."""

    model_config = ConfigDict(extra="allow")

    json_schema: Schema | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1)
    grammar: str | None = None
    json_object: bool | None = None

    # What would change the answer if it were honoured, and is not.
    structural_tag: Any = None
    whitespace_pattern: str | None = None
    disable_additional_properties: bool | None = None

    def form(self) -> Grammar:
        """What the content is to be."""
        for name, instead in (
            ("structural_tag", "; tools or another form may do"),
            ("whitespace_pattern", ": JSON is written with a blank after a comma or a colon, or none"),
            ("disable_additional_properties", "; write additionalProperties: false into the schema"),
        ):
            if getattr(self, name):
                raise InvalidRequestError(
                    f"{STRUCTURED}.{name} is not supported by this server{instead}.", param=f"{STRUCTURED}.{name}"
                )
        given = {
            "json": None if self.json_schema is None else JsonValue(self._schema(), f"{STRUCTURED}.json"),
            "regex": None if self.regex is None else Pattern(self.regex, f"{STRUCTURED}.regex"),
            "choice": None if self.choice is None else Pattern(self._any_choice(), f"{STRUCTURED}.choice"),
            "grammar": None if self.grammar is None else LarkGrammar(self.grammar, f"{STRUCTURED}.grammar"),
            "json_object": JsonValue(ANY_OBJECT, f"{STRUCTURED}.json_object") if self.json_object else None,
        }
        forms = {name: form for name, form in given.items() if form is not None}
        if len(forms) != 1:
            got = " and ".join(forms) or "none"
            raise InvalidRequestError(
                f"{STRUCTURED} takes exactly one of {', '.join(KINDS)}; got {got}.", param=STRUCTURED
            )
        (form,) = forms.values()
        return form

    def _any_choice(self) -> str:
        # Written as texts, those of special tokens would become the tokens.
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
            raise InvalidRequestError(f"{where} must be a schema, an object.", param=where)
        return schema

    def ignored(self) -> list[str]:
        """Name what was given, is not null, and changes nothing here."""
        return [f"{STRUCTURED}.{name}" for name, value in (self.model_extra or {}).items() if value is not None]


def schema_form(kind: str, schema: Schema | None, field: str, place: str) -> Grammar | None:
    """The form of type text, json_object or json_schema that `field` asks for; its schema has a place in there."""
    match kind:
        case "text":
            return None
        case "json_object":
            return JsonValue(ANY_OBJECT, field)
        case _:
            if schema is None:
                raise _missing(f"{field}.{place}", "a JSON schema")
            return JsonValue(schema, f"{field}.{place}")


def refuse_former(fields: Mapping[str, Any]) -> None:
    """Refuse, by the name that they have now, the fields that vLLM no longer takes."""
    for name, now in FORMER.items():
        if fields.get(name) is not None:
            instead = f"; write it as {STRUCTURED}: {{{now!r}: ...}}" if now else ""
            raise InvalidRequestError(f"{name} is not supported by this server{instead}.", param=name)


def _missing(where: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{where} is missing: {what}.", param=where)
