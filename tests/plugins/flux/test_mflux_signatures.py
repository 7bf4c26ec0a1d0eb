"""The installed mflux and MLX have the names and signatures that this backend uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mflux.callbacks.callback_registry import CallbackRegistry
from mflux.callbacks.generation_context import GenerationContext
from mflux.models.common.config.model_config import AVAILABLE_MODELS, ModelConfig
from mflux.models.common.resolution.config_resolution import ConfigResolution
from mflux.models.common.tokenizer.tokenizer import BaseTokenizer
from mflux.models.common.weights.saving.saved_model_info import SavedModelInfo
from mflux.models.fibo.variants.edit.util import FiboEditUtil
from mflux.models.fibo2.model.fibo2_text_encoder.fibo2_caption_check import Fibo2CaptionCheck
from mflux.models.fibo_vlm.model.fibo_vlm import FiboVLM
from mflux.models.flux2.model.flux2_text_encoder.qwen3_text_encoder import Qwen3TextEncoder
from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer
from mflux.models.flux2.model.flux2_vae.vae import Flux2VAE
from mflux.utils.generated_image import GeneratedImage
from mflux.utils.image_util import ImageUtil
from mlx_host_flux.configs import CONFIGS
from mlx_host_flux.mflux_api import PATCH_SIZE, _StepCallback, import_object
from PIL import Image


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (ConfigResolution.resolve_key, {"model_name": "dev"}),
        (FiboVLM, {"quantize": 8}),
        (FiboVLM.generate, {"self": None, "prompt": "p", "seed": 42}),
        (FiboVLM.edit, {"self": None, "image": None, "edit_instruction": "p", "use_mask": True, "seed": 42}),
        (FiboEditUtil.ensure_edit_instruction, {"prompt": "{}"}),
        (Fibo2CaptionCheck.check, {"prompt": "p", "edit": True}),
        (ImageUtil.to_pil, {"decoded_latents": None}),
        (Flux2VAE.decode_packed_latents, {"self": None, "packed_latents": None}),
        (CallbackRegistry.register, {"self": None, "callback": None}),
    ],
)
def test_calls_bind(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    inspect.signature(function).bind(**arguments)


def test_the_step_callback_matches_the_calls_of_mflux() -> None:
    steps: list[int] = []
    registry = CallbackRegistry()
    decoded: list[float] = []

    def on_step(step: int, decode_partial: Callable[[], Image.Image]) -> None:
        steps.append(step)
        decode_partial()

    def decode(latents: mx.array, config: object) -> Image.Image:
        decoded.append(float(latents))
        return Image.new("1", (1, 1))

    registry.register(_StepCallback(on_step, decode))
    context = GenerationContext(registry, 1, "p", ModelConfig.schnell())
    context.in_loop(0, mx.array(1.0), time_steps=object())
    context.in_loop(1, mx.array(1.0), time_steps=object(), denoised=mx.array(2.0))
    assert (steps, decoded) == ([1, 2], [1.0, 2.0])
    assert registry.before_loop == registry.after_loop == registry.interrupt == []


def test_layer_sizes_are_constructor_parameters() -> None:
    published = AVAILABLE_MODELS["flux2-klein-4b"]
    assert set(published.transformer_overrides) <= set(inspect.signature(Flux2Transformer).parameters)
    assert set(published.text_encoder_overrides) <= set(inspect.signature(Qwen3TextEncoder).parameters)
    assert Flux2VAE.latent_channels == 32


EDITS = {config.edit.path: config.edit for config in CONFIGS if config.edit is not None}


@pytest.mark.parametrize("path", EDITS)
def test_alpha_is_set_for_the_pipelines_that_use_it(path: str) -> None:
    inputs = EDITS[path].inputs
    assert inputs is not None
    source = inspect.getsource(inspect.getmodule(import_object(path)) or import_object(path))
    assert ('.convert("RGBA") for path in image_paths' in source) == inputs.alpha


def test_attributes_that_this_backend_reads_exist() -> None:
    assert SavedModelInfo.FILE_NAME == "mflux_model.json"
    assert ModelConfig.precision in (mx.bfloat16, mx.float32)
    assert {"image", "seed"} <= set(inspect.signature(GeneratedImage).parameters)
    assert {"tokenizer", "max_length"} <= set(inspect.signature(BaseTokenizer).parameters)
    assert callable(mx.clear_streams)
    assert PATCH_SIZE == 16
