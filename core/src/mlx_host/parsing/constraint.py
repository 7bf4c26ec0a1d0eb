"""What a chat request asks of its answer, made of the tools, the form wanted and the parsers that will read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Constraint, FreeText, Grammar
from mlx_host.parsing.parser import Parser, ToolChoice
from mlx_host.requests import Json

ANY_CALL = ToolChoice()


@dataclass(frozen=True)
class AnswerConstraint(Constraint):
    """An answer as the families `reasoning` and `calls` read it: calls to `tools`, content of the `form`.

    Without `tools` no call may be made. Tools that are not strict are held to their schema only if a call is required.
    `thinks` False is for models that do not think, whatever their family may do: where little else is allowed, they
    would begin to, and never end.
    """

    reasoning: type[Parser] | None
    calls: type[Parser] | None
    tools: Sequence[Json] = ()
    choice: ToolChoice = ANY_CALL
    form: Grammar | None = None
    thinks: bool = True

    def grammar(self, generation_prompt: str) -> Grammar:
        tools = [tool if self.choice.required or _strict(tool) else _relaxed(tool) for tool in self._callable()]
        thinker = None
        if self.reasoning is not None:
            thinker = self.reasoning(generation_prompt=generation_prompt, tools=tools, reasoning=self.thinks)
        if self.calls is None or not tools:
            return self.form or FreeText() if thinker is None else thinker.constrained(None, self.form, self.choice)
        if thinker is not None and self.calls is self.reasoning:
            return thinker.constrained(thinker.grammar(tools, self.choice), self.form, self.choice)
        caller = self.calls(generation_prompt="" if thinker else generation_prompt, tools=tools, reasoning=False)
        body = caller.constrained(caller.grammar(tools, self.choice), self.form, self.choice)
        return body if thinker is None else thinker.constrained(None, body, self.choice)

    def _callable(self) -> list[Json]:
        name = self.choice.name
        return [tool for tool in self.tools if name is None or tool["function"]["name"] == name]


def _strict(tool: Json) -> bool:
    return tool["function"].get("strict") is True


def _relaxed(tool: Json) -> Json:
    return {**tool, "function": {**tool["function"], "parameters": {"type": "object"}}}
