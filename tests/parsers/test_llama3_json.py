from mlx_host.parsing import Content, ToolCall
from mlx_host_parser_llama3_json import Llama3JsonParser

from tests.parsers.feeding import parts_of, read

NOW = '{"name": "now", "parameters": {}}'


def test_leading_json_is_delayed_until_decided() -> None:
    fed = read(Llama3JsonParser, ["{", '"name": "now"', "}", " it is"])
    assert fed == [[], [], [Content('{"name": "now"}')], [Content(" it is")], []]


def test_invalid_json_is_emitted_at_once() -> None:
    assert read(Llama3JsonParser, ["{ 7", " }"])[0] == [Content("{ 7")]


def test_call_is_emitted_before_the_next_one() -> None:
    fed = read(Llama3JsonParser, [NOW, "; ", NOW])
    assert [[part.name for part in parts if isinstance(part, ToolCall)] for parts in fed] == [["now"], [], ["now"], []]


def test_json_is_streamed_without_tools() -> None:
    assert read(Llama3JsonParser, ["{", '"name"'], tools=())[0] == [Content("{")]


def test_brace_in_text_is_streamed() -> None:
    assert parts_of(Llama3JsonParser, f"As {NOW}") == [Content(f"As {NOW}")]
