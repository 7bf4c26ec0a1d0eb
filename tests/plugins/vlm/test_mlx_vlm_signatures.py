"""Pins what mlx_host_vlm.mlx_vlm_api uses of mlx-vlm; a failure here shows what an upgrade changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import mlx_vlm
import pytest
from mlx_vlm.generate import ar
from mlx_vlm.generate.diffusion import is_diffusion_model
from mlx_vlm.models import cache, gemma4, qwen2_vl
from mlx_vlm.models.base import InputEmbeddingsFeatures
from mlx_vlm.prompt_utils import get_message_json
from mlx_vlm.utils import StoppingCriteria, load_config, prepare_inputs
from mlx_vlm.vision_cache import VisionFeatureCache


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls", "kwargs")]


@pytest.mark.parametrize(
    ("function", "used"),
    [
        (mlx_vlm.load, {"adapter_path"}),
        (prepare_inputs, {"images", "audio", "prompts", "image_token_index"}),
        (get_message_json, {"role", "num_audios"}),
        (ar._chunked_prefill_enabled, {"prefill_kwargs"}),
        (ar._slice_sequence_aligned_prompt_kwarg, {"start", "stop"}),
        (
            ar.PromptProcessingBatch,
            {
                *("model", "uids", "input_ids", "max_tokens", "inputs_embeds", "prompt_kwargs"),
                *("logits_processors", "warm_cache"),
            },
        ),
        (ar.PromptProcessingBatch.generate, {"compute_logprobs"}),
        (ar.GenerationBatch.empty, {"compute_logprobs"}),
        (qwen2_vl.Model.get_input_embeddings, {"input_ids", "pixel_values"}),
        (gemma4.Model.get_input_embeddings, {"input_ids", "pixel_values", "input_features"}),
    ],
)
def test_used_parameters_exist(function: Callable[..., Any], used: set[str]) -> None:
    assert used <= set(parameters(function))


def test_positional_arguments_come_first() -> None:
    assert parameters(mlx_vlm.load)[0] == "path_or_hf_repo"
    assert parameters(load_config)[0] == "model_path"
    assert parameters(prepare_inputs)[0] == "processor"
    assert parameters(StoppingCriteria)[:2] == ["eos_token_ids", "tokenizer"]
    assert parameters(VisionFeatureCache) == ["max_size"]
    assert parameters(is_diffusion_model)[0] == "model"
    assert parameters(get_message_json)[:2] == ["model_name", "prompt"]
    assert parameters(cache.make_prompt_cache)[0] == "model"
    assert parameters(ar._chunked_prefill_enabled)[0] == "model"
    assert parameters(ar._is_sequence_aligned_prompt_kwarg) == ["key", "v", "sequence_length"]
    assert parameters(ar._slice_sequence_aligned_prompt_kwarg)[:2] == ["key", "v"]
    assert parameters(ar.PromptProcessingBatch.generate)[:2] == ["sampler", "stop_criteria"]
    assert parameters(ar.GenerationBatch.empty)[:3] == ["model", "sampler", "stop_criteria"]
    assert parameters(ar.GenerationBatch.extend) == ["other"]
    assert parameters(ar.GenerationBatch.filter) == ["keep"]
    assert parameters(ar.GenerationBatch.next) == parameters(ar.PromptProcessingBatch.prompt_step) == []


def test_used_fields_exist() -> None:
    assert {field.name for field in fields(ar.GenerationBatch.Response)} >= {"uid", "token"}
    assert {field.name for field in fields(InputEmbeddingsFeatures)} >= {"inputs_embeds", "position_ids", "rope_deltas"}
    empty = ar.GenerationBatch.empty(object(), print, print)
    assert (empty.uids, empty.prompt_cache) == ([], [])


def test_caches_can_be_merged_and_extracted() -> None:
    for layer in (cache.KVCache, cache.RotatingKVCache, cache.ArraysCache, cache.CacheList):
        assert isinstance(layer.nbytes, property)
        assert isinstance(layer.state, property) or layer is cache.CacheList
        assert callable(layer.merge)
    for batched in (cache.BatchKVCache, cache.BatchRotatingKVCache, cache.ArraysCache, cache.CacheList):
        assert callable(batched.extract)
        assert callable(batched.filter)
        assert callable(batched.extend)
    assert parameters(cache.KVCache.trim) == ["n"]


def test_a_processor_can_receive_the_last_token_only() -> None:
    """Why SequenceProcessor has process_last_token: without it, mlx-vlm rebuilds all tokens in every step."""
    assert "process_last_token" in inspect.getsource(ar.GenerationBatch._step)
