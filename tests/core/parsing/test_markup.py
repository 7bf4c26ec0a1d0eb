"""The rules of MarkupParser that all families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from mlx_host.errors import UnsupportedRequestError
from mlx_host.parsing import (
    CallReader,
    Content,
    FunctionXml,
    JsonArrayCalls,
    JsonCall,
    MarkupParser,
    Part,
    ReadOnlyCalls,
    Reasoning,
    TaggedCalls,
    ToolCall,
    ToolChoice,
)
from mlx_host.requests import Json
from mlx_host.testing.grammar_matcher import admits
from mlx_host.testing.parser_contract import joined
from mlx_host.testing.samples import standard_samples

from tests.core.parsing.example_parsers import TOOL, TOOLS, Kimi, Minimax, Mistral, Tagged

CALL = '<call>{"name": "f", "arguments": {"s": "x"}}</call>'
OPEN = "<think>\n"


def read(
    family: type[MarkupParser], text: str, generation_prompt: str = "", tools: Sequence[Json] = TOOLS
) -> list[Part]:
    parser = family(generation_prompt=generation_prompt, tools=tools)
    return parser.feed(text) + parser.finish()


def shown(parts: Sequence[Part]) -> str:
    """Render content verbatim, reasoning in parentheses and calls in brackets, without markers."""
    written = ""
    for part in joined(parts):
        if isinstance(part, ToolCall):
            written += f"[{part.name}]"
        elif isinstance(part, Reasoning):
            written += f"({part.text})"
        elif isinstance(part, Content):
            written += part.text
    return written


@pytest.mark.parametrize(
    ("text", "generation_prompt", "expected"),
    [
        ("\n  C \n", "", "\n  C \n"),
        ("<think>\n R\n r \n</think>\n\nC\n", "", "(R\n r)C\n"),
        ("R</think>C", "", "RC"),
        ("R</think>C", OPEN, "(R)C"),
        ("\n<think>R</think>C", OPEN, "(R)C"),
        ("R <think> r</think>C", OPEN, "(R <think> r)C"),
        (" C", "<think>\n\n</think>\n\n", " C"),
        ("C<think>R</think>c", "", "C(R)c"),
        ("C `<think>` c", "", "C `<think>` c"),
        ("C '</think>' c", "", "C '</think>' c"),
        ("R '</think>C", OPEN, "(R ')C"),
        ('<think>R</think>\n"<think>" C', "", '(R)"<think>" C'),
        ("C</thi", "", "C</thi"),
        ("R</thi", OPEN, "(R</thi)"),
        (f"\n{CALL}\n\n{CALL}\n", "", "[f][f]"),
        (f"<think>R</think>\n\n{CALL}", "", "(R)[f]"),
        (f"C\n{CALL}\nc\n", "", "C\n[f]\nc\n"),
    ],
)
def test_kind_of_text_and_whitespace(text: str, generation_prompt: str, expected: str) -> None:
    assert shown(read(Tagged, text, generation_prompt)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"R\n{CALL}", "(R)[f]", id="complete, never closed"),
        pytest.param(f"R\n{CALL}\nC {CALL}", "(R)[f]\nC [f]", id="what follows is content"),
        pytest.param(f"R {CALL} r</think>C", f"(R {CALL} r)C", id="closed later"),
        pytest.param(f"R {CALL}</think>{CALL}", f"(R {CALL})[f]", id="drafted, then made"),
        pytest.param(f"R {CALL} <think>r</think>C", f"(R {CALL} <think>r)C", id="reopened and closed"),
        pytest.param("R <call> r</think>C", "(R <call> r)C", id="only mentioned"),
        pytest.param("R <call>{oops} r", "(R <call>{oops} r)", id="no call, never closed"),
        pytest.param('R <call>{"name": "f</think>C', '(R <call>{"name": "f)C', id="closer in a call cut off"),
        pytest.param(
            f'R {CALL}<call>{{"name": "</think>C\n', f'(R {CALL}<call>{{"name": ")C\n', id="closer in a bad call after"
        ),
        pytest.param('R<call>{"name": "f", "arguments": {"s": "</think>"}}', "(R)[f]", id="closer in a string"),
        pytest.param('R<call>{"x": "</think>"}</call>C', '(R<call>{"x": ")"}</call>C', id="closer in a malformed call"),
        pytest.param(f'R<call>{{"x": "</think>{CALL}', '(R<call>{"x": ")[f]', id="call after such a closer"),
    ],
)
def test_calls_inside_reasoning(text: str, expected: str) -> None:
    assert shown(read(Tagged, text, OPEN)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<call>{}</call>", "<call>{}</call>"),
        ('<call>{"name": 1}</call>', '<call>{"name": 1}</call>'),
        ('<call>{"name": "f", "arguments": [1]}</call>', '<call>{"name": "f", "arguments": [1]}</call>'),
        (f"<call>{{oops{CALL}", "<call>{oops[f]"),
        (f"<call>{CALL}", "<call>[f]"),
        (f'<call>{{"name": "f\n</call>{CALL}', '<call>{"name": "f\n</call>[f]'),
        (CALL[:-8], CALL[:-8]),
        (CALL[:-7], "[f]"),
        (CALL[:-3], "[f]"),
        (CALL.replace("}}", "}}}"), "[f]"),
        (f"{CALL[:-7]}{CALL}", "[f][f]"),
        ('<calls>[{"name": "f"}, {"name": "g"', '[f] {"name": "g"'),
        ('<calls>[{"name": "f"}, {"x": 1}, {"name": "g"}]</calls>', '[f] {"x": 1},[g]'),
        ("<function=f><parameter=s>a</function>", "[f]"),
        ("<function=f><parameter=s>a", "<function=f><parameter=s>a"),
    ],
)
def test_malformed_or_truncated_calls_are_text(text: str, expected: str) -> None:
    assert shown(read(Tagged, text)) == expected


def test_content_and_reasoning_are_streamed() -> None:
    parser = Tagged(tools=TOOLS)
    assert parser.feed("Hello <ca") == [Content("Hello ")]
    assert parser.feed("t>") == [Content("<cat>")]
    assert parser.feed("<think>Hm") != []
    assert parser.feed(" well") == [Reasoning(" well")]
    assert parser.feed("</think>Yes") != []
    assert [type(part) for part in parser.feed(CALL + "!")] == [ToolCall, Content]


def test_call_ids_are_parsed() -> None:
    kimi = read(Kimi, Kimi.samples[0].text)
    array = read(Mistral, Mistral.samples[1].text)
    assert [part.id for part in kimi if isinstance(part, ToolCall)] == ["functions.f:3", "functions.g-h:4"]
    assert [part.id for part in array if isinstance(part, ToolCall)] == ["123456789", None]


def test_truncated_block_keeps_complete_calls() -> None:
    text = Minimax.samples[0].text
    cut = text[: text.index('g"')]
    assert shown(read(Minimax, cut)) == '[f]\n<invoke name="'


def test_arguments_are_unchanged_json() -> None:
    written = '{"n": 12345678901234567890.10, "s": "\\ud83d\\u00e9"}'
    [call] = read(Tagged, f'<call>{{"name": "f", "arguments": {written}}}</call>')
    assert isinstance(call, ToolCall)
    assert call.arguments == written


class Declared(MarkupParser):
    name = "declared"
    description = "calls in tags and in an older block"
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|end|>",)
    calls: ClassVar[tuple[CallReader, ...]] = (
        TaggedCalls("<call>", FunctionXml(), "</call>", bare_starts=("<function=",)),
        ReadOnlyCalls(JsonArrayCalls("<old>", "</old>")),
    )


def test_class_attributes_are_derived_from_calls() -> None:
    assert Declared.call_starts == ("<call>", "<function=", "<old>")
    assert set(Declared.markers) == {*Declared.call_starts, "</call>", "</old>", "<think>", "</think>", "<|end|>"}
    assert Declared.signatures == (*Declared.call_starts, "<think>", "</think>")
    assert Declared.template_signatures == (("<call>",),)


def test_read_only_format_is_not_written_or_forced() -> None:
    assert shown(read(Declared, '<old>[{"name": "f"}]</old>')) == "[f]"
    assert Declared.write_calls([("f", {})]) == ["<call><function=f>\n</function></call>"]
    grammar = Declared().grammar([TOOL], ToolChoice(required=True))
    assert admits(grammar, "<call><function=f>\n</function></call>")
    assert not admits(grammar, '<old>[{"name": "f", "arguments": {}}]</old>')

    class OnlyReads(Declared):
        calls = (ReadOnlyCalls(JsonArrayCalls("<old>", "</old>")),)

    assert Declared.can_force_calls()
    assert not OnlyReads.can_force_calls()
    with pytest.raises(UnsupportedRequestError, match=repr(OnlyReads.name)):
        OnlyReads().grammar([TOOL], ToolChoice(required=True))


def test_first_format_wins_for_a_shared_call_start() -> None:
    class Two(Declared):
        calls = (TaggedCalls("<call>", JsonCall(), "</call>"), TaggedCalls("<call>", FunctionXml(), "</call>"))

    assert shown(read(Two, CALL)) == "[f]"
    assert shown(read(Two, "<call><function=f></function></call>")) == "<call><function=f></function></call>"
    assert len(Two.write_calls([("f", {})])) == 2


def test_unknown_standard_sample_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="text round calls"):
        standard_samples(Declared, leave_out={"text round calls"})


FRAGMENTS = 2000


@pytest.mark.parametrize(
    "unit",
    ["word ", "    ", "<", "<cal", "<call>", '<call>{"', "</think><think><function=f><parameter=s>"],
)
@pytest.mark.parametrize("generation_prompt", ["", OPEN])
@pytest.mark.parametrize("start", ["", "<function=f><parameter=s>", '<call>{"name": "', '<call>{"name": "f"}'])
def test_parsing_cost_is_linear(unit: str, generation_prompt: str, start: str) -> None:
    """The text that each chunk scans again does not grow with the length of the output."""
    parser = Tagged(generation_prompt=generation_prompt, tools=TOOLS)
    scanner = parser._scanner
    looked_at = 0
    text = start + unit * (4 * FRAGMENTS // len(unit))
    for at in range(0, len(text), 4):
        looked_at += len(scanner.text) - scanner.pos
        parser.feed(text[at : at + 4])
    parser.finish()
    assert looked_at < 8 * len(text)
