"""The grammar matcher of the parser contract."""

from __future__ import annotations

import pytest
from mlx_host.grammar import (
    FreeText,
    Grammar,
    JsonValue,
    LarkGrammar,
    Pattern,
    Repeat,
    TextThrough,
    chain,
    one_of,
    optional,
)
from mlx_host.testing.grammar_matcher import admits

OBJECT = JsonValue(
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Null"}]}},
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"Null": {"type": "null"}},
    }
)
DIGITS = Pattern("[0-9]+")


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (chain("a", "b"), "ab"),
        (one_of("a", "ab"), "ab"),
        (chain(one_of("a", "ab"), "bc"), "abbc"),
        (chain(optional("x"), "y"), "y"),
        (Repeat(chain("a"), 2, 3), "aaa"),
        (Repeat(chain("a")), ""),
        (chain(DIGITS, "7"), "177"),
        (chain("<", TextThrough((">",)), "."), "<a>."),
        (TextThrough((">",), ("[a-z]+",), ("no",)), "yes>"),
        (TextThrough((">", ">>")), "a>>"),
        (FreeText(excluding=("<call>",)), "text <cal"),
        (OBJECT, '{"a": 1, "b": "x: \\" y"}'),
        (OBJECT, '{"a":1,"b":null}'),
        (JsonValue(True), "[1, {}]"),
        (JsonValue({"enum": ["a", 1]}), '"a"'),
        (JsonValue({"type": "array", "items": {"type": "boolean"}}), "[true, false]"),
    ],
)
def test_a_text_of_the_grammar_is_admitted(grammar: Grammar, text: str) -> None:
    assert admits(grammar, text)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (chain("a", "b"), "a"),
        (chain("a", "b"), "abc"),
        (one_of("a", "b"), "c"),
        (Repeat(chain("a"), 2, 3), "a"),
        (Repeat(chain("a"), 2, 3), "aaaa"),
        (DIGITS, "1x"),
        (TextThrough((">",)), "a"),
        (chain(TextThrough((">",)), "b"), "a>c>b"),
        (TextThrough((">",), ("[a-z]+",)), "7>"),
        (TextThrough((">",), not_matching=("no",)), "no>"),
        (FreeText(excluding=("<call>",)), "text <call>"),
        (FreeText(not_matching=("no",)), "no"),
        (OBJECT, '{"b": null, "a": 1}'),
        (OBJECT, '{"b": null}'),
        (OBJECT, '{"a": 1, "c": 2}'),
        (OBJECT, '{"a": "1"}'),
        (OBJECT, '{"a": true}'),
        (OBJECT, '{"a": 1, "b": 2}'),
        (OBJECT, '{"a" : 1}'),
        (OBJECT, '{"a": 1,\n"b": null}'),
        (OBJECT, '{"a": 1, "b": "\\u00e9"}'),
        (OBJECT, '{"a": 1'),
        (JsonValue(False), "1"),
        (JsonValue({"enum": ["a", 1]}), '"b"'),
        (JsonValue({"type": "array", "items": {"type": "boolean"}}), "[true, 1]"),
    ],
)
def test_any_other_text_is_not(grammar: Grammar, text: str) -> None:
    assert not admits(grammar, text)


def test_a_grammar_in_lark_is_rejected() -> None:
    with pytest.raises(TypeError, match="LarkGrammar"):
        admits(LarkGrammar('start: "a"'), "a")
