from mlx_host.parsing import Content, ToolCall
from mlx_host_parser_llama3_json import Llama3JsonParser

from tests.parsers.reading import parts_of, read

NOW = '{"name": "now", "parameters": {}}'


def test_json_is_held_back_until_it_is_decided() -> None:
    fed = read(Llama3JsonParser, ["{", '"name": "now"', "}", " it is"])
    assert fed == [[], [], [Content('{"name": "now"}')], [Content(" it is")], []]


def test_what_cannot_be_json_is_told_at_once() -> None:
    assert read(Llama3JsonParser, ["{ 7", " }"])[0] == [Content("{ 7")]


def test_a_call_is_told_before_the_next_one() -> None:
    fed = read(Llama3JsonParser, [NOW, "; ", NOW])
    assert [[part.name for part in parts if isinstance(part, ToolCall)] for parts in fed] == [["now"], [], ["now"], []]


def test_without_tools_json_streams() -> None:
    assert read(Llama3JsonParser, ["{", '"name"'], tools=())[0] == [Content("{")]


def test_a_brace_in_text_is_not_held_back() -> None:
    assert parts_of(Llama3JsonParser, f"As {NOW}") == [Content(f"As {NOW}")]
