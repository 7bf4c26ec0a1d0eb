from mlx_host.parsing import Content, Marker, Reasoning
from mlx_host_parser_granite import GraniteParser

from tests.parsers.reading import parts_of, read


def test_words_that_announce_thinking_are_awaited_only_at_the_beginning() -> None:
    fed = read(
        GraniteParser, ["Here is my tho", "ught process: a", " Here is my resp", "onse: b", " Here is my", " resp"]
    )
    assert fed[0] == []
    assert fed[1] == [Marker("Here is my thought process: "), Reasoning("a")]
    assert fed[2] == []
    assert fed[3][-1] == Content("b")


def test_words_in_the_middle_of_an_answer_mean_nothing() -> None:
    text = "Yes. Here's my thought process: a. Here's my response: b </response>"
    assert parts_of(GraniteParser, text) == [Content(text)]


def test_words_that_any_answer_may_hold_give_nothing_away() -> None:
    assert not [telltale for telltale in GraniteParser.signatures if "my" in telltale]
