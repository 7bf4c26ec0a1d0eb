"""All calls into mflux and MLX: loads a model and generates images with it, on the calling thread."""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from huggingface_hub.errors import GatedRepoError
from mflux.callbacks.callback_registry import CallbackRegistry
from mflux.models.common.config.model_config import AVAILABLE_MODELS, ModelConfig
from mflux.models.common.resolution.config_resolution import ConfigResolution
from mflux.models.common.weights.saving.saved_model_info import SavedModelInfo
from mflux.utils.exceptions import ModelConfigError
from mflux.utils.image_util import ImageUtil
from mlx_host.errors import InvalidRequestError, LoadError, describe_error
from PIL import Image

from mlx_host_flux.configs import Config
from mlx_host_flux.pipelines import PipelineSpec

log = logging.getLogger(__name__)

# The seed that mflux's commands use to generate captions.
CAPTION_SEED = 42
# Width and height of an image token, in pixels.
PATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One image to generate.

    Args:
        prompt: The prompt or caption that is passed to the model.
        seed: The seed of the initial noise.
        size: Width and height in pixels.
        arguments: Further arguments of `generate_image`.
    """

    prompt: str
    seed: int
    size: tuple[int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)


# Called after each step with the step's number, from 1, and a function that decodes the partial image.
OnStep = Callable[[int, Callable[[], Image.Image]], None]


def import_object(path: str) -> Any:
    """Import the object that `module:name` refers to."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def detect_config_name(folder: Path, ref: str) -> str | None:
    """Detect the mflux registry key of a model folder; None if unknown.

    Uses the metadata that mflux-save writes into the folder, or else the model's path or hub id.
    """
    try:
        saved = json.loads((folder / SavedModelInfo.FILE_NAME).read_text(encoding="utf-8"))
        return str(saved["base_model"] or saved["model_name"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        key: str | None = ConfigResolution.resolve_key(ref)
        return key
    except ModelConfigError:
        return None


def on_cpu() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def end_streams() -> None:
    """End the MLX streams of the calling thread; if a thread ends without this call, the process aborts at exit."""
    mx.clear_streams()


def count_image_tokens(size: tuple[int, int]) -> int:
    """Return the number of patches of an image with this width and height."""
    return (size[0] // PATCH_SIZE) * (size[1] // PATCH_SIZE)


@contextmanager
def _redirect_output() -> Iterator[None]:
    """Discard mflux's progress bars and log what it prints: the terminal belongs to the host.

    Redirects the output of the whole process, so use it only while mflux is running.
    """
    output = io.StringIO()
    with redirect_stderr(io.StringIO()), redirect_stdout(output):
        yield
    for line in output.getvalue().splitlines():
        log.debug("mflux: %s", line)


class _StepCallback:
    """The mflux callback after each step.

    mflux evaluates the latents of a step only after its callbacks. This callback evaluates them first, so that
    `on_step` is called when the step is computed.
    """

    def __init__(self, on_step: OnStep, decode: Callable[[mx.array, Any], Image.Image]) -> None:
        self._on_step = on_step
        self._decode = decode
        self._steps = 0
        self._terminal = sys.stdout, sys.stderr

    def call_in_loop(
        self,
        t: int,
        seed: int,
        prompt: str,
        latents: mx.array,
        config: Any,
        time_steps: Any,
        denoised: mx.array | None = None,
    ) -> None:
        mx.eval(latents)
        self._steps += 1
        # Some models also return a prediction of the final image, which makes a better partial image.
        visible = latents if denoised is None else denoised
        stdout, stderr = self._terminal
        with redirect_stdout(stdout), redirect_stderr(stderr):
            self._on_step(self._steps, lambda: self._decode(visible, config))


class ImagePipeline:
    """A loaded mflux model. All methods must be called on the thread that created it.

    Args:
        config: The model.
        spec: The mflux class to load.
        folder: The folder of the checkpoint; None to let mflux download the published model.
        bits: Bits per weight: 4, 8, or 16 for no quantization.
        loras: LoRA files and their scales.
        dtype: auto, bfloat16 or float32.

    Raises LoadError.
    """

    def __init__(
        self,
        config: Config,
        spec: PipelineSpec,
        folder: Path | None,
        *,
        bits: int,
        loras: Sequence[tuple[Path, float]] = (),
        dtype: str = "auto",
    ) -> None:
        self._spec = spec
        self._bits = bits if bits < 16 else None
        # mflux has one setting for all models; this process loads only one.
        use_float32 = dtype == "float32" or (dtype == "auto" and on_cpu())
        ModelConfig.precision = mx.float32 if use_float32 else mx.bfloat16
        arguments: dict[str, Any] = {"model_config": _model_config(config, spec, folder), "quantize": self._bits}
        if folder is not None:
            arguments["model_path"] = str(folder)
        if loras:
            arguments["lora_paths"] = [str(path) for path, _ in loras]
            arguments["lora_scales"] = [scale for _, scale in loras]
        output = io.StringIO()
        try:
            with redirect_stdout(output):
                self._model = import_object(spec.path)(**arguments)
        except GatedRepoError as error:
            repository = AVAILABLE_MODELS[config.key].model_name
            raise LoadError(f"{repository!r} is gated. Accept its terms on its hub page, then set HF_TOKEN.") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            source = f"folder {str(folder)!r}" if folder is not None else AVAILABLE_MODELS[config.key].model_name
            raise LoadError(f"mflux cannot load {config.name!r} from {source}: {describe_error(error)}.") from error
        finally:
            for line in output.getvalue().splitlines():
                log.info("mflux: %s", line)
        self._latents = import_object(spec.latents) if spec.latents is not None else None

    def generate(self, spec: ImageSpec, on_step: OnStep) -> Image.Image:
        """Generate an image; an exception of `on_step` cancels the generation and is raised."""
        registry = CallbackRegistry()
        registry.register(_StepCallback(on_step, self._decode))
        self._model.callbacks = registry
        width, height = spec.size
        with _redirect_output():
            generated = self._model.generate_image(
                prompt=spec.prompt, seed=spec.seed, width=width, height=height, **spec.arguments
            )
        image: Image.Image = generated.image
        return image

    @property
    def supports_partial_images(self) -> bool:
        """Whether unfinished images can be decoded."""
        return self._latents is not None

    def _decode(self, latents: mx.array, config: Any) -> Image.Image:
        assert self._latents is not None
        unpacked = self._latents.unpack_latents(latents=latents, height=config.height, width=config.width)
        vae = self._component("vae")
        if vae is None:
            decoded = unpacked  # A pixel-space model, without a VAE.
        elif hasattr(vae, "decode_packed_latents") and unpacked.shape[1] > vae.latent_channels:
            decoded = vae.decode_packed_latents(unpacked)
        else:
            decoded = vae.decode(unpacked)
        image: Image.Image = ImageUtil.to_pil(decoded)
        return image

    def _component(self, name: str) -> Any:
        """Return a component of the model; None if its class has no such attribute."""
        return getattr(self._model, name, None)

    def count_text_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens without special tokens; with several text encoders, the highest count."""
        tokenizers = self._component("tokenizers") or {}
        return max((len(tokenizer.tokenizer.tokenize(prompt)) for tokenizer in tokenizers.values()), default=0)

    @property
    def max_text_tokens(self) -> int:
        """The number of prompt tokens after which mflux truncates."""
        tokenizers = self._component("tokenizers") or {}
        return max((tokenizer.max_length for tokenizer in tokenizers.values()), default=0)

    def caption(self, prompt: str, image: Image.Image | None = None, mask: Image.Image | None = None) -> str:
        """Convert a prompt to the text that the model was trained on; most models take the prompt unchanged.

        FIBO takes JSON captions: like mflux's commands, this converts plain text with the vision model FIBO-vlm. Raises
        InvalidRequestError for JSON captions with an unsupported structure.
        """
        match self._spec.caption:
            case "json" | "json-edit" if not _is_json_object(prompt):
                return self._generate_caption(prompt, image, mask)
            case "json-edit":
                return _edit_caption(prompt)
            case "checked" | "checked-edit" as caption:
                _check_caption(prompt, edit=caption == "checked-edit")
        return prompt

    def _generate_caption(self, prompt: str, image: Image.Image | None, mask: Image.Image | None) -> str:
        from mflux.models.fibo_vlm.model.fibo_vlm import FiboVLM

        with _redirect_output():
            captioner = FiboVLM(quantize=self._bits)
            if image is None:
                caption = captioner.generate(prompt=prompt, seed=CAPTION_SEED)
            else:
                if mask is not None:
                    # Both FIBO-vlm and FIBO expect grey where the image is to change.
                    grey = Image.new("RGB", image.size, (128, 128, 128))
                    image = Image.composite(grey, image.convert("RGB"), mask.convert("L"))
                caption = captioner.edit(
                    image=image, edit_instruction=prompt, use_mask=mask is not None, seed=CAPTION_SEED
                )
        # Like mflux's commands: FIBO-vlm is not kept in memory next to FIBO.
        del captioner
        self.release()
        return str(caption)

    def release(self) -> None:
        """Free the memory that a request has used."""
        # mflux caches the encoding of every prompt without a limit.
        for name in ("prompt_cache", "_prompt_cache"):
            if (cache := self._component(name)) is not None:
                cache.clear()
        gc.collect()
        mx.clear_cache()


def _model_config(config: Config, spec: PipelineSpec, folder: Path | None) -> ModelConfig:
    published = AVAILABLE_MODELS[config.key]
    if folder is None or not spec.sizes_in_folder:
        return published
    from mflux.models.flux2.model.flux2_text_encoder.qwen3_text_encoder import Qwen3TextEncoder
    from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer

    # mflux has only the published layer sizes; other sizes are in the folder's config.json files.
    model_config = copy.deepcopy(published)
    model_config.transformer_overrides |= _layer_sizes(folder / "transformer", Flux2Transformer)
    model_config.text_encoder_overrides |= _layer_sizes(folder / "text_encoder", Qwen3TextEncoder)
    return model_config


def _layer_sizes(folder: Path, module_class: type) -> dict[str, Any]:
    """Read the arguments of a module's constructor from a folder's config.json. Raises LoadError."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadError(f"Cannot read {str(folder / 'config.json')!r}: {describe_error(error)}.") from error
    parameters = inspect.signature(module_class).parameters
    return {name: value for name, value in config.items() if name in parameters and value is not None}


def _is_json_object(prompt: str) -> bool:
    try:
        return isinstance(json.loads(prompt), dict)
    except ValueError:
        return False


def _edit_caption(prompt: str) -> str:
    from mflux.models.fibo.variants.edit.util import FiboEditUtil

    try:
        return str(FiboEditUtil.ensure_edit_instruction(prompt))
    except ValueError as error:
        raise InvalidRequestError(f"prompt: {error}", param="prompt") from error


def _check_caption(prompt: str, *, edit: bool) -> None:
    from mflux.models.fibo2.model.fibo2_text_encoder.fibo2_caption_check import Fibo2CaptionCheck

    try:
        Fibo2CaptionCheck.check(prompt, edit=edit)
    except ValueError as error:
        raise InvalidRequestError(f"prompt: {error}", param="prompt") from error
