"""The table of models matches the installed mflux: names, classes, arguments and defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from mflux.cli.defaults import defaults
from mflux.models.anima.variants.txt2img.anima import Anima
from mflux.models.common.cli import save
from mflux.models.common.config.model_config import AVAILABLE_MODELS
from mflux.models.ernie_image.cli import ernie_image_generate
from mflux.models.fibo2.variants.fibo2_core import _Fibo2Core
from mflux.models.iris.variants.txt2img.iris import Iris
from mflux.models.krea2.cli import krea2_generate
from mflux.models.moss_image.variants.txt2img.moss_image import MOSSImage
from mlx_host_flux.configs import BY_NAME, CONFIGS, EDIT_NAMES, TASKS, Config, Task, choose
from mlx_host_flux.mflux_api import ImagePipeline, import_object
from mlx_host_flux.pipelines import PipelineSpec

PIPELINES = [
    pytest.param(config, pipeline, id=f"{config.name}-{task}")
    for config in CONFIGS
    for task in TASKS
    if (pipeline := config.pipeline(task)) is not None
]
CLASSES = sorted(
    {pipeline.path for _, pipeline in (case.values for case in PIPELINES) if isinstance(pipeline, PipelineSpec)}
)

# Models of mflux that neither generate images from text nor edit images by a prompt.
UNSUPPORTED = {
    "dev-redux": "image variations",
    "dev-depth": "requires a depth map",
    "dev-fill-catvton": "virtual try-on",
    "fibo-edit-rmbg": "background removal",
    "seedvr2-3b": "upscaling",
    "seedvr2-7b": "upscaling",
}

# Defaults of other servers, used where they differ from those of mflux's commands.
COMPATIBLE_STEPS = {
    "flux-krea-dev": 28,
    "flux-kontext-dev": 28,
    "qwen-image": 50,
    "qwen-image-edit": 50,
    "qwen-image-edit-2511": 50,
}
COMPATIBLE_GUIDANCE = {"flux-krea-dev": 4.5, "qwen-image": 4.0, "qwen-image-edit": 4.0, "qwen-image-edit-2511": 4.0}


def test_every_text_to_image_and_edit_model_of_mflux_is_listed() -> None:
    controlled = {key for key, config in AVAILABLE_MODELS.items() if config.controlnet_model is not None}
    assert {config.key for config in CONFIGS} == set(AVAILABLE_MODELS) - controlled - set(UNSUPPORTED)


def test_names_are_unique() -> None:
    names = [name for config in CONFIGS for name in {config.name, config.key, *config.aliases}]
    assert len(names) == len(set(names))
    assert not set(EDIT_NAMES) & set(BY_NAME)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_names_match_the_aliases_of_mflux(config: Config) -> None:
    known = AVAILABLE_MODELS[config.key]
    assert set(known.aliases) >= {config.key, *config.aliases}
    assert all(choose(name, None)[0] is config for name in known.aliases)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_default_steps_match_mflux(config: Config) -> None:
    default = defaults.MODEL_INFERENCE_STEPS.get(config.key, defaults.DEFAULT_INFERENCE_STEPS)
    assert config.steps == COMPATIBLE_STEPS.get(config.name, default)
    assert config.name not in COMPATIBLE_STEPS or default != config.steps, "mflux now has the same default"


# Guidance defaults that mflux declares; for other models the default is the value that has no effect.
DECLARED_GUIDANCE: dict[str, float] = {
    "flux-dev": defaults.GUIDANCE_SCALE,
    "flux-krea-dev": defaults.GUIDANCE_SCALE,
    "flux-kontext-dev": defaults.GUIDANCE_SCALE_KONTEXT,
    "flux-fill-dev": defaults.DEFAULT_DEV_FILL_GUIDANCE,
    "flux3-image-klein-base": defaults.GUIDANCE_SCALE,
    "qwen-image": defaults.GUIDANCE_SCALE,
    "qwen-image-edit": defaults.GUIDANCE_SCALE_KONTEXT,
    "qwen-image-edit-2511": defaults.GUIDANCE_SCALE_KONTEXT,
    "fibo-edit": defaults.GUIDANCE_SCALE,
    "fibo2": _Fibo2Core.DEFAULT_GUIDANCE,
    "iris-3b-base": Iris.DEFAULT_GUIDANCE,
    "moss-image-sft": MOSSImage.DEFAULT_GUIDANCE,
    "moss-image-base": MOSSImage.DEFAULT_GUIDANCE,
    "krea-2": krea2_generate.DEFAULT_GUIDANCE,
    "krea-2-raw": krea2_generate.DEFAULT_GUIDANCE,
    "ernie-image": ernie_image_generate.build_parser().get_default("guidance"),
    **Anima.DEFAULT_GUIDANCE,
}
# Guidance defaults that are only in the bodies of mflux functions.
INLINE_GUIDANCE = {"fibo": 5.0, "ideogram-4": 7.0, "z-image": 0.0}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_default_guidance_matches_mflux(config: Config) -> None:
    if config.guidance is None:
        assert config.name not in {**DECLARED_GUIDANCE, **INLINE_GUIDANCE, **COMPATIBLE_GUIDANCE}
        return
    neutral = 1.0 if config.guidance_needs_negative or "base" in config.name or config.generate is None else None
    default = {**INLINE_GUIDANCE, **DECLARED_GUIDANCE}.get(config.name, neutral)
    if default is None:
        (pipeline,) = (pipeline for pipeline in (config.generate, config.edit) if pipeline is not None)
        default = inspect.signature(import_object(pipeline.path).generate_image).parameters["guidance"].default
    assert config.guidance == COMPATIBLE_GUIDANCE.get(config.name, default)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_guidance_is_supported_where_mflux_supports_it(config: Config) -> None:
    supported = AVAILABLE_MODELS[config.key].supports_guidance
    distilled = config.key in {"flux2-klein-4b", "flux2-klein-9b", "flux2-klein-9b-kv", "fibo-lite"}
    assert (config.guidance is not None) == (supported is not False and not distilled)


@pytest.mark.parametrize(("config", "pipeline"), PIPELINES)
def test_the_class_is_the_one_that_mflux_loads(config: Config, pipeline: PipelineSpec) -> None:
    expected, listed = save.MODEL_CLASSES.get(config.key), import_object(pipeline.path)
    assert inspect.isclass(listed)
    if expected is None:
        assert config.key in save.UNSUPPORTED_MODELS
    elif pipeline.inputs is None and config.edit is None:
        assert issubclass(expected, listed)
    else:
        # Several classes of one package load the same checkpoint.
        assert expected.__module__.split(".")[:3] == listed.__module__.split(".")[:3]


def arguments(config: Config, pipeline: PipelineSpec) -> dict[str, Any]:
    """Return every argument that this backend passes to generate_image of this model."""
    result: dict[str, Any] = {"prompt": "p", "seed": 1, "width": 1024, "height": 1024, "num_inference_steps": 2}
    if config.guidance is not None:
        result["guidance"] = 2.0
    if pipeline.negative is not None and config.negative:
        result["negative_prompt"] = "n"
    if pipeline.inputs is not None:
        result[pipeline.inputs.argument] = "image"
        if pipeline.inputs.mask is not None:
            result[pipeline.inputs.mask] = "mask"
    return result


@pytest.mark.parametrize(("config", "pipeline"), PIPELINES)
def test_arguments_bind_to_the_mflux_class(config: Config, pipeline: PipelineSpec) -> None:
    mflux_class = import_object(pipeline.path)
    constructor = {"model_config": None, "quantize": 8, "model_path": "folder"}
    loras = {"lora_paths": ["a"], "lora_scales": [1.0]}
    inspect.signature(mflux_class).bind(**constructor, **(loras if pipeline.loras else {}))
    parameters = inspect.signature(mflux_class).parameters
    assert pipeline.loras == ("lora_paths" in parameters and "lora_scales" in parameters)
    inspect.signature(mflux_class.generate_image).bind(None, **arguments(config, pipeline))
    if pipeline.guidance is False:
        assert "guidance" not in inspect.signature(mflux_class.generate_image).parameters


@pytest.mark.parametrize(("config", "pipeline"), PIPELINES)
def test_arguments_bind_to_unpack_latents(config: Config, pipeline: PipelineSpec) -> None:
    if pipeline.latents is not None:
        unpack = import_object(pipeline.latents).unpack_latents
        inspect.signature(unpack).bind(latents=None, height=1024, width=1024)


@pytest.mark.parametrize(
    ("name", "task", "chosen"),
    [
        (None, None, ("flux-schnell", "image-generation")),
        (None, "image-edit", ("flux-kontext-dev", "image-edit")),
        ("flux-dev", None, ("flux-dev", "image-generation")),
        ("flux-kontext-dev", None, ("flux-kontext-dev", "image-edit")),
        ("flux2-klein", None, ("flux2-klein-4b", "image-generation")),
        ("flux2-klein", "image-edit", ("flux2-klein-4b", "image-edit")),
        ("flux2-klein-edit", None, ("flux2-klein-4b", "image-edit")),
        ("flux2-klein-edit-9b", "image-edit", ("flux2-klein-9b", "image-edit")),
        ("dev-kontext", None, ("flux-kontext-dev", "image-edit")),
    ],
)
def test_choose(name: str | None, task: Task | None, chosen: tuple[str, str]) -> None:
    config, chosen_task = choose(name, task)
    assert (config.name, chosen_task) == chosen


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("sdxl", None, "'sdxl'; available: flux-schnell, "),
        ("flux2-klien-4b", None, "'flux2-klien-4b' (did you mean 'flux2-klein-4b'?); available: "),
        ("flux-dev", "image-edit", "does not support task 'image-edit'; configs that do: flux-kontext-dev, "),
        ("flux-kontext-dev", "image-generation", "'flux-kontext-dev' does not support task 'image-generation'"),
        ("flux2-klein-edit", "image-generation", "use config 'flux2-klein-4b'"),
    ],
)
def test_choose_rejects_unknown_and_incompatible_names(name: str, task: Task | None, message: str) -> None:
    with pytest.raises(ValueError) as error:
        choose(name, task)
    assert message in str(error.value)


@pytest.mark.parametrize("path", CLASSES, ids=lambda path: path.rpartition(":")[2])
def test_release_clears_the_prompt_cache_of_every_class(path: str) -> None:
    mflux_class = import_object(path)
    pipeline = ImagePipeline.__new__(ImagePipeline)
    pipeline._model = mflux_class.__new__(mflux_class)
    pipeline._model.prompt_cache = {"a prompt": 1}
    pipeline.release()
    assert pipeline._model.prompt_cache == {}
    assert pipeline.count_text_tokens("a prompt") == 0
