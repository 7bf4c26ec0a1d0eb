"""Custom tools, which take free text: the model is offered a function with one string.

Source: the OpenAI SDK's `types/shared_params/custom_tool_input_format.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlx_host.errors import InvalidRequestError

Json = dict[str, Any]
# The parameter of the function.
INPUT = "input"


def custom_function(tool: Mapping[str, Any], where: str) -> Json:
    """Return a function with one string, which conforms to the tool's grammar if it has one."""
    description = tool.get("description")
    if not isinstance(description, str | None):
        raise InvalidRequestError(f"{where}.description must be a string.", param=f"{where}.description")
    format = tool.get("format") or {"type": "text"}
    schema: Json = {"type": "string"}
    texts = [description] if description else []
    strict: Json = {}
    match format:
        case {"type": "text"}:
            pass
        case {"type": "grammar", "syntax": "regex", "definition": str(definition)}:
            schema["pattern"] = f"^(?:{definition})$"
            texts.append(f"The input must match this regular expression:\n{definition}")
            strict = {"strict": True}
        case {"type": "grammar", "syntax": "lark", "definition": str(definition)}:
            # The text of the grammar cannot be embedded in that of a JSON string, so it only informs the model.
            texts.append(f"The input must conform to this Lark grammar:\n{definition}")
        case _:
            raise InvalidRequestError(
                f"{where}.format must be of type 'text', or of type 'grammar' with a syntax ('lark' or 'regex') and a "
                "definition.",
                param=f"{where}.format",
            )
    parameters = {"type": "object", "properties": {INPUT: schema}, "required": [INPUT], "additionalProperties": False}
    return {"description": "\n\n".join(texts), "parameters": parameters, **strict}


def custom_arguments(text: str) -> str:
    """Return the arguments of the function that stands for a custom tool."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


def custom_input(arguments: str) -> str:
    """Return the input of a custom tool from the arguments of its function; arguments of another form unchanged."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    given = value.get(INPUT) if isinstance(value, dict) else None
    return given if isinstance(given, str) else arguments
