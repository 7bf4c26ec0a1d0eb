"""Who reads a model's text: the parsers that were asked for, or those that its chat template calls for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlx_host.parsing import Parser, Part
from mlx_host.parsing.detect import detect

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParserSelection:
    """One parser for both, one for each, or none; `auto_tools` says whether tool_choice auto offers the tools."""

    reasoning: type[Parser] | None = None
    tools: type[Parser] | None = None
    auto_tools: bool = True


NO_PARSERS = ParserSelection()


class Auto(Parser):
    """Stands for the family that the model's chat template calls for; it never reads anything itself."""

    name = "auto"
    description = "whatever the chat template calls for"

    def feed(self, text: str) -> list[Part]:
        raise TypeError("a family is chosen before the first request")

    def finish(self) -> list[Part]:
        raise TypeError("a family is chosen before the first request")


def settle(
    parsers: ParserSelection, template: str | None, families: Iterable[type[Parser]], model: str
) -> ParserSelection:
    """Put the family that `template` calls for in the place of Auto, and log which and why; none if none fits."""
    if Auto not in (parsers.reasoning, parsers.tools):
        return parsers
    found = detect(template or "", families)
    if found is None:
        log.warning(
            "model %s: --parser auto finds no family that its chat template speaks of; text comes back as it is", model
        )
    else:
        log.info("model %s: --parser auto chose %s", model, found)
    chosen = None if found is None else found.parser
    reasoning, tools = (chosen if each is Auto else each for each in (parsers.reasoning, parsers.tools))
    return replace(parsers, reasoning=reasoning, tools=tools)
