"""All contact with mflux and MLX: a model is loaded, and makes one picture after the other, on the calling thread."""

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
from mlx_host.errors import InvalidRequestError, LoadError
from PIL import Image

from mlx_host_flux.configs import Config, Pipeline

log = logging.getLogger(__name__)

# The seed that mflux's own commands write captions with.
CAPTION_SEED = 42
# A token of the pictures is so many pixels wide and high.
PATCH = 16


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture to be made; `arguments` go to `generate_image` as they are."""

    prompt: str
    seed: int
    size: tuple[int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)


# Called after a step with its number and with what shows the picture as it looks by then.
OnStep = Callable[[int, Callable[[], Image.Image]], None]


def find(path: str) -> Any:
    """Import what `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def key_of(folder: Path, ref: str) -> str | None:
    """The registry key of the model in a folder: what mflux wrote there as it saved it, else what its name says."""
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
    """End what MLX runs for the calling thread; if that thread is gone first, the process aborts as it ends."""
    mx.clear_streams()


def image_tokens(size: tuple[int, int]) -> int:
    """How many patches make a picture of this width and height."""
    return (size[0] // PATCH) * (size[1] // PATCH)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep mflux's bars and remarks off the terminal, which is the host's; the remarks go to the log.

    It holds for the whole process, so it must not last longer than mflux is at work.
    """
    said = io.StringIO()
    with redirect_stderr(io.StringIO()), redirect_stdout(said):
        yield
    for line in said.getvalue().splitlines():
        log.debug("mflux: %s", line)


class _Listener:
    """What mflux tells of each step; it evaluates the latents only afterwards, so a step is done once they are."""

    def __init__(self, on_step: OnStep, show: Callable[[mx.array, Any], Image.Image]) -> None:
        self._on_step = on_step
        self._show = show
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
        # Some models say what the picture would be without the noise, which is more to look at.
        seen = latents if denoised is None else denoised
        stdout, stderr = self._terminal
        with redirect_stdout(stdout), redirect_stderr(stderr):
            self._on_step(self._steps, lambda: self._show(seen, config))


class Painter:
    """A loaded model of mflux's; all its methods are for the thread that made it."""

    def __init__(
        self,
        config: Config,
        pipeline: Pipeline,
        folder: Path | None,
        *,
        bits: int,
        loras: Sequence[tuple[Path, float]] = (),
        dtype: str = "auto",
    ) -> None:
        self._pipeline = pipeline
        self._bits = bits if bits < 16 else None
        # mflux has this one setting for all its models; in this process there is one.
        wide = dtype == "float32" or (dtype == "auto" and on_cpu())
        ModelConfig.precision = mx.float32 if wide else mx.bfloat16
        given: dict[str, Any] = {"model_config": _model_config(config, pipeline, folder), "quantize": self._bits}
        if folder is not None:
            given["model_path"] = str(folder)
        if loras:
            given["lora_paths"] = [str(path) for path, _ in loras]
            given["lora_scales"] = [scale for _, scale in loras]
        said = io.StringIO()
        try:
            with redirect_stdout(said):
                self._model = find(pipeline.path)(**given)
        except GatedRepoError as error:
            repository = AVAILABLE_MODELS[config.key].model_name
            raise LoadError(f"{repository!r} is gated: accept its terms on its page, then set HF_TOKEN.") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            where = f"the folder {str(folder)!r}" if folder is not None else AVAILABLE_MODELS[config.key].model_name
            why = " ".join(str(error).split())
            raise LoadError(f"mflux cannot load {config.name!r} from {where}: {why}") from error
        finally:
            for line in said.getvalue().splitlines():
                log.info("mflux: %s", line)
        self._latents = find(pipeline.latents) if pipeline.latents is not None else None

    def paint(self, shot: Shot, on_step: OnStep) -> Image.Image:
        """Make a picture; what `on_step` raises ends it."""
        registry = CallbackRegistry()
        registry.register(_Listener(on_step, self._show))
        self._model.callbacks = registry
        width, height = shot.size
        with _quiet():
            made = self._model.generate_image(
                prompt=shot.prompt, seed=shot.seed, width=width, height=height, **shot.arguments
            )
        image: Image.Image = made.image
        return image

    @property
    def shows_steps(self) -> bool:
        """Whether a picture can be seen before it is finished."""
        return self._latents is not None

    def _show(self, latents: mx.array, config: Any) -> Image.Image:
        assert self._latents is not None
        unpacked = self._latents.unpack_latents(latents=latents, height=config.height, width=config.width)
        vae = self._part("vae")
        if vae is None:
            decoded = unpacked  # These models work on the pixels themselves.
        elif hasattr(vae, "decode_packed_latents") and unpacked.shape[1] > vae.latent_channels:
            decoded = vae.decode_packed_latents(unpacked)
        else:
            decoded = vae.decode(unpacked)
        image: Image.Image = ImageUtil.to_pil(decoded)
        return image

    def _part(self, name: str) -> Any:
        """A part of the model; None where a family has none of that name."""
        return getattr(self._model, name, None)

    def text_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens, without special ones; by the longest count where a model reads it twice."""
        tokenizers = self._part("tokenizers") or {}
        return max((len(each.tokenizer.tokenize(prompt)) for each in tokenizers.values()), default=0)

    @property
    def most_text_tokens(self) -> int:
        """How many tokens of a prompt are read; mflux drops the others."""
        tokenizers = self._part("tokenizers") or {}
        return max((each.max_length for each in tokenizers.values()), default=0)

    def caption(self, prompt: str, image: Image.Image | None = None, mask: Image.Image | None = None) -> str:
        """Make of a prompt what the model reads; for most models that is the prompt.

        FIBO reads JSON; plain text is put into it by mflux's own vision model, as mflux's commands do. Raises
        InvalidRequestError for JSON that is not what the model was trained on.
        """
        match self._pipeline.caption:
            case "json" | "json-edit" if not _is_object(prompt):
                return self._write_caption(prompt, image, mask)
            case "json-edit":
                return _edit_caption(prompt)
            case "checked" | "checked-edit" as kind:
                _check_caption(prompt, edit=kind == "checked-edit")
        return prompt

    def _write_caption(self, prompt: str, image: Image.Image | None, mask: Image.Image | None) -> str:
        from mflux.models.fibo_vlm.model.fibo_vlm import FiboVLM

        with _quiet():
            writer = FiboVLM(quantize=self._bits)
            if image is None:
                written = writer.generate(prompt=prompt, seed=CAPTION_SEED)
            else:
                if mask is not None:
                    # What is to change is grey to the writer, as it is to the model.
                    grey = Image.new("RGB", image.size, (128, 128, 128))
                    image = Image.composite(grey, image.convert("RGB"), mask.convert("L"))
                written = writer.edit(
                    image=image, edit_instruction=prompt, use_mask=mask is not None, seed=CAPTION_SEED
                )
        # Like mflux's commands: the two models would take the memory of both.
        del writer
        self.release()
        return str(written)

    def release(self) -> None:
        """Give back what a request has left behind."""
        # mflux keeps the encoding of every prompt that it has seen.
        for name in ("prompt_cache", "_prompt_cache"):
            if (cache := self._part(name)) is not None:
                cache.clear()
        gc.collect()
        mx.clear_cache()


def _model_config(config: Config, pipeline: Pipeline, folder: Path | None) -> ModelConfig:
    known = AVAILABLE_MODELS[config.key]
    if folder is None or not pipeline.sizes_in_folder:
        return known
    from mflux.models.flux2.model.flux2_text_encoder.qwen3_text_encoder import Qwen3TextEncoder
    from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer

    # mflux knows the published sizes; a model of other sizes says them where the published ones do, too.
    own = copy.deepcopy(known)
    own.transformer_overrides |= _sizes(folder / "transformer", Flux2Transformer)
    own.text_encoder_overrides |= _sizes(folder / "text_encoder", Qwen3TextEncoder)
    return own


def _sizes(folder: Path, network: type) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadError(f"{str(folder / 'config.json')!r} cannot be read: {error}") from error
    taken = inspect.signature(network).parameters
    return {name: value for name, value in config.items() if name in taken and value is not None}


def _is_object(prompt: str) -> bool:
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
