"""The contract catches parsers that are wrong."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, Sample, ToolCall
from mlx_host.testing import ParserContract, parser_contract

from tests.core.parsing.shapes import TOOLS, Tagged


class LosesText(Tagged):
    def feed(self, text: str) -> list[Part]:
        return [Content(part.text.strip()) if isinstance(part, Content) else part for part in super().feed(text)]


class ShowsCuts(Tagged):
    """Looks for a closer in each piece by itself."""

    def feed(self, text: str) -> list[Part]:
        return super().feed(text) + self.finish()


class Refused(Exception):
    pass


class Raises(Tagged):
    def feed(self, text: str) -> list[Part]:
        if "<call>" in text and "</think>" in text:
            raise Refused(text)
        return super().feed(text)


class InventsCalls(Tagged):
    """Closes what the model left open."""

    def finish(self) -> list[Part]:
        parts = super().finish()
        return [
            ToolCall("f", "{}", part.text) if isinstance(part, Content) and "<call>" in part.text else part
            for part in parts
        ]


class WritesNoObject(Tagged):
    def feed(self, text: str) -> list[Part]:
        parts = super().feed(text)
        return [ToolCall(part.name, "[]", part.source) if isinstance(part, ToolCall) else part for part in parts]


class HidesText(Tagged):
    """Takes reasoning out as if it were syntax."""

    def feed(self, text: str) -> list[Part]:
        return [Marker(part.source) if isinstance(part, Reasoning) else part for part in super().feed(text)]


class CallsWithoutTools(Tagged):
    def __init__(self, **primed: object) -> None:
        super().__init__(prompt_tail=str(primed["prompt_tail"]), tools=TOOLS, reasoning=bool(primed["reasoning"]))


class ReasonsAlways(Tagged):
    def __init__(self, **primed: object) -> None:
        super().__init__(prompt_tail=str(primed["prompt_tail"]), tools=TOOLS if primed["tools"] else ())


class ShowsNothing(Tagged):
    samples = (Sample("text", "text", "text"),)


@pytest.fixture(autouse=True)
def first_failure_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a failing text shorter, for somebody to read, takes most of the time."""
    unshortened = settings(parser_contract._SETTINGS, phases=[Phase.generate])
    monkeypatch.setattr(parser_contract, "_SETTINGS", unshortened)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (LosesText, "test_both_laws_hold_for_any_text"),
        (ShowsCuts, "test_a_cut_anywhere_does_not_show"),
        (ShowsCuts, "test_both_laws_hold_for_damaged_samples"),
        (Raises, "test_both_laws_hold_for_any_text"),
        (InventsCalls, "test_an_answer_that_is_cut_off_invents_no_call"),
        (WritesNoObject, "test_samples_mean_what_they_say"),
        (HidesText, "test_samples_mean_what_they_say"),
        (HidesText, "test_both_laws_hold_for_any_text"),
        (CallsWithoutTools, "test_without_tools_calls_are_text"),
        (ReasonsAlways, "test_reasoning_switched_off_stays_in_the_content"),
        (ShowsNothing, "test_samples_show_what_the_family_can_do"),
    ],
)
def test_a_wrong_parser_fails(broken: type[Parser], test: str) -> None:
    class Contract(ParserContract):
        parser = broken

    with pytest.raises((AssertionError, Refused)):
        getattr(Contract(), test)()
