"""Finds out a chat template's dialect by rendering dummy calls in the shapes that templates differ over."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlx_host.requests import Json

from mlx_host_lm.messages import REASONING_KEYS, SHORT_ID_LENGTH, Dialect

Render = Callable[[Sequence[Json], Sequence[Json]], str | None]
"""Messages and tools to text; None if the template refuses them."""

KEY = "probekey"
VALUES = ("probevalueone", "probevaluetwo")
NAME = "probetool"
THINKING = "probethinking"
PARAMETERS = {"type": "object", "properties": {KEY: {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": NAME, "description": NAME, "parameters": PARAMETERS}}]


def probe(render: Render) -> Dialect:
    """The dialect of the template behind `render`; the default one as far as the template renders no calls."""
    dialect = Dialect()
    if _render(render, dialect) is None and _render(render, dialect, arguments="string") is None:
        dialect = replace(dialect, long_ids=False)
    as_mapping, as_string = _render(render, dialect), _render(render, dialect, arguments="string")
    if as_mapping is None and as_string is None:
        return Dialect()
    # A mapping that is joined to text shows as Python writes it, which no model was trained on.
    if as_string is not None and (as_mapping is None or f"{{'{KEY}'" in as_mapping):
        dialect = replace(dialect, arguments="string")
    both = _render(render, dialect, calls=2)
    if both is None or (VALUES[0] in both and VALUES[1] not in both):
        dialect = replace(dialect, parallel_calls=False)
    for key in REASONING_KEYS:
        shown = _render(render, dialect, extra={key: THINKING})
        if shown is not None and THINKING in shown:
            beside = _render(render, dialect, extra={key: THINKING, "content": "probecontent"})
            return replace(dialect, reasoning_key=key, content_beside_thinking=beside is not None)
    return dialect


def _render(
    render: Render, dialect: Dialect, *, arguments: str = "", calls: int = 1, extra: Mapping[str, str] | None = None
) -> str | None:
    """Render a question, a message with calls, and their results."""
    shape = arguments or dialect.arguments
    made = [_call(value, shape, dialect.long_ids) for value in VALUES[:calls]]
    results = [{"role": "tool", "tool_call_id": call["id"], "name": NAME, "content": "proberesult"} for call in made]
    message = {"role": "assistant", "content": "", "tool_calls": made, **(extra or {})}
    return render([{"role": "user", "content": "probequestion"}, message, *results], TOOLS)


def _call(value: str, shape: str, long_id: bool) -> dict[str, Any]:
    arguments = {KEY: value}
    return {
        "type": "function",
        "id": f"call_{value}" if long_id else value[-SHORT_ID_LENGTH:],
        "function": {"name": NAME, "arguments": json.dumps(arguments) if shape == "string" else arguments},
    }
