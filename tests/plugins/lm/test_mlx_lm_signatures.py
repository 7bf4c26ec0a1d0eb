"""Pins what mlx_host_lm.mlx_lm_api uses of mlx-lm and transformers; a failure here says what an upgrade changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlx_lm.utils
import pytest
from mlx_host_lm.mlx_lm_api import RESERVED_VARIABLES
from mlx_lm.generate import BatchGenerator, GenerationBatch, PromptProcessingBatch
from mlx_lm.models import cache
from mlx_lm.tokenizer_utils import TokenizerWrapper
from transformers import PreTrainedTokenizerBase


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls", "kwargs")]


@pytest.mark.parametrize(
    ("function", "used"),
    [
        (mlx_lm.utils.load, {"tokenizer_config", "adapter_path", "return_config", "trust_remote_code"}),
        (BatchGenerator, {"model", "stop_tokens", "sampler", "completion_batch_size", "prefill_step_size"}),
        (
            BatchGenerator.insert_segments,
            {"segments", "max_tokens", "caches", "all_tokens", "samplers", "logits_processors"},
        ),
        (BatchGenerator.remove, {"uids"}),
        (BatchGenerator.extract_cache, {"uids"}),
        (TokenizerWrapper, {"tokenizer", "eos_token_ids"}),
        (cache.make_prompt_cache, {"model"}),
        (cache.KVCache.trim, {"n"}),
        (PreTrainedTokenizerBase.encode, {"text", "add_special_tokens"}),
        (PreTrainedTokenizerBase.decode, {"token_ids", "skip_special_tokens"}),
    ],
)
def test_parameters_that_are_used_exist(function: Callable[..., Any], used: set[str]) -> None:
    assert used <= set(parameters(function))


def test_arguments_given_by_position_come_first() -> None:
    assert parameters(mlx_lm.utils.load)[0] == "path_or_hf_repo"
    assert parameters(BatchGenerator)[0] == "model"
    assert parameters(BatchGenerator.insert_segments)[0] == "segments"
    assert parameters(PreTrainedTokenizerBase.apply_chat_template)[0] == "conversation"
    assert parameters(BatchGenerator.next) == []
    assert parameters(BatchGenerator.close) == []


def test_responses_have_the_fields_that_are_read() -> None:
    token = {field.name for field in fields(GenerationBatch.Response)}
    assert token >= {"uid", "token", "logprobs", "finish_reason", "prompt_cache", "all_tokens"}
    assert {field.name for field in fields(PromptProcessingBatch.Response)} >= {"uid", "progress"}


def test_properties_that_are_read_exist() -> None:
    assert isinstance(BatchGenerator.prompt_cache_nbytes, property)
    assert isinstance(BatchGenerator.stream, property)
    for layer in (cache.KVCache, cache.RotatingKVCache, cache.ArraysCache, cache.CacheList):
        assert isinstance(layer.nbytes, property)
        assert isinstance(layer.state, property)
        assert callable(layer.merge)


def test_what_a_batch_has_drawn_is_what_it_says_next(tiny_llama: Path) -> None:
    """Rows tells it to the guides before the batch says it."""
    network, _ = mlx_lm.utils.load(tiny_llama)
    generator = BatchGenerator(network)
    processors: list[list[Any]] = [[], [lambda _, logits: logits]]
    uids = generator.insert_segments([[[5, 6]], [[7, 8]]], logits_processors=processors)
    while len(generator._generation_batch) < 2:
        generator.next()
    running = generator._generation_batch
    assert (running.uids, [list(chain) for chain in running.logits_processors]) == (uids, processors)
    drawn = running._next_tokens.tolist()
    _, said = generator.next()
    assert [answer.token for answer in said] == drawn


def test_every_argument_of_apply_chat_template_is_reserved_but_the_documents() -> None:
    # A request's chat_template_kwargs may hold documents, which are a template's variable like any other.
    assert set(parameters(PreTrainedTokenizerBase.apply_chat_template)) - {"documents"} <= RESERVED_VARIABLES


def test_tokenizer_has_the_attributes_that_are_read(tiny_llama: Path) -> None:
    wrapper = mlx_lm.utils.load_tokenizer(tiny_llama)
    assert isinstance(wrapper, TokenizerWrapper)
    assert wrapper.eos_token_ids == {2}
    assert wrapper.has_chat_template
    inner = wrapper._tokenizer
    assert inner.is_fast
    assert isinstance(inner.backend_tokenizer.decoder.__getstate__(), bytes)
    assert {0, 1, 2} <= set(inner.added_tokens_decoder)
    assert inner.convert_ids_to_tokens([1]) == ["<|im_start|>"]


def test_the_wrapper_decides_about_thinking_where_the_tokenizer_leaves_it_to_the_template(tiny_llama: Path) -> None:
    """The reason why mlx_lm_api renders with the inner tokenizer."""
    wrapper = mlx_lm.utils.load_tokenizer(tiny_llama)
    template = "{{ enable_thinking is defined }}"
    arguments: dict[str, Any] = {"chat_template": template, "tokenize": False}
    messages = [{"role": "user", "content": "x"}]
    assert wrapper.apply_chat_template(messages, **arguments) == "True"
    assert wrapper._tokenizer.apply_chat_template(messages, **arguments) == "False"
