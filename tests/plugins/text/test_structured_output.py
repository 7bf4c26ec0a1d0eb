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
END, SECOND_END, SPECIAL, EMPTY, DOUBLE = range(256, 261)
TOKENS = [*BYTES, b"<end>", b"<eot>", b"<think>", b"", b"a"]


def by_bytes(text: str) -> bytes:
    """Tokenization into single bytes."""
    return text.encode()


VOCABULARY = Vocabulary(TOKENS, {"<end>": END, "<think>": SPECIAL}, frozenset({END, SECOND_END}), by_bytes)


def by_words(text: str) -> list[int]:
    """Tokenization with a token for a space and a brace."""
    return [len(TOKENS), *text[2:].encode()] if text.startswith(" {") else list(text.encode())


SPACED = Vocabulary([*TOKENS, b" {", b" a"], VOCABULARY.special, VOCABULARY.eos_ids, by_words, drop_first_space=True)


@pytest.fixture(scope="module")
def compiler() -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(VOCABULARY)
    yield compiler
    compiler.close()


def compiled(compiler: GrammarCompiler, grammar: Grammar, *, starts: bool = True) -> CompiledGrammar:
    compiling = compiler.compile(FixedConstraint(grammar), "", starts=starts)
    while True:
        try:
            next(compiling)
        except StopIteration as stop:
            result = stop.value
            assert isinstance(result, CompiledGrammar)
            return result


def allowed(matcher: GrammarMatcher, last: int | None = None, width: int = len(TOKENS)) -> set[int]:
    """The tokens that are allowed after `last`, the previous token of the output."""
    logits = matcher.process(last, mx.zeros((1, width)))
    return {token for token, logit in enumerate(logits[0].tolist()) if logit == 0}


def accepts(grammar: CompiledGrammar, text: str | bytes) -> bool:
    """Whether the grammar allows the text as a complete output."""
    matcher, last = grammar.matcher(), None
    for byte in text.encode() if isinstance(text, str) else text:
        if byte not in allowed(matcher, last):
            return False
        last = byte
    return allowed(matcher, last) >= VOCABULARY.eos_ids


def test_only_tokens_that_continue_the_grammar_are_allowed(compiler: GrammarCompiler) -> None:
    matcher = compiled(compiler, one_of("ab", "b", "abc")).matcher()
    assert allowed(matcher) == {ord("a"), ord("b"), DOUBLE}
    assert allowed(matcher, ord("a")) == {ord("b")}
    assert allowed(matcher, ord("b")) == {ord("c"), END, SECOND_END}
    assert allowed(matcher, ord("c")) == {END, SECOND_END}
    assert matcher.error is None


def test_special_tokens_are_allowed_only_if_the_grammar_names_them(compiler: GrammarCompiler) -> None:
    assert allowed(compiled(compiler, FreeText()).matcher()).isdisjoint({SPECIAL, EMPTY})
    matcher = compiled(compiler, chain("<think>", "a")).matcher()
    assert allowed(matcher) == {SPECIAL}
    assert allowed(matcher, SPECIAL) == {ord("a")}


def test_logits_may_be_wider_or_narrower_than_the_vocabulary(compiler: GrammarCompiler) -> None:
    assert allowed(compiled(compiler, FreeText()).matcher(), width=400) <= set(range(len(TOKENS)))
    assert allowed(compiled(compiler, one_of("a", "b")).matcher(), width=98) == {ord("a")}


def test_allowed_logits_are_unchanged(compiler: GrammarCompiler) -> None:
    matcher = compiled(compiler, one_of("a", "b")).matcher()
    logits = matcher.process(None, mx.arange(len(TOKENS)).astype(mx.bfloat16)[None])
    assert logits.dtype == mx.bfloat16
    assert logits[0, ord("b")].item() == 98
    assert logits[0, ord("c")].item() == -mx.inf


def test_a_compiled_grammar_is_reused_up_to_its_token_limit(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_matchers_of_one_grammar_are_independent(compiler: GrammarCompiler) -> None:
    shared = compiled(compiler, one_of("ab", "cd"))
    first, second = shared.matcher(), shared.matcher()
    assert (allowed(first, ord("a")), allowed(second, ord("c"))) == ({ord("b")}, {ord("d")})


def test_the_number_of_cached_grammars_is_limited(compiler: GrammarCompiler) -> None:
    first = compiled(compiler, LiteralText("first"))
    for number in range(40):
        compiled(compiler, LiteralText(str(number)))
    assert compiled(compiler, LiteralText("first")) is not first


def test_forced_text_uses_the_tokenizers_tokens() -> None:
    words = [*TOKENS, b"no", b"nothing", b"thing"]
    no, nothing, thing = range(len(TOKENS), len(words))

    def encode(text: str) -> list[int]:
        return [no, thing] if text == "nothing" else list(text.encode())

    compiler = GrammarCompiler(replace(VOCABULARY, tokens=words, encode=encode))
    matcher = compiled(compiler, one_of("nothing", "Y")).matcher()
    # Text that is not forced may be tokenized in any way.
    assert {ord("n"), no, nothing, ord("Y")} <= allowed(matcher, width=len(words))
    matcher = compiled(compiler, LiteralText("nothing")).matcher()
    assert allowed(matcher, width=len(words)) == {no}
    compiler.close()


def test_forced_text_uses_the_longest_tokens_if_the_tokenizer_adds_characters() -> None:
    words = [*TOKENS, b"no", b"nothing"]
    compiler = GrammarCompiler(replace(VOCABULARY, tokens=words, encode=lambda text: f" {text}".encode()))
    assert allowed(compiled(compiler, LiteralText("nothing!")).matcher(), width=len(words)) == {len(words) - 1}
    compiler.close()


def test_a_leading_space_that_is_not_displayed_is_allowed() -> None:
    spaced = GrammarCompiler(SPACED)
    brace, letter = len(TOKENS), len(TOKENS) + 1
    braces = compiled(spaced, chain("{", one_of("a", " a"), "}"))
    for first in (ord("{"), brace):
        matcher = braces.matcher()
        assert allowed(matcher, width=len(SPACED.tokens)) == {ord("{"), brace}
        assert allowed(matcher, first, len(SPACED.tokens)) == {ord("a"), DOUBLE, ord(" "), letter}
    choice = compiled(spaced, one_of(" a", "b"))
    assert allowed(choice.matcher(), width=len(SPACED.tokens)) == {ord("b"), ord(" ")}
    continued = compiled(spaced, one_of(" a", "b"), starts=False)
    assert allowed(continued.matcher(), width=len(SPACED.tokens)) == {ord("b"), ord(" "), letter}
    spaced.close()


def test_only_end_tokens_are_allowed_beyond_llguidances_limits(compiler: GrammarCompiler) -> None:
    matcher = compiled(compiler, Pattern("(.{0,500}a){0,500}")).matcher()
    for _ in range(100_000):
        if allowed(matcher, ord("a")) == VOCABULARY.eos_ids:
            break
    assert isinstance(matcher.error, InvalidRequestError)
    assert "too complex" in str(matcher.error)


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (JsonValue({"not": {}}, "param"), "param: unsupported JSON schema: keyword 'not' at #"),
        (JsonValue({"type": "array", "items": {"contains": 1}}, "param"), "keyword 'contains' at #/items"),
        (JsonValue({"type": "text"}, "param"), "Invalid type: text"),
        (JsonValue({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "param"), "oneOf"),
        (JsonValue({"$ref": "#/$defs/x"}, "param"), "Pointer '/$defs/x' does not exist"),
        (JsonValue({"$ref": "http://localhost/x"}, "param"), "'http://localhost/x'"),
        (JsonValue({"pattern": "^(?=a)"}, "param"), "the pattern ^(?=a): look-around"),
        (JsonValue({"minLength": 3, "maxLength": 2, "type": "string"}, "param"), "minLength (3)"),
        (JsonValue(False, "param"), "Unsatisfiable"),
        (Pattern("a(", "param"), "param: unsupported regular expression: the pattern a(: unclosed group"),
        (LarkGrammar("start: missing", "param"), 'param: unsupported grammar: unknown name: "missing"'),
        (LarkGrammar("begin: /a/", "param"), "no start rule found"),
    ],
)
def test_unsupported_constraints_are_rejected_with_the_reason(
    compiler: GrammarCompiler, leaf: Grammar, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(message)) as error:
        compiled(compiler, chain("valid: ", one_of(JsonValue(True, "other"), leaf)))
    assert error.value.param == "param"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"properties": {"a": {"multipleOf": 5}}, "patternProperties": {"^a$": {"type": "integer"}}}, '{"a": 15}'),
        ({"properties": {"a": {}, "b": {}}, "patternProperties": {"^(a|b)$": {"type": "null"}}}, '{"b": null}'),
        ({"properties": {"a": {}}, "patternProperties": {"^[ab]$": {"type": "null"}}}, '{"a": null, "b": null}'),
        ({"properties": {"": {}}, "patternProperties": {"^$": {"type": "null"}}}, '{"": null}'),
    ],
)
def test_patterns_that_match_only_declared_properties_do_not_end_in_a_dead_end(
    compiler: GrammarCompiler, schema: dict[str, Any], text: str
) -> None:
    grammar = compiled(compiler, JsonValue({"type": "object", **schema, "additionalProperties": False}))
    assert accepts(grammar, text)
    # Another property may follow only if there is one.
    assert accepts(grammar, text[:-1] + ', "c": null}') is False
    matcher, last = grammar.matcher(), None
    for byte in (text[:-1] + ",").encode():
        last = byte if byte in allowed(matcher, last) else None
    assert last is None or allowed(matcher, last)
    assert matcher.error is None


def test_an_unsatisfiable_schema_is_rejected(compiler: GrammarCompiler) -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    with pytest.raises(InvalidRequestError, match=r"^param: ") as error:
        compiled(compiler, JsonValue(schema, "param"))
    assert error.value.param == "param"


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
    "a large multiple of a fraction": JsonValue({"type": "number", "multipleOf": 999_983 / 1024}),
    "endless repetition": Pattern("((a{1000}){1000}){1000}"),
    "overlapping repetition": Pattern("(.*a){30}.*b.{30}"),
    "intersections": LarkGrammar(
        "start: A\nA: " + " & ".join(f"/(.|\\n)*{letter}(.|\\n){{20}}/" for letter in "abcdef")
    ),
    "many ways to match nothing": LarkGrammar("start: " + " ".join(f'("a" | /b+{n}/)?' for n in range(3000))),
    "deep parentheses": LarkGrammar("start: " + "(" * 9999 + '"a"' + ")" * 9999),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_take_bounded_time(compiler: GrammarCompiler, name: str) -> None:
    """Each grammar is either rejected or compiled, within the test's timeout."""
    with suppress(InvalidRequestError):
        matcher = compiled(compiler, HOSTILE[name]).matcher()
        last = None
        for _ in range(30):
            last = max(allowed(matcher, last) - VOCABULARY.eos_ids, default=END)


def test_schemas_that_are_too_deep_are_rejected(compiler: GrammarCompiler) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    with pytest.raises(InvalidRequestError, match="100 levels"):
        compiled(compiler, JsonValue(schema, "param"))


def test_json_has_limited_whitespace(compiler: GrammarCompiler) -> None:
    value = compiled(compiler, JsonValue(True))
    assert accepts(value, '{"a": [1, 2], "b":{}}')
    for text in (' {"a":1}', '{ "a":1}', '{"a" :1}', '{"a":1 }', '{"a":  1}', "[1,\n2]", "[1 ]", "1 "):
        assert not accepts(value, text)


def test_strings_have_one_spelling(compiler: GrammarCompiler) -> None:
    value = compiled(compiler, JsonValue({"type": "string"}))
    for text in ("é", "名前😀", 'a"b', "tab\there", "\\"):
        assert accepts(value, json.dumps(text, ensure_ascii=False))
    assert not accepts(value, '"\\u00e9"')
    assert not accepts(value, '"\\ud800"')
    assert not accepts(value, b'"\xff"')


def test_keys_have_one_spelling(compiler: GrammarCompiler) -> None:
    schema = {"properties": {"é": {"type": "integer"}, 'a"b\n': {"type": "integer"}}}
    value = compiled(compiler, JsonValue({"type": "object", **schema, "additionalProperties": {"type": "string"}}))
    assert accepts(value, '{"é":1, "a\\"b\\n":2, "c":"x"}')
    for alias in ('{"\\u00e9":"x"}', '{"a\\u0022b\\n":"x"}', '{"a\\"b\\u000a":"x"}', '{"é":"x"}'):
        assert not accepts(value, alias)
