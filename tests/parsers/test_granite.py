from mlx_host.parsing import Content, Marker, Reasoning
from mlx_host_parser_granite import GraniteParser

from tests.parsers.feeding import parts_of, read


def test_reasoning_phrases_delay_only_the_start_of_the_output() -> None:
    fed = read(
        GraniteParser, ["Here is my tho", "ught process: a", " Here is my resp", "onse: b", " Here is my", " resp"]
    )
    assert fed[0] == []
    assert fed[1] == [Marker("Here is my thought process: "), Reasoning("a")]
    assert fed[2] == []
    assert fed[3][-1] == Content("b")


def test_reasoning_phrases_inside_content_are_text() -> None:
    text = "Yes. Here's my thought process: a. Here's my response: b </response>"
    assert parts_of(GraniteParser, text) == [Content(text)]


def test_reasoning_phrases_are_not_signatures() -> None:
    assert not [signature for signature in GraniteParser.signatures if "my" in signature]
