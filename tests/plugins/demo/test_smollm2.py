"""The converted SmolLM2: its config, its tokenizer and its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx_lm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host_demo import smollm2 as conversion
from mlx_host_demo.catalog import MODELS
from tokenizers import Tokenizer
from transformers import AutoTokenizer

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"),
    *("<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>"),
    *("<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"),
]


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    return Tokenizer.from_file(str(smollm2 / "tokenizer.json"))


def generate(folder: Path) -> str:
    model, tokenizer = mlx_lm.load(str(folder))[:2]
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)
    return str(mlx_lm.generate(model, tokenizer, prompt, max_tokens=20))


def test_the_converted_model_generates_the_expected_text(smollm2: Path) -> None:
    assert generate(smollm2) == "The capital of France is Paris."


@pytest.mark.parametrize("precision", ["float32", "4bit"])
def test_both_precisions_generate_the_same_text(precision: conversion.Precision, tmp_path: Path) -> None:
    weights, _ = MODELS["smollm2"].weights()
    conversion.convert_to(precision, weights, tmp_path, lambda stage, done, total, note="": None)
    config = json.loads((tmp_path / "config.json").read_text())
    assert ("quantization" in config) == (precision == "4bit")
    try:
        assert generate(tmp_path) == "The capital of France is Paris."
    finally:
        (tmp_path / "model.safetensors").unlink()


def test_the_end_of_a_turn_is_the_eos_token(smollm2: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer.eos_token == "<|im_end|>"
    assert json.loads((smollm2 / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id == 2


def test_chat_template_is_chatml(smollm2: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    messages = [{"role": "system", "content": "Be brief."}, *QUESTION, {"role": "assistant", "content": "Paris."}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\nParis.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert [rendered.count(token) for token in (1, 2)] == [4, 3]
    assert tokenizer.decode(rendered, skip_special_tokens=True).startswith("system\nBe brief.")


@pytest.mark.parametrize("index", range(len(SPECIAL)))
def test_special_tokens_have_one_id_anywhere(tokenizer: Tokenizer, index: int) -> None:
    token = SPECIAL[index]
    assert tokenizer.encode(token).ids == [index]
    encoded = tokenizer.encode(f"a{token}b")
    assert encoded.ids.count(index) == 1
    assert tokenizer.decode(encoded.ids, skip_special_tokens=True) == "ab"
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == f"a{token}b"


# SmolLM2 has no tokens for a few bytes, which occur in rare control characters and unassigned planes.
SUPPORTED_CHARACTERS = st.characters(
    codec="utf-8", max_codepoint=0x3FFFF, exclude_characters="\x04\x06\x13\x14\x16\x1d"
)


@given(st.text(SUPPORTED_CHARACTERS))
def test_decoding_inverts_encoding(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    "text",
    [
        " leading and trailing  ",
        "tabs\tand\r\nnew\n\n\nlines   \n",
        "def f(x):\n    return {'a': x ** 2}  # it's 3.14\n",
        "ça, naïve, Ünïcödé, 東京, Привет, مرحبا, हिन्दी",
        "👩‍👩‍👧‍👦🇫🇷 e\u0301 \u200b\ufeff\x00\x7f",
        "1,234,567.89e-10 and ٣٤٥ and ²",
        "don't , they 're . spaced ?",
    ],
)
def test_decoding_inverts_encoding_of_realistic_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(st.text("0123456789", min_size=1))
def test_each_digit_is_a_token(tokenizer: Tokenizer, digits: str) -> None:
    assert tokenizer.encode(digits).tokens == list(digits)


def test_common_words_are_one_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("What is the capital of France?").tokens == [
        *("What", "Ġis", "Ġthe", "Ġcapital", "Ġof", "ĠFrance", "?")
    ]
