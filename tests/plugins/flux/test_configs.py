"""The table of models fits the installed mflux: names, classes, what they take, and its commands' defaults."""

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
from mlx_host_flux.configs import BY_NAME, CONFIGS, EDIT_NAMES, TASKS, Config, Pipeline, Task, choose
from mlx_host_flux.mflux_api import Painter, find

PIPELINES = [
    pytest.param(config, pipeline, id=f"{config.name}-{task}")
    for config in CONFIGS
    for task in TASKS
    if (pipeline := config.pipeline(task)) is not None
]
CLASSES = sorted(
    {pipeline.path for _, pipeline in (each.values for each in PIPELINES) if isinstance(pipeline, Pipeline)}
)

# What makes no pictures of a prompt, or of a prompt and pictures, alone.
ELSEWHERE = {
    "dev-redux": "varies a picture",
    "dev-depth": "goes by a depth map",
    "dev-fill-catvton": "tries clothes on",
    "fibo-edit-rmbg": "cuts out the foreground",
    "seedvr2-3b": "makes a picture larger",
    "seedvr2-7b": "makes a picture larger",
}

# Where the numbers that users of other servers are used to differ from those of mflux's commands.
AGREED_STEPS = {
    "flux-krea-dev": 28,
    "flux-kontext-dev": 28,
    "qwen-image": 50,
    "qwen-image-edit": 50,
    "qwen-image-edit-2511": 50,
}
AGREED_GUIDANCE = {"flux-krea-dev": 4.5, "qwen-image": 4.0, "qwen-image-edit": 4.0, "qwen-image-edit-2511": 4.0}


def test_every_model_that_makes_pictures_of_text_is_here() -> None:
    controlled = {key for key, config in AVAILABLE_MODELS.items() if config.controlnet_model is not None}
    assert {config.key for config in CONFIGS} == set(AVAILABLE_MODELS) - controlled - set(ELSEWHERE)


def test_names_are_told_apart() -> None:
    names = [name for config in CONFIGS for name in {config.name, config.key, *config.names}]
    assert len(names) == len(set(names))
    assert not set(EDIT_NAMES) & set(BY_NAME)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_names_mean_to_mflux_what_they_mean_here(config: Config) -> None:
    known = AVAILABLE_MODELS[config.key]
    assert set(known.aliases) >= {config.key, *config.names}
    assert all(choose(name, None)[0] is config for name in known.aliases)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_steps_are_those_of_mflux(config: Config) -> None:
    own = defaults.MODEL_INFERENCE_STEPS.get(config.key, defaults.DEFAULT_INFERENCE_STEPS)
    assert config.steps == AGREED_STEPS.get(config.name, own)
    assert config.name not in AGREED_STEPS or own != config.steps, "mflux agrees by now"


# Where mflux has the guidance of its commands; for the others it is the least that changes nothing.
DECLARED: dict[str, float] = {
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
# mflux has these in the bodies of its functions.
STATED = {"fibo": 5.0, "ideogram-4": 7.0, "z-image": 0.0}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_guidance_is_that_of_mflux(config: Config) -> None:
    if config.guidance is None:
        assert config.name not in {**DECLARED, **STATED, **AGREED_GUIDANCE}
        return
    default = 1.0 if config.guidance_needs_negative or "base" in config.name or config.generate is None else None
    own = {**STATED, **DECLARED}.get(config.name, default)
    if own is None:
        (pipeline,) = (each for each in (config.generate, config.edit) if each is not None)
        own = inspect.signature(find(pipeline.path).generate_image).parameters["guidance"].default
    assert config.guidance == AGREED_GUIDANCE.get(config.name, own)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_guidance_is_offered_where_mflux_supports_it(config: Config) -> None:
    supported = AVAILABLE_MODELS[config.key].supports_guidance
    distilled = config.key in {"flux2-klein-4b", "flux2-klein-9b", "flux2-klein-9b-kv", "fibo-lite"}
    assert (config.guidance is not None) == (supported is not False and not distilled)


@pytest.mark.parametrize(("config", "pipeline"), PIPELINES)
def test_the_class_is_the_one_that_mflux_loads_for_the_name(config: Config, pipeline: Pipeline) -> None:
    loaded, ours = save.MODEL_CLASSES.get(config.key), find(pipeline.path)
    assert inspect.isclass(ours)
    if loaded is None:
        assert config.key in save.UNSUPPORTED_MODELS
    elif pipeline.inputs is None and config.edit is None:
        assert issubclass(loaded, ours)
    else:
        # One checkpoint, several classes that read it, side by side.
        assert loaded.__module__.split(".")[:3] == ours.__module__.split(".")[:3]


def arguments(config: Config, pipeline: Pipeline) -> dict[str, Any]:
    """All that is ever passed to generate_image of this model."""
    given: dict[str, Any] = {"prompt": "p", "seed": 1, "width": 1024, "height": 1024, "num_inference_steps": 2}
    if config.guidance is not None:
        given["guidance"] = 2.0
    if pipeline.negative is not None and config.negative:
        given["negative_prompt"] = "n"
    if pipeline.inputs is not None:
        given[pipeline.inputs.argument] = "image"
        if pipeline.inputs.mask is not None:
            given[pipeline.inputs.mask] = "mask"
    return given


@pytest.mark.parametrize(("config", "pipeline"), PIPELINES)
def test_what_is_passed_binds_to_the_real_class(config: Config, pipeline: Pipeline) -> None:
    kind = find(pipeline.path)
    made = {"model_config": None, "quantize": 8, "model_path": "folder"}
    loras = {"lora_paths": ["a"], "lora_scales": [1.0]}
    inspect.signature(kind).bind(**made, **(loras if pipeline.loras else {}))
    taken = inspect.signature(kind).parameters
    assert pipeline.loras == ("lora_paths" in taken and "lora_scales" in taken)
    inspect.signature(kind.generate_image).bind(None, **arguments(config, pipeline))
    if pipeline.guidance is False:
        assert "guidance" not in inspect.signature(kind.generate_image).parameters


@pytest.mark.parametrize(("config", "pipeline"), PIPELINES)
def test_latents_can_be_unpacked_as_this_is_done(config: Config, pipeline: Pipeline) -> None:
    if pipeline.latents is not None:
        unpack = find(pipeline.latents).unpack_latents
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
def test_a_name_and_a_task_choose(name: str | None, task: Task | None, chosen: tuple[str, str]) -> None:
    config, chosen_task = choose(name, task)
    assert (config.name, chosen_task) == chosen


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("sdxl", None, "there is no config 'sdxl'; there is: flux-schnell, "),
        ("flux2-klien-4b", None, "there is no config 'flux2-klien-4b' (did you mean 'flux2-klein-4b'?); there is: "),
        ("flux-dev", "image-edit", "'flux-dev' is not for task 'image-edit'; these are: flux-kontext-dev, "),
        ("flux-kontext-dev", "image-generation", "'flux-kontext-dev' is not for task 'image-generation'"),
        ("flux2-klein-edit", "image-generation", "it is called 'flux2-klein-4b'"),
    ],
)
def test_what_does_not_go_together_is_said(name: str, task: Task | None, said: str) -> None:
    with pytest.raises(ValueError) as error:
        choose(name, task)
    assert said in str(error.value)


@pytest.mark.parametrize("path", CLASSES, ids=lambda path: path.rpartition(":")[2])
def test_every_class_can_be_cleaned_up_after(path: str) -> None:
    # Most are MLX's modules, some are not; they keep what they keep in different places.
    kind = find(path)
    painter = Painter.__new__(Painter)
    painter._model = kind.__new__(kind)
    painter._model.prompt_cache = {"a prompt": 1}
    painter.release()
    assert painter._model.prompt_cache == {}
    assert painter.text_tokens("a prompt") == 0
