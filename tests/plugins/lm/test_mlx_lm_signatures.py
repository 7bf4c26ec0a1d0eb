"""Pins what mlx_host_lm.mlx_lm_api uses of mlx-lm; a failure here shows what an upgrade changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlx_lm.utils
import pytest
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
        (cache.make_prompt_cache, {"model"}),
        (cache.KVCache.trim, {"n"}),
    ],
)
def test_used_parameters_exist(function: Callable[..., Any], used: set[str]) -> None:
    assert used <= set(parameters(function))


def test_positional_arguments_come_first() -> None:
    assert parameters(mlx_lm.utils.load)[0] == "path_or_hf_repo"
    assert parameters(BatchGenerator)[0] == "model"
    assert parameters(BatchGenerator.insert_segments)[0] == "segments"
    assert parameters(BatchGenerator.next) == []
    assert parameters(BatchGenerator.close) == []


def test_responses_have_the_used_fields() -> None:
    token = {field.name for field in fields(GenerationBatch.Response)}
    assert token >= {"uid", "token", "logprobs", "finish_reason", "prompt_cache", "all_tokens"}
    assert {field.name for field in fields(PromptProcessingBatch.Response)} >= {"uid", "progress"}


def test_used_properties_exist() -> None:
    assert isinstance(BatchGenerator.prompt_cache_nbytes, property)
    assert isinstance(BatchGenerator.stream, property)
    for layer in (cache.KVCache, cache.RotatingKVCache, cache.ArraysCache, cache.CacheList):
        assert isinstance(layer.nbytes, property)
        assert isinstance(layer.state, property)
        assert callable(layer.merge)


def test_sampled_tokens_are_returned_in_the_next_step(tiny_llama: Path) -> None:
    """LmBatch passes them to the grammar matchers before the batch returns them."""
    network, _ = mlx_lm.utils.load(tiny_llama)
    generator = BatchGenerator(network)
    processors: list[list[Any]] = [[], [lambda _, logits: logits]]
    uids = generator.insert_segments([[[5, 6]], [[7, 8]]], logits_processors=processors)
    while len(generator._generation_batch) < 2:
        generator.next()
    running = generator._generation_batch
    assert (running.uids, [list(chain) for chain in running.logits_processors]) == (uids, processors)
    sampled = running._next_tokens.tolist()
    _, responses = generator.next()
    assert [response.token for response in responses] == sampled


def test_the_tokenizer_wrapper_has_the_used_attributes(tiny_llama: Path) -> None:
    wrapper = mlx_lm.utils.load_tokenizer(tiny_llama)
    assert isinstance(wrapper, TokenizerWrapper)
    assert wrapper.eos_token_ids == {2}
    assert wrapper.has_chat_template
    assert isinstance(wrapper._tokenizer, PreTrainedTokenizerBase)


def test_only_the_tokenizer_wrapper_sets_enable_thinking(tiny_llama: Path) -> None:
    """Why conversations are rendered with the inner tokenizer."""
    wrapper = mlx_lm.utils.load_tokenizer(tiny_llama)
    template = "{{ enable_thinking is defined }}"
    arguments: dict[str, Any] = {"chat_template": template, "tokenize": False}
    messages = [{"role": "user", "content": "x"}]
    assert wrapper.apply_chat_template(messages, **arguments) == "True"
    assert wrapper._tokenizer.apply_chat_template(messages, **arguments) == "False"
