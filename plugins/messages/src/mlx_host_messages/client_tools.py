"""The tools that Anthropic defines and clients run: their descriptions and the inputs that clients execute.

Their types end with a version: `bash_20250124`. Source: Anthropic's documentation of each tool, and the commands in
`types/beta/beta_memory_tool_20250818_*_command.py` and `lib/tools` of the Anthropic SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

CLIENT_TOOL = re.compile(r"(bash|text_editor|computer|memory)_(\d{8})")
Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
COORDINATE: Schema = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
VIEW_RANGE: Schema = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "First and last line to show, counted from 1; -1 is the last line of the file. For view.",
}


def is_client_tool(tool: Mapping[str, Any]) -> bool:
    """Return whether Anthropic defines the tool and clients run it."""
    return isinstance(tool.get("type"), str) and CLIENT_TOOL.fullmatch(tool["type"]) is not None


def is_hosted(tool: Mapping[str, Any]) -> bool:
    """Return whether a tool is neither a client tool nor described by an input_schema, so that a server must run it."""
    kind = tool.get("type")
    is_described = kind == "custom" or isinstance(tool.get("input_schema"), dict)
    return isinstance(kind, str) and not is_described and not is_client_tool(tool)


def client_tool(tool: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return OpenAI's tool for a client tool; None for any other tool."""
    if not is_client_tool(tool):
        return None
    family, version = tool["type"].rsplit("_", 1)
    default_name, description, schema = TOOLS[family](tool, version)
    name = tool["name"] if isinstance(tool.get("name"), str) and tool["name"] else default_name
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _object(properties: Schema, required: Sequence[str] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _bash(tool: Mapping[str, Any], version: str) -> tuple[str, str, Schema]:
    properties = {
        "command": _described(STRING, "The command to run. Required unless the shell is restarted."),
        "restart": {"type": "boolean", "description": "Whether to restart the shell."},
    }
    return "bash", "Run commands in a persistent bash shell.", _object(properties)


def _text_editor(tool: Mapping[str, Any], version: str) -> tuple[str, str, Schema]:
    # Until 2025-04 the tool could undo edits, and inserted the text of new_str.
    is_old = version < "20250429"
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if is_old else [])]
    inserted = {} if is_old else {"insert_text": _described(STRING, "The text to insert. For insert.")}
    new_str = "The new text. For str_replace" + (" and insert." if is_old else ".")
    properties = {
        "command": {"type": "string", "enum": commands},
        "path": _described(STRING, "The absolute path of the file or folder."),
        "file_text": _described(STRING, "The content of the new file. For create."),
        "old_str": _described(STRING, "The text to replace; it must occur exactly once. For str_replace."),
        "new_str": _described(STRING, new_str),
        "insert_line": {
            "type": "integer",
            "description": "The line after which to insert; 0 is the start. For insert.",
        },
        **inserted,
        "view_range": VIEW_RANGE,
    }
    name = "str_replace_editor" if is_old else "str_replace_based_edit_tool"
    return name, "View, create and edit text files.", _object(properties, ["command", "path"])


def _computer(tool: Mapping[str, Any], version: str) -> tuple[str, str, Schema]:
    actions = ["key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click"]
    actions += ["double_click", "screenshot", "cursor_position"]
    more: Schema = {}
    if version >= "20250124":
        actions += ["left_mouse_down", "left_mouse_up", "scroll", "hold_key", "wait", "triple_click"]
        more = {
            "start_coordinate": _described(COORDINATE, "Where the drag starts, as x and y. For left_click_drag."),
            "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
            "scroll_amount": {"type": "integer", "description": "The number of clicks of the wheel. For scroll."},
            "duration": {"type": "number", "description": "Seconds. For hold_key and wait."},
        }
    if tool.get("enable_zoom") is True:
        actions.append("zoom")
        region = {**COORDINATE, "minItems": 4, "maxItems": 4}
        more["region"] = _described(region, "The part of the screen to show, as x0, y0, x1 and y1. For zoom.")
    properties = {
        "action": {"type": "string", "enum": actions},
        "coordinate": _described(COORDINATE, "Pixels from the left and from the top, as x and y."),
        "text": _described(STRING, "The text to type, or the keys to press, such as ctrl+s."),
        **more,
    }
    width, height = tool.get("display_width_px"), tool.get("display_height_px")
    size = f" The screen has {width} x {height} pixels." if width and height else ""
    return "computer", f"Use the mouse and the keyboard, and take screenshots.{size}", _object(properties, ["action"])


def _memory(tool: Mapping[str, Any], version: str) -> tuple[str, str, Schema]:
    properties = {
        "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
        "path": _described(STRING, "The path of a file or folder below /memories. For all commands but rename."),
        "view_range": VIEW_RANGE,
        "file_text": _described(STRING, "The content of the new file. For create."),
        "old_str": _described(STRING, "The text to replace. For str_replace."),
        "new_str": _described(STRING, "The new text. For str_replace."),
        "insert_line": {"type": "integer", "description": "The line at which to insert. For insert."},
        "insert_text": _described(STRING, "The text to insert. For insert."),
        "old_path": _described(STRING, "The current path. For rename."),
        "new_path": _described(STRING, "The new path. For rename."),
    }
    description = "Store files below /memories that last beyond this conversation. View /memories before a task."
    return "memory", description, _object(properties, ["command"])


TOOLS: Mapping[str, Callable[[Mapping[str, Any], str], tuple[str, str, Schema]]] = {
    "bash": _bash,
    "text_editor": _text_editor,
    "computer": _computer,
    "memory": _memory,
}
