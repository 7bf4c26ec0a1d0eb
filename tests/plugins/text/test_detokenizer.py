from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_host_text.detokenizer import ByteDetokenizer, ByteTable, Detokenizer, WindowDetokenizer, byte_table
from mlx_host_text.tokenizer import Tokenizer

TEXTS = [
    "Plain words, and  two spaces.",
    " leading space",
    "naïve café — “quoted” …",
    "🦊👩‍👩‍👧‍👦 日本語 और हिन्दी",
    "\n\n\tindented\r\n",
    "<|im_start|>user<|im_end|>",
]


def detokenize(detokenizer: Detokenizer, tokens: list[int]) -> str:
    pieces = [detokenizer.add(token) for token in tokens]
    assert not any("\ufffd" in piece for piece in pieces)
    return "".join(pieces) + detokenizer.finish()


@pytest.mark.parametrize("text", TEXTS)
def test_both_detokenizers_restore_the_text(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert detokenize(tokenizer.detokenizer(), tokens) == text
    assert detokenize(WindowDetokenizer(tokenizer.decode), tokens) == text


def test_replacement_characters_are_not_held_back() -> None:
    symbols = {0: "\ufffd", 1: "a", **dict.fromkeys(range(2, 6), "")}
    detokenizer = WindowDetokenizer(lambda tokens: "".join(symbols[token] for token in tokens))
    pieces = [detokenizer.add(token) for token in [0] * 9 + [1]]
    assert pieces == ["", "", "", "\ufffd" * 4, "", "", "", "\ufffd" * 4, "", "\ufffda"]


@given(st.lists(st.integers(min_value=0, max_value=49151), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_tokens_give_the_same_text_as_the_tokenizer(tokenizer: Tokenizer, tokens: list[int]) -> None:
    detokenizer = tokenizer.detokenizer()
    assert "".join(map(detokenizer.add, tokens)) + detokenizer.finish() == tokenizer.decode(tokens)


def test_tokens_outside_the_vocabulary_are_empty(tokenizer: Tokenizer) -> None:
    assert detokenize(tokenizer.detokenizer(), [10**6]) == ""


class TestByteTable:
    def test_of_sentencepiece_with_byte_fallback(self) -> None:
        decoder = {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        }
        symbols = ["<s>", "▁Hello", "▁", "<0xF0>", "<0x9F>", "<0xA6>", "<0x8A>", "<tool▁sep>", "▁you"]
        table = byte_table(symbols, {0, 7}, decoder)
        assert table is not None
        assert detokenize(ByteDetokenizer(table), [1, 3, 4, 5, 6, 8, 7]) == "Hello🦊 you<tool▁sep>"
        decoder["decoders"].pop()  # type: ignore[attr-defined]
        table = byte_table(symbols, {0, 7}, decoder)
        assert table is not None
        assert detokenize(ByteDetokenizer(table), [1, 8]) == " Hello you"

    def test_of_metaspace(self) -> None:
        decoder = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        table = byte_table(["▁one", "▁two"], set(), decoder)
        assert table is not None
        assert detokenize(ByteDetokenizer(table), [0, 1]) == "one two"

    def test_does_not_decode_added_tokens(self) -> None:
        table = byte_table(["é", "é", "Ġ", "<—x▁>"], {1, 3}, {"type": "ByteLevel"})
        assert table is not None
        assert [table[i] for i in range(4)] == [b"\xe9", "é".encode(), b" ", "<—x▁>".encode()]

    @pytest.mark.parametrize(
        "decoder", [{"type": "WordPiece"}, {"type": "Sequence", "decoders": [{"type": "CTC"}]}, {}]
    )
    def test_is_none_for_unknown_decoders(self, decoder: dict[str, object]) -> None:
        assert byte_table(["a"], set(), decoder) is None


def test_a_continued_text_keeps_the_space_that_a_new_text_drops() -> None:
    table = ByteTable([b" a", b" b"], drop_first_space=True)
    assert ByteDetokenizer(table).add(0) == "a"
    assert ByteDetokenizer(table, starts=False).add(0) == " a"

    def decode(tokens: Sequence[int]) -> str:
        return "".join([" a", " b"][token] for token in tokens).removeprefix(" ")

    assert WindowDetokenizer(decode).add(0) == "a"
    assert WindowDetokenizer(decode, [1]).add(0) == " a"
