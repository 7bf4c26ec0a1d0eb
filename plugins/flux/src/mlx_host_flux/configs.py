"""The supported models: names, mflux pipelines and defaults. Importing this module does not import mflux.

Steps and guidance are the defaults of mflux's own commands, except where clients of other servers expect a different
number. A test compares the table with the installed mflux.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlx_host_flux.pipelines import (
    ANIMA,
    BOOGU,
    ERNIE,
    FIBO,
    FIBO2,
    FIBO2_EDIT,
    FIBO_EDIT,
    FILL,
    FLUX,
    FLUX2,
    FLUX2_EDIT,
    FLUX3,
    FLUX3_EDIT,
    IDEOGRAM,
    IRIS,
    KONTEXT,
    KREA2,
    LENS,
    MING,
    MOSS,
    QWEN,
    QWEN21,
    QWEN21_EDIT,
    QWEN_EDIT,
    Z_IMAGE,
    PipelineSpec,
)

Task = Literal["image-generation", "image-edit"]
TASKS: tuple[Task, ...] = ("image-generation", "image-edit")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A supported model.

    Args:
        name: Its name in --config-name.
        steps: Default number of steps.
        guidance: Default guidance scale; None if the model has no guidance.
        generate: Pipeline for text-to-image; None if unsupported.
        edit: Pipeline for edits; None if unsupported.
        mflux_name: mflux's registry key, if different from `name`.
        aliases: Other accepted names.
        negative: Set to False if the model takes no negative prompt although its pipeline does.
        fixed_steps: Whether the number of steps cannot be changed.
        uses_model_schedule: Whether steps and guidance are left to the model unless a request sets one of them.
        guidance_needs_negative: Whether guidance has no effect without a negative prompt.
        min_steps: Minimum number of steps.
    """

    name: str
    steps: int
    guidance: float | None = None
    generate: PipelineSpec | None = None
    edit: PipelineSpec | None = None
    mflux_name: str | None = None
    aliases: tuple[str, ...] = ()
    negative: bool = True
    fixed_steps: bool = False
    uses_model_schedule: bool = False
    guidance_needs_negative: bool = False
    min_steps: int = 1

    @property
    def key(self) -> str:
        """The key in mflux's registry of models."""
        return self.mflux_name or self.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that this model supports, the default first."""
        return tuple(task for task in TASKS if self.pipeline(task) is not None)

    def pipeline(self, task: Task) -> PipelineSpec | None:
        return self.generate if task == "image-generation" else self.edit


CONFIGS = (
    Config(name="flux-schnell", mflux_name="schnell", steps=4, generate=FLUX),
    Config(name="flux-dev", mflux_name="dev", steps=25, guidance=3.5, generate=FLUX),
    Config(name="flux-krea-dev", mflux_name="krea-dev", steps=28, guidance=4.5, generate=FLUX, aliases=("dev-krea",)),
    Config(name="flux-kontext-dev", mflux_name="dev-kontext", steps=28, guidance=2.5, edit=KONTEXT),
    Config(name="flux-fill-dev", mflux_name="dev-fill", steps=25, guidance=30.0, edit=FILL),
    Config(name="flux2-klein-4b", steps=4, generate=FLUX2, edit=FLUX2_EDIT, aliases=("flux2-klein", "klein-4b")),
    Config(name="flux2-klein-9b", steps=4, generate=FLUX2, edit=FLUX2_EDIT, aliases=("klein-9b",)),
    Config(name="flux2-klein-9b-kv", steps=4, generate=FLUX2, edit=FLUX2_EDIT, aliases=("klein-9b-kv",)),
    Config(
        name="flux2-klein-base-4b",
        steps=50,
        guidance=1.0,
        generate=FLUX2,
        edit=FLUX2_EDIT,
        aliases=("flux2-base-4b", "klein-base-4b"),
    ),
    Config(
        name="flux2-klein-base-9b",
        steps=50,
        guidance=1.0,
        generate=FLUX2,
        edit=FLUX2_EDIT,
        aliases=("flux2-base-9b", "klein-base-9b"),
    ),
    Config(
        name="flux3-image-klein",
        steps=16,
        generate=FLUX3,
        edit=FLUX3_EDIT,
        aliases=("flux3-klein", "flux3", "flux-3-image-klein"),
    ),
    Config(
        name="flux3-image-klein-base",
        steps=50,
        guidance=3.5,
        generate=FLUX3,
        edit=FLUX3_EDIT,
        aliases=("flux3-klein-base", "flux3-base", "flux-3-image-klein-base"),
    ),
    Config(name="qwen-image", steps=50, guidance=4.0, generate=QWEN, aliases=("qwen", "qwen-image-2512", "qwen-2512")),
    Config(
        name="qwen-image-edit",
        steps=50,
        guidance=4.0,
        edit=QWEN_EDIT,
        aliases=("qwen-edit", "qwen-edit-plus", "qwen-edit-2509"),
    ),
    Config(name="qwen-image-edit-2511", steps=50, guidance=4.0, edit=QWEN_EDIT, aliases=("qwen-edit-2511",)),
    Config(
        name="qwen-image-2.1",
        steps=40,
        guidance=1.0,
        generate=QWEN21,
        edit=QWEN21_EDIT,
        guidance_needs_negative=True,
        min_steps=2,
        aliases=("qwen-2.1", "qwen-image-21"),
    ),
    Config(
        name="qwen-image-2.1-turbo",
        steps=8,
        generate=QWEN21,
        edit=QWEN21_EDIT,
        negative=False,
        min_steps=2,
        aliases=("qwen-2.1-turbo", "qwen-image-21-turbo", "qwen-image-turbo-21"),
    ),
    Config(name="z-image", steps=50, guidance=0.0, generate=Z_IMAGE, aliases=("zimage",)),
    Config(name="z-image-turbo", steps=9, generate=Z_IMAGE, negative=False, aliases=("zimage-turbo",)),
    Config(name="fibo", steps=50, guidance=5.0, generate=FIBO),
    Config(name="fibo-lite", steps=8, generate=FIBO, negative=False, aliases=("fibo_lite",)),
    Config(name="fibo-edit", steps=50, guidance=3.5, edit=FIBO_EDIT, aliases=("fiboedit",)),
    Config(name="fibo2", steps=50, guidance=5.0, generate=FIBO2, edit=FIBO2_EDIT, aliases=("fibo-2.0-dev",)),
    Config(
        name="fibo2-edit-turbo",
        steps=4,
        edit=FIBO2_EDIT,
        negative=False,
        aliases=("fibo-2-edit-turbo", "fibo-2.0-edit-turbo"),
    ),
    Config(name="ernie-image", steps=50, guidance=4.0, generate=ERNIE),
    Config(name="ernie-image-turbo", steps=8, generate=ERNIE, negative=False),
    Config(name="krea-2", steps=8, guidance=1.0, generate=KREA2, aliases=("krea2",)),
    Config(name="krea-2-raw", steps=25, guidance=1.0, generate=KREA2, aliases=("krea2-raw",)),
    Config(
        name="ideogram-4",
        mflux_name="ideogram-4-fp8",
        steps=20,
        guidance=7.0,
        generate=IDEOGRAM,
        uses_model_schedule=True,
        aliases=("ideogram4-fp8", "ideogram4", "ideogram"),
    ),
    Config(
        name="iris-3b",
        steps=4,
        generate=IRIS,
        negative=False,
        fixed_steps=True,
        aliases=("iris", "iris-3b-turbo", "iris-turbo"),
    ),
    Config(name="iris-3b-base", steps=100, guidance=3.0, generate=IRIS, aliases=("iris-base",)),
    Config(name="lens-turbo", steps=4, generate=LENS, aliases=("lens",)),
    Config(
        name="ming-image-design", steps=12, guidance=1.0, generate=MING, aliases=("ming-image", "ming-design", "ming")
    ),
    Config(name="moss-image-sft", steps=50, guidance=3.0, generate=MOSS, aliases=("moss-image", "moss")),
    Config(name="moss-image-base", steps=50, guidance=3.0, generate=MOSS, aliases=("moss-base",)),
    Config(name="boogu-image-turbo", steps=4, generate=BOOGU, aliases=("boogu-turbo", "boogu-image", "boogu")),
    Config(name="anima-turbo", steps=10, guidance=1.0, generate=ANIMA, aliases=("anima",)),
    Config(name="anima-aesthetic", steps=30, guidance=4.0, generate=ANIMA),
    Config(name="anima-base", steps=30, guidance=4.0, generate=ANIMA),
)

DEFAULTS: Mapping[Task, str] = {"image-generation": "flux-schnell", "image-edit": "flux-kontext-dev"}

# Names that select a model and the task image-edit.
EDIT_NAMES: Mapping[str, str] = {
    "flux2-klein-edit": "flux2-klein-4b",
    "flux2-klein-edit-4b": "flux2-klein-4b",
    "flux2-klein-edit-9b": "flux2-klein-9b",
    "flux3-klein-edit": "flux3-image-klein",
    "qwen-image-2.1-edit": "qwen-image-2.1",
    "fibo2-edit": "fibo2",
}

BY_NAME: Mapping[str, Config] = {
    name: config for config in CONFIGS for name in (config.name, config.key, *config.aliases)
}


def choose(name: str | None, task: Task | None) -> tuple[Config, Task]:
    """Return the config and the task; both default to text-to-image.

    A model that supports both tasks generates images unless its name or `task` selects edits. Raises ValueError, with
    the available names, for an unknown name or an unsupported task.
    """
    if name is None:
        name = DEFAULTS[task or "image-generation"]
    # mflux spells some names in two ways, such as klein-9B.
    name = name.lower()
    if name in EDIT_NAMES:
        if task == "image-generation":
            raise ValueError(
                f"config {name!r} does not support task 'image-generation'; use config {EDIT_NAMES[name]!r}"
            )
        name, task = EDIT_NAMES[name], "image-edit"
    if name not in BY_NAME:
        close = difflib.get_close_matches(name, [*BY_NAME, *EDIT_NAMES], n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        known = ", ".join([*(config.name for config in CONFIGS), *EDIT_NAMES])
        raise ValueError(f"unknown config {name!r}{hint}; available: {known}")
    config = BY_NAME[name]
    task = task or config.tasks[0]
    if task not in config.tasks:
        supporting = ", ".join(config.name for config in CONFIGS if task in config.tasks)
        raise ValueError(f"config {config.name!r} does not support task {task!r}; configs that do: {supporting}")
    return config, task
