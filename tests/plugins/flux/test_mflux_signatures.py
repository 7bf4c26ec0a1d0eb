"""What this backend uses of mflux and MLX is there, under the names and in the shapes that it relies on."""

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
from mlx_host_flux.mflux_api import PATCH, _Listener, find
from PIL import Image


@pytest.mark.parametrize(
    ("function", "given"),
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
def test_calls_bind(function: Callable[..., Any], given: dict[str, Any]) -> None:
    inspect.signature(function).bind(**given)


def test_a_listener_is_called_as_mflux_calls() -> None:
    seen: list[int] = []
    registry = CallbackRegistry()
    shown: list[float] = []

    def on_step(step: int, show: Callable[[], Image.Image]) -> None:
        seen.append(step)
        show()

    def show(latents: mx.array, config: object) -> Image.Image:
        shown.append(float(latents))
        return Image.new("1", (1, 1))

    registry.register(_Listener(on_step, show))
    context = GenerationContext(registry, 1, "p", ModelConfig.schnell())
    context.in_loop(0, mx.array(1.0), time_steps=object())
    context.in_loop(1, mx.array(1.0), time_steps=object(), denoised=mx.array(2.0))
    assert (seen, shown) == ([1, 2], [1.0, 2.0])
    assert registry.before_loop == registry.after_loop == registry.interrupt == []


def test_sizes_are_parameters() -> None:
    published = AVAILABLE_MODELS["flux2-klein-4b"]
    assert set(published.transformer_overrides) <= set(inspect.signature(Flux2Transformer).parameters)
    assert set(published.text_encoder_overrides) <= set(inspect.signature(Qwen3TextEncoder).parameters)
    assert Flux2VAE.latent_channels == 32


EDITS = {config.edit.path: config.edit for config in CONFIGS if config.edit is not None}


@pytest.mark.parametrize("path", EDITS)
def test_which_pipelines_read_the_alpha_channel(path: str) -> None:
    inputs = EDITS[path].inputs
    assert inputs is not None
    source = inspect.getsource(inspect.getmodule(find(path)) or find(path))
    assert ('.convert("RGBA") for path in image_paths' in source) == inputs.alpha


def test_names_that_are_read() -> None:
    assert SavedModelInfo.FILE_NAME == "mflux_model.json"
    assert ModelConfig.precision in (mx.bfloat16, mx.float32)
    assert {"image", "seed"} <= set(inspect.signature(GeneratedImage).parameters)
    assert {"tokenizer", "max_length"} <= set(inspect.signature(BaseTokenizer).parameters)
    assert callable(mx.clear_streams)
    assert PATCH == 16
