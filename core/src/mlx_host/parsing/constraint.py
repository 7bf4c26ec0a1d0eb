"""The constraint of a chat output, from its tools, its output format and the parsers of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Constraint, FreeText, Grammar
from mlx_host.parsing.parser import Parser, ToolChoice
from mlx_host.requests import Json

ANY_CALL = ToolChoice()


@dataclass(frozen=True)
class OutputConstraint(Constraint):
    """Allows calls to `tools` and content in the format `content`, in the markup of the two parsers.

    Without `tools`, no call is allowed. The arguments of tools that are not strict conform to their schema only if a
    call is required. `can_reason` must be False for a model that does not reason, even if others of its family do: a
    grammar that allows little but reasoning could make it reason without end.
    """

    reasoning_parser: type[Parser] | None
    call_parser: type[Parser] | None
    tools: Sequence[Json] = ()
    choice: ToolChoice = ANY_CALL
    content: Grammar | None = None
    can_reason: bool = True

    def grammar(self, generation_prompt: str) -> Grammar:
        tools = self._constrained_tools()
        reasoner = None
        if self.reasoning_parser is not None:
            reasoner = self.reasoning_parser(
                generation_prompt=generation_prompt, tools=tools, reasoning=self.can_reason
            )
        if self.call_parser is None or not tools:
            if reasoner is None:
                return self.content or FreeText()
            return reasoner.output_grammar(None, self.content, self.choice)
        if reasoner is not None and self.call_parser is self.reasoning_parser:
            return reasoner.output_grammar(reasoner.grammar(tools, self.choice), self.content, self.choice)
        caller = self.call_parser(generation_prompt="" if reasoner else generation_prompt, tools=tools, reasoning=False)
        body = caller.output_grammar(caller.grammar(tools, self.choice), self.content, self.choice)
        return body if reasoner is None else reasoner.output_grammar(None, body, self.choice)

    def _constrained_tools(self) -> list[Json]:
        """Return the tools that `choice` allows, without schemas that are not enforced."""
        name = self.choice.name
        allowed = [tool for tool in self.tools if name is None or tool["function"]["name"] == name]
        return [tool if self.choice.required or _is_strict(tool) else _without_schema(tool) for tool in allowed]


def _is_strict(tool: Json) -> bool:
    return tool["function"].get("strict") is True


def _without_schema(tool: Json) -> Json:
    return {**tool, "function": {**tool["function"], "parameters": {"type": "object"}}}
