"""Grammars compiled for a vocabulary of single bytes, and their matchers."""

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
from mlx_host_text.structured_output import CompiledGrammar, GrammarCompiler, GrammarMatcher
from mlx_host_text.tokenizer import Vocabulary

BYTES = [bytes([byte]) for byte in range(256)]
END, OTHER_END, SPECIAL, HOLE, DOUBLE = range(256, 261)
TOKENS = [*BYTES, b"<end>", b"<eot>", b"<think>", b"", b"a"]


def by_bytes(text: str) -> bytes:
    """Tokenization into single bytes."""
    return text.encode()


VOCABULARY = Vocabulary(TOKENS, {"<end>": END, "<think>": SPECIAL}, frozenset({END, OTHER_END}), by_bytes)


def by_words(text: str) -> list[int]:
    """Tokenization with a token for a space and a brace."""
    return [len(TOKENS), *text[2:].encode()] if text.startswith(" {") else list(text.encode())


SPACED = Vocabulary([*TOKENS, b" {", b" a"], VOCABULARY.special, VOCABULARY.eos_ids, by_words, drop_first_space=True)


@pytest.fixture(scope="module")
def compiler() -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(VOCABULARY)
    yield made
    made.close()


def compiled(compiler: GrammarCompiler, grammar: Grammar, *, starts: bool = True) -> CompiledGrammar:
    compiling = compiler.compile(FixedConstraint(grammar), "", starts=starts)
    while True:
        try:
            next(compiling)
        except StopIteration as stop:
            made = stop.value
            assert isinstance(made, CompiledGrammar)
            return made


def allowed(matcher: GrammarMatcher, last: int | None = None, width: int = len(TOKENS)) -> set[int]:
    """What a row may say next, when the last token of its answer was `last`."""
    logits = matcher.process(last, mx.zeros((1, width)))
    return {id for id, logit in enumerate(logits[0].tolist()) if logit == 0}


def says(grammar: CompiledGrammar, text: str | bytes) -> bool:
    """Whether the text is an answer, and the answer may end with it."""
    matcher, last = grammar.matcher(), None
    for byte in text.encode() if isinstance(text, str) else text:
        if byte not in allowed(matcher, last):
            return False
        last = byte
    return allowed(matcher, last) >= VOCABULARY.eos_ids


def test_only_what_the_grammar_goes_on_with_is_allowed(compiler: GrammarCompiler) -> None:
    matcher = compiled(compiler, one_of("ab", "b", "abc")).matcher()
    assert allowed(matcher) == {ord("a"), ord("b"), DOUBLE}
    assert allowed(matcher, ord("a")) == {ord("b")}
    assert allowed(matcher, ord("b")) == {ord("c"), END, OTHER_END}
    assert allowed(matcher, ord("c")) == {END, OTHER_END}
    assert matcher.error is None


def test_special_tokens_are_said_only_where_the_grammar_names_them(compiler: GrammarCompiler) -> None:
    assert allowed(compiled(compiler, FreeText()).matcher()).isdisjoint({SPECIAL, HOLE})
    matcher = compiled(compiler, chain("<think>", "a")).matcher()
    assert allowed(matcher) == {SPECIAL}
    assert allowed(matcher, SPECIAL) == {ord("a")}


def test_logits_may_be_more_or_fewer_than_tokens(compiler: GrammarCompiler) -> None:
    assert allowed(compiled(compiler, FreeText()).matcher(), width=400) <= set(range(len(TOKENS)))
    assert allowed(compiled(compiler, one_of("a", "b")).matcher(), width=98) == {ord("a")}


def test_forbidden_logits_stay_so_and_others_as_they_are(compiler: GrammarCompiler) -> None:
    matcher = compiled(compiler, one_of("a", "b")).matcher()
    logits = matcher.process(None, mx.arange(len(TOKENS)).astype(mx.bfloat16)[None])
    assert logits.dtype == mx.bfloat16
    assert logits[0, ord("b")].item() == 98
    assert logits[0, ord("c")].item() == -mx.inf


def test_rules_are_kept_until_they_are_spent(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_host_text.structured_output.MAX_GRAMMAR_TOKENS", 50)
    first = compiled(compiler, Pattern("[ab]*"))
    assert compiled(compiler, Pattern("[ab]*")) is first
    matcher = first.matcher()
    for _ in range(49):
        allowed(matcher, ord("a"))
    assert compiled(compiler, Pattern("[ab]*")) is first
    allowed(matcher, ord("a"))
    assert compiled(compiler, Pattern("[ab]*")) is not first
    assert ord("b") in allowed(matcher, ord("a"))


def test_answers_of_one_rule_go_their_own_ways(compiler: GrammarCompiler) -> None:
    shared = compiled(compiler, one_of("ab", "cd"))
    first, second = shared.matcher(), shared.matcher()
    assert (allowed(first, ord("a")), allowed(second, ord("c"))) == ({ord("b")}, {ord("d")})


def test_only_so_many_rules_are_kept(compiler: GrammarCompiler) -> None:
    first = compiled(compiler, LiteralText("first"))
    for number in range(40):
        compiled(compiler, LiteralText(str(number)))
    assert compiled(compiler, LiteralText("first")) is not first


def test_certain_text_is_written_as_the_tokenizer_cuts_it() -> None:
    words = [*TOKENS, b"no", b"nothing", b"thing"]
    no, nothing, thing = range(len(TOKENS), len(words))

    def encode(text: str) -> list[int]:
        return [no, thing] if text == "nothing" else list(text.encode())

    compiler = GrammarCompiler(replace(VOCABULARY, tokens=words, encode=encode))
    matcher = compiled(compiler, one_of("nothing", "Y")).matcher()
    # What is not certain may be cut in any way.
    assert {ord("n"), no, nothing, ord("Y")} <= allowed(matcher, width=len(words))
    matcher = compiled(compiler, LiteralText("nothing")).matcher()
    assert allowed(matcher, width=len(words)) == {no}
    compiler.close()


def test_where_the_tokenizer_adds_to_the_text_the_longest_tokens_are_taken() -> None:
    words = [*TOKENS, b"no", b"nothing"]
    compiler = GrammarCompiler(replace(VOCABULARY, tokens=words, encode=lambda text: f" {text}".encode()))
    assert allowed(compiled(compiler, LiteralText("nothing!")).matcher(), width=len(words)) == {len(words) - 1}
    compiler.close()


def test_a_space_that_does_not_show_is_not_held_against_an_answer() -> None:
    spaced = GrammarCompiler(SPACED)
    brace, letter = len(TOKENS), len(TOKENS) + 1
    form = compiled(spaced, chain("{", one_of("a", " a"), "}"))
    for first in (ord("{"), brace):
        matcher = form.matcher()
        assert allowed(matcher, width=len(SPACED.tokens)) == {ord("{"), brace}
        assert allowed(matcher, first, len(SPACED.tokens)) == {ord("a"), DOUBLE, ord(" "), letter}
    choice = compiled(spaced, one_of(" a", "b"))
    assert allowed(choice.matcher(), width=len(SPACED.tokens)) == {ord("b"), ord(" ")}
    goes_on = compiled(spaced, one_of(" a", "b"), starts=False)
    assert allowed(goes_on.matcher(), width=len(SPACED.tokens)) == {ord("b"), ord(" "), letter}
    spaced.close()


def test_an_answer_that_llguidance_gives_up_may_only_end(compiler: GrammarCompiler) -> None:
    matcher = compiled(compiler, Pattern("(.{0,500}a){0,500}")).matcher()
    for _ in range(100_000):
        if allowed(matcher, ord("a")) == VOCABULARY.eos_ids:
            break
    assert isinstance(matcher.error, InvalidRequestError)
    assert "too complex" in str(matcher.error)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (JsonValue({"not": {}}, "form"), "form: unsupported JSON schema: keyword 'not' at #"),
        (JsonValue({"type": "array", "items": {"contains": 1}}, "form"), "keyword 'contains' at #/items"),
        (JsonValue({"type": "text"}, "form"), "Invalid type: text"),
        (JsonValue({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "form"), "oneOf"),
        (JsonValue({"$ref": "#/$defs/x"}, "form"), "Pointer '/$defs/x' does not exist"),
        (JsonValue({"$ref": "http://localhost/x"}, "form"), "'http://localhost/x'"),
        (JsonValue({"type": "string", "format": "iri"}, "form"), "Unknown format: iri"),
        (JsonValue({"pattern": "^(?=a)"}, "form"), "the pattern ^(?=a): look-around"),
        (JsonValue({"minLength": 3, "maxLength": 2, "type": "string"}, "form"), "minLength (3)"),
        (JsonValue(False, "form"), "Unsatisfiable"),
        (Pattern("a(", "form"), "form: unsupported regular expression: the pattern a(: unclosed group"),
        (LarkGrammar("start: nobody", "form"), 'form: unsupported grammar: unknown name: "nobody"'),
        (LarkGrammar("begin: /a/", "form"), "no start rule found"),
    ],
)
def test_what_cannot_be_kept_is_named(compiler: GrammarCompiler, leaf: Grammar, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(said)) as raised:
        compiled(compiler, chain("fine: ", one_of(JsonValue(True, "other"), leaf)))
    assert raised.value.param == "form"
    assert "\n" not in str(raised.value)


def test_what_no_answer_can_satisfy_is_refused(compiler: GrammarCompiler) -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    with pytest.raises(InvalidRequestError, match="form: unsupported JSON schema") as raised:
        compiled(compiler, JsonValue(schema, "form"))
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
def test_hostile_grammars_take_bounded_time(compiler: GrammarCompiler, name: str) -> None:
    """They are refused or obeyed; nothing of it may take longer than the test's timeout."""
    with suppress(InvalidRequestError):
        matcher = compiled(compiler, HOSTILE[name]).matcher()
        last = None
        for _ in range(30):
            last = max(allowed(matcher, last) - VOCABULARY.eos_ids, default=END)


def test_schemas_too_deep_are_refused(compiler: GrammarCompiler) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    with pytest.raises(InvalidRequestError, match="more than 100 levels deep"):
        compiled(compiler, JsonValue(schema, "form"))


def test_json_is_written_without_loose_blanks(compiler: GrammarCompiler) -> None:
    value = compiled(compiler, JsonValue(True))
    assert says(value, '{"a": [1, 2], "b":{}}')
    for blank in (' {"a":1}', '{ "a":1}', '{"a" :1}', '{"a":1 }', '{"a":  1}', "[1,\n2]", "[1 ]", "1 "):
        assert not says(value, blank)


def test_strings_are_whole_characters_written_in_one_way(compiler: GrammarCompiler) -> None:
    value = compiled(compiler, JsonValue({"type": "string"}))
    for text in ("é", "名前😀", 'a"b', "tab\there", "\\"):
        assert says(value, json.dumps(text, ensure_ascii=False))
    assert not says(value, '"\\u00e9"')
    assert not says(value, '"\\ud800"')
    assert not says(value, b'"\xff"')


def test_a_key_cannot_be_written_in_another_way(compiler: GrammarCompiler) -> None:
    schema = {"properties": {"é": {"type": "integer"}, 'a"b\n': {"type": "integer"}}}
    value = compiled(compiler, JsonValue({"type": "object", **schema, "additionalProperties": {"type": "string"}}))
    assert says(value, '{"é":1, "a\\"b\\n":2, "c":"x"}')
    for alias in ('{"\\u00e9":"x"}', '{"a\\u0022b\\n":"x"}', '{"a\\"b\\u000a":"x"}', '{"é":"x"}'):
        assert not says(value, alias)
