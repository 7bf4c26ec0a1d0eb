"""Pins what mlx_host_text uses of transformers; a failure here names what an upgrade changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlx_host_text.chat_template import RESERVED_VARIABLES
from transformers import AutoTokenizer, PreTrainedTokenizerBase


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "kwargs")]


@pytest.mark.parametrize(
    ("function", "used"),
    [
        (PreTrainedTokenizerBase.encode, {"text", "add_special_tokens"}),
        (PreTrainedTokenizerBase.decode, {"token_ids", "skip_special_tokens"}),
        (
            PreTrainedTokenizerBase.__call__,
            {
                "text",
                "padding",
                "truncation",
                "max_length",
                "return_attention_mask",
                "return_token_type_ids",
                "verbose",
            },
        ),
    ],
)
def test_used_parameters_exist(function: Callable[..., Any], used: set[str]) -> None:
    assert used <= set(parameters(function))


def test_the_conversation_is_the_first_parameter_of_apply_chat_template() -> None:
    assert parameters(PreTrainedTokenizerBase.apply_chat_template)[0] == "conversation"


def test_all_parameters_of_apply_chat_template_except_documents_are_reserved() -> None:
    # chat_template_kwargs may contain documents, which are an ordinary template variable.
    assert set(parameters(PreTrainedTokenizerBase.apply_chat_template)) - {"documents"} <= RESERVED_VARIABLES


def test_a_tokenizer_has_the_used_attributes(tiny_llama: Path) -> None:
    inner = AutoTokenizer.from_pretrained(tiny_llama)
    assert inner.is_fast
    assert inner.eos_token_id == 2
    assert isinstance(inner.chat_template, str)
    assert isinstance(inner.backend_tokenizer.decoder.__getstate__(), bytes)
    assert {0, 1, 2} <= set(inner.added_tokens_decoder)
    assert inner.convert_ids_to_tokens([1]) == ["<|im_start|>"]
    assert inner.convert_tokens_to_ids("<|im_start|>") == 1
    assert isinstance(inner.model_max_length, int | float)
    for name in ("bos_token", "pad_token_id", "sep_token_id"):
        assert hasattr(inner, name)
