"""Tools that the families' samples call: one of each kind of parameter that a schema can ask for."""

from __future__ import annotations

from typing import Any

from mlx_host.requests import Json


def _tool(name: str, properties: dict[str, Any], **more: Any) -> Json:
    parameters = {"type": "object", "properties": properties, **more}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS: tuple[Json, ...] = (
    _tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}, required=["city"]),
    _tool("now", {}),
    _tool("write_file", {"path": {"type": "string"}, "text": {"type": "string"}}),
    _tool(
        "set-light",
        {
            "level": {"type": ["integer", "null"]},
            "warmth": {"type": "number"},
            "on": {"type": "boolean"},
            "rooms": {"type": "array", "items": {"type": "string"}},
            "colour": {"$ref": "#/$defs/Colour"},
            "scene": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        **{"$defs": {"Colour": {"type": "object", "properties": {"red": {"type": "integer"}}}}},
    ),
)
"""Get the weather, tell the time, write a file, set a light."""

OSLO = ("get_weather", {"city": "Oslo"})
ROME = ("get_weather", {"city": "Rome", "days": 3})
LIGHT: tuple[str, dict[str, Any]] = (
    "set-light",
    {
        "level": None,
        "warmth": 0.5,
        "on": True,
        "rooms": ["hall", "7"],
        "colour": {"red": 9007199254740993},
        "scene": "none",
    },
)
"""A call with a value of every kind; the integer is more than a double can hold."""

SCRIPT = 'if a < b:\n    print("</think> <tool_call> \\n")\n'
"""The text of a file that looks like anything but a file."""
WRITE: tuple[str, dict[str, Any]] = ("write_file", {"path": "007", "text": SCRIPT})
