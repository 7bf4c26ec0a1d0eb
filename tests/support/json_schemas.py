"""Schemas with short values, which even a random model completes, as JSON Schema and as pydantic models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, Field

CITIES = ["Oslo", "Rome"]
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": CITIES},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
CLOCK_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC", "CET"]}},
    "required": ["zone"],
    "additionalProperties": False,
}


class Place(BaseModel):
    """A place."""

    name: str = Field(max_length=6)
    size: Literal["small", "large"]


class Trip(BaseModel):
    """A trip to one or two places."""

    days: int = Field(ge=1, le=9)
    places: list[Place] = Field(min_length=1, max_length=2)
    note: str | None = Field(None, max_length=6)


class Zone(BaseModel):
    """A model without limits, which some client libraries, such as Anthropic's, remove from schemas."""

    zone: Literal["UTC", "CET"]
    summer: bool


def tool(name: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A tool in OpenAI's format."""
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


WEATHER = tool("get_weather", WEATHER_SCHEMA)
CLOCK = tool("get_time", CLOCK_SCHEMA)


def reference_chain(count: int, schema: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A schema that reaches null through `count` references."""
    inner = {f"d{n}": schema({"$ref": f"#/$defs/d{n + 1}"}) for n in range(count)}
    return {"$defs": {**inner, f"d{count}": {"type": "null"}}, "$ref": "#/$defs/d0"}
