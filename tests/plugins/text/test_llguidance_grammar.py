"""The grammars written for llguidance accept the same texts as the grammar trees."""

from __future__ import annotations

import json

import pytest
from mlx_host.grammar import (
    Alternatives,
    Concat,
    FreeText,
    Grammar,
    JsonValue,
    LarkGrammar,
    LiteralText,
    Pattern,
    Repeat,
    TextThrough,
    chain,
    one_of,
    optional,
)
from mlx_host_text.llguidance_grammar import to_llguidance

from tests.parsers.grammar_walks import Vocabulary

BYTES = Vocabulary()
TOKENS = Vocabulary(("<a>", "</a>", "[/T]"))


@pytest.mark.parametrize(
    ("grammar", "admitted", "rejected"),
    [
        (LiteralText('a"b\\\n/é'), ['a"b\\\n/é'], ["", "a"]),
        (LiteralText(""), [""], ["x"]),
        (Concat(), [""], ["x"]),
        (Pattern("a/b+|[\n]"), ["a/bb", "\n"], ["a/", "xa/b"]),
        (chain("a", Repeat(LiteralText("b"), 1, 2), optional("c", "d")), ["ab", "abbcd"], ["a", "abbb", "abc"]),
        (one_of("try", "try-it"), ["try", "try-it"], ["tr", "trytry"]),
        (JsonValue({"type": "integer"}), ["7"], ["7.5", "x"]),
        (JsonValue({"type": "object"}), ["{}", '{"a": [1,2]}', '{"a":null, "b": 1}'], ['{ "a": 1}', '{"a":  1}']),
        (JsonValue(True), ["7", '"x"'], ["x"]),
        (LarkGrammar('start: "a" b\nb: "b"+'), ["abb"], ["a"]),
        (FreeText(), ["", "x\n<a>🙂"], []),
        (FreeText(excluding=("<a>", "b")), ["", "<a", "a>"], ["<a>", "x<a>", "xbx"]),
        (FreeText(not_matching=("[0-9]+",)), ["", "x1"], ["1", "12"]),
        (TextThrough(("<a>", "b")), ["<a>", "xx<a>", "<ab"], ["", "x", "x<a>y", "b<a>"]),
        (TextThrough(("/",), ("[0-9]*", ".{2}")), ["12/"], ["1/", "ab/", "123/"]),
        (TextThrough(("/",), not_matching=("x|y",)), ["/", "xy/"], ["x/", "y/"]),
        (chain(TextThrough(("<a>",)), "<b>"), ["<a><b>", "x<a><b>"], ["x<a>y<a><b>"]),
        (Alternatives((chain("{", '"name"'), JsonValue({"type": "object"}))), ['{"name"', '{"n": 1}'], ['{"n"']),
    ],
)
def test_accepted_and_rejected_texts(grammar: Grammar, admitted: list[str], rejected: list[str]) -> None:
    assert [text for text in admitted if not BYTES.admits(grammar, text)] == []
    assert [text for text in rejected if BYTES.admits(grammar, text)] == []


@pytest.mark.parametrize(
    ("grammar", "admitted", "rejected"),
    [
        (LiteralText("x<a>y</a>"), ["x<a>y</a>"], ["x<a>y"]),
        (TextThrough(("</a>",)), ["</a>", "x</a>"], ["x"]),
        (TextThrough(("[/T]", "</b>")), ["x[/T]", "x</b>"], ["x</b>[/T]"]),
        (TextThrough(("x</a>y", "z")), ["wx</a>y", "wz"], ["w</a>y", "zx</a>y"]),
        (FreeText(), ["x"], ["<a>"]),
    ],
)
def test_a_special_token_matches_its_text(grammar: Grammar, admitted: list[str], rejected: list[str]) -> None:
    assert [text for text in admitted if not TOKENS.admits(grammar, text)] == []
    assert [text for text in rejected if TOKENS.admits(grammar, text)] == []


def test_a_special_token_cannot_be_spelled_with_other_tokens() -> None:
    # The text would be the same as that of the token.
    spelled = list(b"x</a>")
    assert TOKENS.matcher(TextThrough(("</a>",))).try_consume_tokens(spelled) == len(spelled) - 1
    assert TOKENS.matcher(LiteralText("</a>")).try_consume_tokens(list(b"</a>")) == 0


def test_a_shared_part_is_written_once() -> None:
    part = chain(*(Pattern(f"{letter}+") for letter in "abcdefgh"))
    written = json.loads(to_llguidance(chain(part, "-", part, "-", part), {}))["grammars"][0]["lark_grammar"]
    assert written.count("/h+/") == 1


def test_an_unknown_grammar_class_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="expected a Grammar"):
        to_llguidance(chain(Grammar()), {})
