"""Selects the parsers of a model: those that its settings name, or the one that matches its chat template."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from mlx_host.parsing import Parser, Part
from mlx_host.parsing.detect import detect

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParserSelection:
    """The parsers for reasoning and for tool calls, which may be the same; None leaves the markup in the content.

    `auto_tools` is whether the model is offered the request's tools if tool_choice is auto. `repair_calls` is whether
    calls with damaged JSON are repaired. `stream_arguments` is whether the arguments of calls are streamed even if no
    grammar constrains them.
    """

    reasoning: type[Parser] | None = None
    tools: type[Parser] | None = None
    auto_tools: bool = True
    repair_calls: bool = True
    stream_arguments: bool = False

    @cached_property
    def writes_calls(self) -> bool:
        """Whether the parser of calls has a notation in which calls can be written."""
        return self.tools is not None and bool(self.tools.write_calls([("f", {})]))

    def names(self) -> dict[str, str]:
        """Return the names of the parsers by what they parse: "reasoning", "tools"."""
        selected = {"reasoning": self.reasoning, "tools": self.tools}
        return {part: parser.name for part, parser in selected.items() if parser is not None}


NO_PARSERS = ParserSelection()


class AutoParser(Parser):
    """A placeholder for the parser that matches the model's chat template; it is replaced when the model has loaded."""

    name = "auto"
    description = "the parser that matches the model's chat template"

    def feed(self, text: str) -> list[Part]:
        raise TypeError("AutoParser must be resolved before it is used")

    def finish(self) -> list[Part]:
        raise TypeError("AutoParser must be resolved before it is used")


def resolve_auto_parser(
    parsers: ParserSelection, template: str | None, available: Iterable[type[Parser]], model: str
) -> ParserSelection:
    """Replace AutoParser by the available parser that matches the chat template, or by None, and log the result."""
    if AutoParser not in (parsers.reasoning, parsers.tools):
        return parsers
    detected = detect(template or "", available)
    if detected is None:
        log.warning(
            "model %s: --parser auto found no parser for the chat template; the output is not parsed",
            model,
        )
    else:
        log.info("model %s: --parser auto selected %s", model, detected)
    resolved = None if detected is None else detected.parser
    return replace(
        parsers,
        reasoning=resolved if parsers.reasoning is AutoParser else parsers.reasoning,
        tools=resolved if parsers.tools is AutoParser else parsers.tools,
    )
