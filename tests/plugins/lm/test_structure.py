"""Grammars compiled for a vocabulary of single bytes, and the guides that hold rows to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import (
    FixedConstraint,
    FreeText,
    Grammar,
    JsonValue,
    LarkGrammar,
    LiteralText,
    Pattern,
    chain,
    one_of,
)
from mlx_host_lm.structure import Guide, Rule, Structure, Vocabulary

BYTES = [bytes([byte]) for byte in range(256)]
END, OTHER_END, SPECIAL, HOLE, DOUBLE = range(256, 261)
TOKENS = [*BYTES, b"<end>", b"<eot>", b"<think>", b"", b"a"]


def by_bytes(text: str) -> bytes:
    """A cut whose tokens are the bytes themselves."""
    return text.encode()


VOCABULARY = Vocabulary(TOKENS, {"<end>": END, "<think>": SPECIAL}, frozenset({END, OTHER_END}), by_bytes)


def by_words(text: str) -> list[int]:
    """A cut that has a token for a space and a brace."""
    return [len(TOKENS), *text[2:].encode()] if text.startswith(" {") else list(text.encode())


SPACED = Vocabulary([*TOKENS, b" {", b" a"], VOCABULARY.special, VOCABULARY.ends, by_words, drop_first_space=True)


@pytest.fixture(scope="module")
def structure() -> Iterator[Structure]:
    made = Structure(VOCABULARY)
    yield made
    made.close()


def rule(structure: Structure, grammar: Grammar, *, starts: bool = True) -> Rule:
    compiling = structure.compile(FixedConstraint(grammar), "", starts=starts)
    while True:
        try:
            next(compiling)
        except StopIteration as stop:
            made = stop.value
            assert isinstance(made, Rule)
            return made


def allowed(guide: Guide, last: int | None = None, width: int = len(TOKENS)) -> set[int]:
    """What a row may say next, when the last token of its answer was `last`."""
    logits = guide.process(last, mx.zeros((1, width)))
    return {id for id, logit in enumerate(logits[0].tolist()) if logit == 0}


def says(rule: Rule, text: str | bytes) -> bool:
    """Whether the text is an answer, and the answer may end with it."""
    guide, last = rule.guide(), None
    for byte in text.encode() if isinstance(text, str) else text:
        if byte not in allowed(guide, last):
            return False
        last = byte
    return allowed(guide, last) >= VOCABULARY.ends


def test_only_what_the_grammar_goes_on_with_is_allowed(structure: Structure) -> None:
    guide = rule(structure, one_of("ab", "b", "abc")).guide()
    assert allowed(guide) == {ord("a"), ord("b"), DOUBLE}
    assert allowed(guide, ord("a")) == {ord("b")}
    assert allowed(guide, ord("b")) == {ord("c"), END, OTHER_END}
    assert allowed(guide, ord("c")) == {END, OTHER_END}
    assert guide.error is None


def test_special_tokens_are_said_only_where_the_grammar_names_them(structure: Structure) -> None:
    assert allowed(rule(structure, FreeText()).guide()).isdisjoint({SPECIAL, HOLE})
    guide = rule(structure, chain("<think>", "a")).guide()
    assert allowed(guide) == {SPECIAL}
    assert allowed(guide, SPECIAL) == {ord("a")}


def test_logits_may_be_more_or_fewer_than_tokens(structure: Structure) -> None:
    assert allowed(rule(structure, FreeText()).guide(), width=400) <= set(range(len(TOKENS)))
    assert allowed(rule(structure, one_of("a", "b")).guide(), width=98) == {ord("a")}


def test_forbidden_logits_stay_so_and_others_as_they_are(structure: Structure) -> None:
    guide = rule(structure, one_of("a", "b")).guide()
    logits = guide.process(None, mx.arange(len(TOKENS)).astype(mx.bfloat16)[None])
    assert logits.dtype == mx.bfloat16
    assert logits[0, ord("b")].item() == 98
    assert logits[0, ord("c")].item() == -mx.inf


def test_rules_are_kept_until_they_are_spent(structure: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_host_lm.structure.RULE_TOKENS", 50)
    first = rule(structure, Pattern("[ab]*"))
    assert rule(structure, Pattern("[ab]*")) is first
    guide = first.guide()
    for _ in range(49):
        allowed(guide, ord("a"))
    assert rule(structure, Pattern("[ab]*")) is first
    allowed(guide, ord("a"))
    assert rule(structure, Pattern("[ab]*")) is not first
    assert ord("b") in allowed(guide, ord("a"))


def test_answers_of_one_rule_go_their_own_ways(structure: Structure) -> None:
    shared = rule(structure, one_of("ab", "cd"))
    first, second = shared.guide(), shared.guide()
    assert (allowed(first, ord("a")), allowed(second, ord("c"))) == ({ord("b")}, {ord("d")})


def test_only_so_many_rules_are_kept(structure: Structure) -> None:
    first = rule(structure, LiteralText("first"))
    for number in range(40):
        rule(structure, LiteralText(str(number)))
    assert rule(structure, LiteralText("first")) is not first


def test_certain_text_is_written_as_the_tokenizer_cuts_it() -> None:
    words = [*TOKENS, b"no", b"nothing", b"thing"]
    no, nothing, thing = range(len(TOKENS), len(words))

    def cut(text: str) -> list[int]:
        return [no, thing] if text == "nothing" else list(text.encode())

    structure = Structure(replace(VOCABULARY, tokens=words, cut=cut))
    guide = rule(structure, one_of("nothing", "Y")).guide()
    # What is not certain may be cut in any way.
    assert {ord("n"), no, nothing, ord("Y")} <= allowed(guide, width=len(words))
    guide = rule(structure, LiteralText("nothing")).guide()
    assert allowed(guide, width=len(words)) == {no}
    structure.close()


def test_where_the_tokenizer_adds_to_the_text_the_longest_tokens_are_taken() -> None:
    words = [*TOKENS, b"no", b"nothing"]
    structure = Structure(replace(VOCABULARY, tokens=words, cut=lambda text: f" {text}".encode()))
    assert allowed(rule(structure, LiteralText("nothing!")).guide(), width=len(words)) == {len(words) - 1}
    structure.close()


def test_a_space_that_does_not_show_is_not_held_against_an_answer() -> None:
    spaced = Structure(SPACED)
    brace, letter = len(TOKENS), len(TOKENS) + 1
    form = rule(spaced, chain("{", one_of("a", " a"), "}"))
    for first in (ord("{"), brace):
        guide = form.guide()
        assert allowed(guide, width=len(SPACED.tokens)) == {ord("{"), brace}
        assert allowed(guide, first, len(SPACED.tokens)) == {ord("a"), DOUBLE, ord(" "), letter}
    choice = rule(spaced, one_of(" a", "b"))
    assert allowed(choice.guide(), width=len(SPACED.tokens)) == {ord("b"), ord(" ")}
    goes_on = rule(spaced, one_of(" a", "b"), starts=False)
    assert allowed(goes_on.guide(), width=len(SPACED.tokens)) == {ord("b"), ord(" "), letter}
    spaced.close()


def test_an_answer_that_llguidance_gives_up_may_only_end(structure: Structure) -> None:
    guide = rule(structure, Pattern("(.{0,500}a){0,500}")).guide()
    for _ in range(100_000):
        if allowed(guide, ord("a")) == VOCABULARY.ends:
            break
    assert isinstance(guide.error, InvalidRequestError)
    assert "too complex" in str(guide.error)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (JsonValue({"not": {}}, "form"), "form: the JSON schema cannot be kept: it cannot be held to not (at #)"),
        (JsonValue({"type": "array", "items": {"contains": 1}}, "form"), "contains (at #/items)"),
        (JsonValue({"type": "text"}, "form"), "Invalid type: text"),
        (JsonValue({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "form"), "oneOf"),
        (JsonValue({"$ref": "#/$defs/x"}, "form"), "Pointer '/$defs/x' does not exist"),
        (JsonValue({"$ref": "http://localhost/x"}, "form"), "'http://localhost/x'"),
        (JsonValue({"type": "string", "format": "iri"}, "form"), "Unknown format: iri"),
        (JsonValue({"pattern": "^(?=a)"}, "form"), "the pattern ^(?=a): look-around"),
        (JsonValue({"minLength": 3, "maxLength": 2, "type": "string"}, "form"), "minLength (3)"),
        (JsonValue(False, "form"), "Unsatisfiable"),
        (Pattern("a(", "form"), "form: the regular expression cannot be kept: the pattern a(: unclosed group"),
        (LarkGrammar("start: nobody", "form"), 'form: the grammar cannot be kept: unknown name: "nobody"'),
        (LarkGrammar("begin: /a/", "form"), "no start rule found"),
    ],
)
def test_what_cannot_be_kept_is_named(structure: Structure, leaf: Grammar, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(said)) as raised:
        rule(structure, chain("fine: ", one_of(JsonValue(True, "other"), leaf)))
    assert raised.value.param == "form"
    assert "\n" not in str(raised.value)


def test_what_no_answer_can_satisfy_is_refused(structure: Structure) -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    with pytest.raises(InvalidRequestError, match="form: the JSON schema cannot be kept") as raised:
        rule(structure, JsonValue(schema, "form"))
    assert raised.value.param == "form"


HOSTILE: dict[str, Grammar] = {
    "alternatives of alternatives": JsonValue(
        {
            "allOf": [
                {
                    "anyOf": [
                        {"properties": {f"{key}{n}": {"type": "string"}}, "required": [f"{key}{n}"]} for key in "ab"
                    ]
                }
                for n in range(20)
            ]
        }
    ),
    "many counted strings": JsonValue(
        {"properties": {f"k{n}": {"type": "string", "maxLength": 10**6} for n in range(99)}}
    ),
    "a large prime": JsonValue({"type": "integer", "multipleOf": 999_983}),
    "as large a part": JsonValue({"type": "number", "multipleOf": 999_983 / 1024}),
    "endless repetition": Pattern("((a{1000}){1000}){1000}"),
    "overlapping repetition": Pattern("(.*a){30}.*b.{30}"),
    "intersections": LarkGrammar(
        "start: A\nA: " + " & ".join(f"/(.|\\n)*{letter}(.|\\n){{20}}/" for letter in "abcdef")
    ),
    "many ways to say nothing": LarkGrammar("start: " + " ".join(f'("a" | /b+{n}/)?' for n in range(3000))),
    "deep parentheses": LarkGrammar("start: " + "(" * 9999 + '"a"' + ")" * 9999),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_take_bounded_time(structure: Structure, name: str) -> None:
    """They are refused or obeyed; nothing of it may take longer than the test's timeout."""
    with suppress(InvalidRequestError):
        guide = rule(structure, HOSTILE[name]).guide()
        last = None
        for _ in range(30):
            last = max(allowed(guide, last) - VOCABULARY.ends, default=END)


def test_schemas_too_deep_are_refused(structure: Structure) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    with pytest.raises(InvalidRequestError, match="100 levels"):
        rule(structure, JsonValue(schema, "form"))


def test_json_is_written_without_loose_blanks(structure: Structure) -> None:
    value = rule(structure, JsonValue(True))
    assert says(value, '{"a": [1, 2], "b":{}}')
    for blank in (' {"a":1}', '{ "a":1}', '{"a" :1}', '{"a":1 }', '{"a":  1}', "[1,\n2]", "[1 ]", "1 "):
        assert not says(value, blank)


def test_strings_are_whole_characters_written_in_one_way(structure: Structure) -> None:
    value = rule(structure, JsonValue({"type": "string"}))
    for text in ("é", "名前😀", 'a"b', "tab\there", "\\"):
        assert says(value, json.dumps(text, ensure_ascii=False))
    assert not says(value, '"\\u00e9"')
    assert not says(value, '"\\ud800"')
    assert not says(value, b'"\xff"')


def test_a_key_cannot_be_written_in_another_way(structure: Structure) -> None:
    schema = {"properties": {"é": {"type": "integer"}, 'a"b\n': {"type": "integer"}}}
    value = rule(structure, JsonValue({"type": "object", **schema, "additionalProperties": {"type": "string"}}))
    assert says(value, '{"é":1, "a\\"b\\n":2, "c":"x"}')
    for alias in ('{"\\u00e9":"x"}', '{"a\\u0022b\\n":"x"}', '{"a\\"b\\u000a":"x"}', '{"é":"x"}'):
        assert not says(value, alias)
