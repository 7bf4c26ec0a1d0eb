import pytest
from mlx_host.parsing import Content, Marker, Part, Reasoning, ToolCall
from mlx_host_parser_harmony import HarmonyParser

from tests.parsers.feeding import parts_of, read

PROMPT = "<|start|>assistant"
OSLO = '{"city": "Oslo"}'


def without_markers(parts: list[Part]) -> list[Part]:
    return [part for part in parts if not isinstance(part, Marker)]


def test_nothing_is_emitted_before_the_header_is_complete() -> None:
    fed = read(HarmonyParser, ["<|channel|>", "ana", "lysis", "<|mess", "age|>", "Co", "ld?"], generation_prompt=PROMPT)
    assert [len(without_markers(parts)) for parts in fed] == [0, 0, 0, 0, 0, 1, 1, 0]
    assert without_markers(fed[5]) == [Reasoning("Co")]


def test_only_partial_markers_are_delayed() -> None:
    fed = read(HarmonyParser, ["<|channel|>final<|message|>a <", " b <|en", "|> c"])
    assert [without_markers(parts) for parts in fed] == [[Content("a ")], [Content("< b ")], [Content("<|en|> c")], []]


def test_text_without_header_is_streamed_as_content() -> None:
    assert read(HarmonyParser, ["It", " is"], generation_prompt=PROMPT)[0] == [Content("It")]


def test_call_is_emitted_when_its_arguments_are_complete() -> None:
    text = f" to=functions.get_weather<|channel|>commentary json<|message|>{OSLO}"
    fed = read(HarmonyParser, [text[:-1], text[-1], "<|call|>"])
    assert fed == [[], [ToolCall("get_weather", OSLO, text)], [Marker("<|call|>")], []]


def test_several_analysis_messages_are_joined() -> None:
    text = f"<|channel|>analysis<|message|>One. <|end|>{PROMPT}<|channel|>analysis<|message|>Two."
    assert without_markers(parts_of(HarmonyParser, text)) == [Reasoning("One. "), Reasoning("Two.")]


def test_disabled_reasoning_keeps_analysis_markers() -> None:
    analysis = "<|channel|>analysis<|message|>Cold?<|end|>"
    text = f"{analysis}{PROMPT}<|channel|>final<|message|>Yes.<|end|>"
    parts = parts_of(HarmonyParser, text, reasoning=False)
    assert "".join(part.source for part in without_markers(parts)) == f"{analysis}Yes."


@pytest.mark.parametrize(
    "header",
    [
        " to=functions.get_weather<|channel|>commentary <|constrain|>json",
        "<|channel|>commentary to=functions.get_weather <|constrain|>json",
        "<|channel|>analysis to=functions.get_weather code",
        "<|channel|>commentary to=get_weather<|constrain|>json",
        " to=functions.get_weather<|channel|>commentary to=functions.get_weather <|constrain|>json",
        "<|channel|>commentary to=assistant<|channel|>commentary to=functions.get_weather",
        "<|channel|>commentary hm to=functions.get_weather",
        "<|channel|>comment to=functions.get_weather<|constrain|>yaml",
        "<|start|><|channel|>final to=functions.get_weather",
    ],
)
def test_message_to_a_recipient_is_a_call(header: str) -> None:
    calls = [part for part in parts_of(HarmonyParser, f"{header}<|message|>{OSLO}") if isinstance(part, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", OSLO)]


@pytest.mark.parametrize("header", ["<|channel|>final <|constrain|>json", "<|channel|>commentary to=assistant", ""])
def test_without_a_recipient_json_is_content(header: str) -> None:
    assert without_markers(parts_of(HarmonyParser, f"{header}<|message|>{OSLO}")) == [Content(OSLO)]


def test_empty_message_at_the_end_is_a_call_only_without_parameters() -> None:
    header = " to=functions.{}<|channel|>commentary<|message|>"
    assert parts_of(HarmonyParser, header.format("now")) == [ToolCall("now", "{}", header.format("now"))]
    assert parts_of(HarmonyParser, header.format("set-light")) == [Content(header.format("set-light"))]


def test_header_words_are_not_content() -> None:
    parts = parts_of(HarmonyParser, "<|channel|>final <|constrain|>shopping_list<|message|>[7]")
    assert without_markers(parts) == [Reasoning("shopping_list"), Content("[7]")]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<|channel|>??<|end|>", "??"),
        ("<|channel|><|message|>Yes.", "Yes."),
        ("<|channel|>final Yes.<|end|>", "Yes."),
        (f"{PROMPT}{PROMPT}<|channel|>final<|message|>Yes.", "Yes."),
        ("<|start|>assistantassistant<|channel|>final<|message|>Yes.", "Yes."),
        ("<|channel|>final\nYes.", "\nYes."),
        (f"<|channel|>final<|message|>Yes.<|end|> 364 {PROMPT}<|channel|>final<|message|>No.", "Yes. 364 No."),
        (f"<|channel|>final<|message|>Yes.{PROMPT}<|channel|>final<|message|>No.", "Yes.No."),
        ("<|channel|>final<|message|>Yes.<|channel|>commentary<|message|>No.", "Yes.No."),
        ("<|channel|>final<|message|>Yes.<|return|>\n", "Yes."),
    ],
)
def test_output_that_the_reference_implementation_rejects_is_parsed(text: str, content: str) -> None:
    parts = parts_of(HarmonyParser, text, generation_prompt=PROMPT)
    assert "".join(part.text for part in parts if isinstance(part, Content)) == content


def test_quote_before_end_marker_does_not_hide_it() -> None:
    parts = parts_of(
        HarmonyParser, f'<|channel|>analysis<|message|>Say "yes"<|end|>{PROMPT}<|channel|>final<|message|>'
    )
    assert without_markers(parts) == [Reasoning('Say "yes"')]
