"""The models that are served, each with what mflux calls it, who runs it, and its defaults; nothing here needs mflux.

Where no other number is agreed on, steps and guidance are those that mflux's own commands use; a test holds the table
against the installed mflux.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["image-generation", "image-edit"]
TASKS: tuple[Task, ...] = ("image-generation", "image-edit")

# Where mflux sets no limit.
MAX_IMAGES = 10
MIN_SIDE, MAX_SIDE = 16, 4096


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """How a class takes the images to edit, up to `max_images`, and the mask, if it takes one with a single image.

    `alpha` is for a class that reads the alpha channel; others get images composited on white.
    """

    argument: Literal["image_path", "image_paths"]
    max_images: int = MAX_IMAGES
    mask: str | None = None
    needs_mask: bool = False
    alpha: bool = False


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A class of mflux's, as `module:name`, and what its constructor and `generate_image` take.

    `latents` turns unfinished latents into what the VAE decodes. `negative` says when a negative prompt counts: with
    guidance above 1, or always. `sides` are multiples of `multiple` pixels, the first the shortest.
    """

    path: str
    latents: str | None
    guidance: bool = True
    negative: Literal["guided", "always"] | None = None
    loras: bool = True
    inputs: Inputs | None = None
    multiple: int = 16
    sides: tuple[int, int] = (MIN_SIDE, MAX_SIDE)
    caption: Literal["json", "json-edit", "checked", "checked-edit"] | None = None
    sizes_in_folder: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    """A model: `names` are others that it goes by here, `mflux` is mflux's name for it, where that is another.

    `guidance` None means that there is none to set. `negative` False overrides the pipeline. With `own_schedule` steps
    and guidance are left to the model unless a request sets one of them; with `guidance_needs_negative` guidance does
    nothing without a negative prompt. `fixed_steps` models take no other number of steps.
    """

    name: str
    steps: int
    guidance: float | None = None
    generate: Pipeline | None = None
    edit: Pipeline | None = None
    mflux: str | None = None
    names: tuple[str, ...] = ()
    negative: bool = True
    fixed_steps: bool = False
    own_schedule: bool = False
    guidance_needs_negative: bool = False
    fewest_steps: int = 1

    @property
    def key(self) -> str:
        return self.mflux or self.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(task for task in TASKS if self.pipeline(task) is not None)

    def pipeline(self, task: Task) -> Pipeline | None:
        return self.generate if task == "image-generation" else self.edit


def _creator(family: str, name: str) -> str:
    return f"mflux.models.{family}.latent_creator.{name}"


_FLUX_LATENTS = _creator("flux", "flux_latent_creator:FluxLatentCreator")
_FLUX2_LATENTS = _creator("flux2", "flux2_latent_creator:Flux2LatentCreator")
_FLUX3_LATENTS = _creator("flux3", "flux3_latent_creator:Flux3LatentCreator")
_QWEN_LATENTS = _creator("qwen", "qwen_latent_creator:QwenLatentCreator")
_FIBO_LATENTS = _creator("fibo", "fibo_latent_creator:FiboLatentCreator")
_FIBO2_LATENTS = _creator("fibo2", "fibo2_latent_creator:Fibo2LatentCreator")

_ONE = Inputs(argument="image_path", max_images=1)
_SEVERAL = Inputs(argument="image_paths")

FLUX = Pipeline(path="mflux.models.flux.variants.txt2img.flux:Flux1", latents=_FLUX_LATENTS)
KONTEXT = Pipeline(
    path="mflux.models.flux.variants.kontext.flux_kontext:Flux1Kontext", latents=_FLUX_LATENTS, inputs=_ONE
)
FILL = Pipeline(
    path="mflux.models.flux.variants.fill.flux_fill:Flux1Fill",
    latents=_FLUX_LATENTS,
    inputs=Inputs(argument="image_path", max_images=1, mask="masked_image_path", needs_mask=True),
)
FLUX2 = Pipeline(
    path="mflux.models.flux2.variants.txt2img.flux2_klein:Flux2Klein",
    latents=_FLUX2_LATENTS,
    sizes_in_folder=True,
)
FLUX2_EDIT = Pipeline(
    path="mflux.models.flux2.variants.edit.flux2_klein_edit:Flux2KleinEdit",
    latents=_FLUX2_LATENTS,
    inputs=_SEVERAL,
    sizes_in_folder=True,
)
FLUX3 = Pipeline(path="mflux.models.flux3.variants.txt2img.flux3_klein:Flux3Klein", latents=_FLUX3_LATENTS)
FLUX3_EDIT = Pipeline(
    path="mflux.models.flux3.variants.edit.flux3_klein_edit:Flux3KleinEdit", latents=_FLUX3_LATENTS, inputs=_SEVERAL
)
QWEN = Pipeline(
    path="mflux.models.qwen.variants.txt2img.qwen_image:QwenImage", latents=_QWEN_LATENTS, negative="always"
)
QWEN_EDIT = Pipeline(
    path="mflux.models.qwen.variants.edit.qwen_image_edit:QwenImageEdit",
    latents=_QWEN_LATENTS,
    negative="always",
    inputs=_SEVERAL,
)
QWEN21 = Pipeline(
    path="mflux.models.qwen21.variants.txt2img.qwen_image_21:QwenImage21",
    latents=_creator("qwen21", "qwen21_latent_creator:Qwen21LatentCreator"),
    negative="guided",
    multiple=32,
)
QWEN21_EDIT = Pipeline(
    path="mflux.models.qwen21.variants.edit.qwen_image_21_edit:QwenImage21Edit",
    latents=_creator("qwen21", "qwen_image21_latent_creator:QwenImage21LatentCreator"),
    negative="guided",
    multiple=32,
    inputs=Inputs(argument="image_paths", mask="mask_image", alpha=True),
)
Z_IMAGE = Pipeline(
    path="mflux.models.z_image.variants.z_image:ZImage",
    latents=_creator("z_image", "z_image_latent_creator:ZImageLatentCreator"),
    negative="guided",
)
ERNIE = Pipeline(
    path="mflux.models.ernie_image.variants.txt2img.ernie_image:ErnieImage",
    latents=_creator("ernie_image", "ernie_latent_creator:ErnieLatentCreator"),
    negative="guided",
)
FIBO = Pipeline(
    path="mflux.models.fibo.variants.txt2img.fibo:FIBO",
    latents=_FIBO_LATENTS,
    negative="guided",
    loras=False,
    caption="json",
)
FIBO_EDIT = Pipeline(
    path="mflux.models.fibo.variants.edit.fibo_edit:FIBOEdit",
    latents=_FIBO_LATENTS,
    negative="guided",
    loras=False,
    inputs=Inputs(argument="image_path", max_images=1, mask="mask_path"),
    caption="json-edit",
)
FIBO2 = Pipeline(
    path="mflux.models.fibo2.variants.txt2img.fibo2:Fibo2",
    latents=_FIBO2_LATENTS,
    negative="guided",
    caption="checked",
)
FIBO2_EDIT = Pipeline(
    path="mflux.models.fibo2.variants.edit.fibo2_edit:Fibo2Edit",
    latents=_FIBO2_LATENTS,
    negative="guided",
    inputs=Inputs(argument="image_paths", max_images=5, mask="mask_path"),
    caption="checked-edit",
)
ANIMA = Pipeline(
    path="mflux.models.anima.variants.txt2img.anima:Anima",
    latents=_creator("anima", "anima_latent_creator:AnimaLatentCreator"),
    negative="guided",
)
# mflux shows no partial images of this one.
BOOGU = Pipeline(
    path="mflux.models.boogu.variants.txt2img.boogu_image:BooguImage", latents=None, guidance=False, loras=False
)
IDEOGRAM = Pipeline(
    path="mflux.models.ideogram4.variants.txt2img.ideogram4:Ideogram4",
    latents=_creator("ideogram4", "ideogram4_latent_creator:Ideogram4LatentCreator"),
    sides=(256, 2048),
)
IRIS = Pipeline(
    path="mflux.models.iris.variants.txt2img.iris:Iris",
    latents=_creator("iris", "iris_latent_creator:IrisLatentCreator"),
    negative="guided",
    loras=False,
)
KREA2 = Pipeline(
    path="mflux.models.krea2.variants.txt2img.krea2:Krea2",
    latents=_creator("krea2", "krea2_latent_creator:Krea2LatentCreator"),
    negative="guided",
)
LENS = Pipeline(
    path="mflux.models.lens.variants.txt2img.lens_image:LensImage",
    latents=_FLUX2_LATENTS,
    guidance=False,
    loras=False,
)
MING = Pipeline(
    path="mflux.models.ming_image.variants.ming_image:MingImage",
    latents=_creator("ming_image", "ming_latent_creator:MingLatentCreator"),
    loras=False,
)
MOSS = Pipeline(
    path="mflux.models.moss_image.variants.txt2img.moss_image:MOSSImage",
    latents=_creator("moss_image", "moss_image_latent_creator:MOSSImageLatentCreator"),
    negative="guided",
)

CONFIGS = (
    Config(name="flux-schnell", mflux="schnell", steps=4, generate=FLUX),
    Config(name="flux-dev", mflux="dev", steps=25, guidance=3.5, generate=FLUX),
    Config(name="flux-krea-dev", mflux="krea-dev", steps=28, guidance=4.5, generate=FLUX, names=("dev-krea",)),
    Config(name="flux-kontext-dev", mflux="dev-kontext", steps=28, guidance=2.5, edit=KONTEXT),
    Config(name="flux-fill-dev", mflux="dev-fill", steps=25, guidance=30.0, edit=FILL),
    Config(name="flux2-klein-4b", steps=4, generate=FLUX2, edit=FLUX2_EDIT, names=("flux2-klein", "klein-4b")),
    Config(name="flux2-klein-9b", steps=4, generate=FLUX2, edit=FLUX2_EDIT, names=("klein-9b",)),
    Config(name="flux2-klein-9b-kv", steps=4, generate=FLUX2, edit=FLUX2_EDIT, names=("klein-9b-kv",)),
    Config(
        name="flux2-klein-base-4b",
        steps=50,
        guidance=1.0,
        generate=FLUX2,
        edit=FLUX2_EDIT,
        names=("flux2-base-4b", "klein-base-4b"),
    ),
    Config(
        name="flux2-klein-base-9b",
        steps=50,
        guidance=1.0,
        generate=FLUX2,
        edit=FLUX2_EDIT,
        names=("flux2-base-9b", "klein-base-9b"),
    ),
    Config(
        name="flux3-image-klein",
        steps=16,
        generate=FLUX3,
        edit=FLUX3_EDIT,
        names=("flux3-klein", "flux3", "flux-3-image-klein"),
    ),
    Config(
        name="flux3-image-klein-base",
        steps=50,
        guidance=3.5,
        generate=FLUX3,
        edit=FLUX3_EDIT,
        names=("flux3-klein-base", "flux3-base", "flux-3-image-klein-base"),
    ),
    Config(name="qwen-image", steps=50, guidance=4.0, generate=QWEN, names=("qwen", "qwen-image-2512", "qwen-2512")),
    Config(
        name="qwen-image-edit",
        steps=50,
        guidance=4.0,
        edit=QWEN_EDIT,
        names=("qwen-edit", "qwen-edit-plus", "qwen-edit-2509"),
    ),
    Config(name="qwen-image-edit-2511", steps=50, guidance=4.0, edit=QWEN_EDIT, names=("qwen-edit-2511",)),
    Config(
        name="qwen-image-2.1",
        steps=40,
        guidance=1.0,
        generate=QWEN21,
        edit=QWEN21_EDIT,
        guidance_needs_negative=True,
        fewest_steps=2,
        names=("qwen-2.1", "qwen-image-21"),
    ),
    Config(
        name="qwen-image-2.1-turbo",
        steps=8,
        generate=QWEN21,
        edit=QWEN21_EDIT,
        negative=False,
        fewest_steps=2,
        names=("qwen-2.1-turbo", "qwen-image-21-turbo", "qwen-image-turbo-21"),
    ),
    Config(name="z-image", steps=50, guidance=0.0, generate=Z_IMAGE, names=("zimage",)),
    Config(name="z-image-turbo", steps=9, generate=Z_IMAGE, negative=False, names=("zimage-turbo",)),
    Config(name="fibo", steps=50, guidance=5.0, generate=FIBO),
    Config(name="fibo-lite", steps=8, generate=FIBO, negative=False, names=("fibo_lite",)),
    Config(name="fibo-edit", steps=50, guidance=3.5, edit=FIBO_EDIT, names=("fiboedit",)),
    Config(name="fibo2", steps=50, guidance=5.0, generate=FIBO2, edit=FIBO2_EDIT, names=("fibo-2.0-dev",)),
    Config(
        name="fibo2-edit-turbo",
        steps=4,
        edit=FIBO2_EDIT,
        negative=False,
        names=("fibo-2-edit-turbo", "fibo-2.0-edit-turbo"),
    ),
    Config(name="ernie-image", steps=50, guidance=4.0, generate=ERNIE),
    Config(name="ernie-image-turbo", steps=8, generate=ERNIE, negative=False),
    Config(name="krea-2", steps=8, guidance=1.0, generate=KREA2, names=("krea2",)),
    Config(name="krea-2-raw", steps=25, guidance=1.0, generate=KREA2, names=("krea2-raw",)),
    Config(
        name="ideogram-4",
        mflux="ideogram-4-fp8",
        steps=20,
        guidance=7.0,
        generate=IDEOGRAM,
        own_schedule=True,
        names=("ideogram4-fp8", "ideogram4", "ideogram"),
    ),
    Config(
        name="iris-3b",
        steps=4,
        generate=IRIS,
        negative=False,
        fixed_steps=True,
        names=("iris", "iris-3b-turbo", "iris-turbo"),
    ),
    Config(name="iris-3b-base", steps=100, guidance=3.0, generate=IRIS, names=("iris-base",)),
    Config(name="lens-turbo", steps=4, generate=LENS, names=("lens",)),
    Config(
        name="ming-image-design", steps=12, guidance=1.0, generate=MING, names=("ming-image", "ming-design", "ming")
    ),
    Config(name="moss-image-sft", steps=50, guidance=3.0, generate=MOSS, names=("moss-image", "moss")),
    Config(name="moss-image-base", steps=50, guidance=3.0, generate=MOSS, names=("moss-base",)),
    Config(name="boogu-image-turbo", steps=4, generate=BOOGU, names=("boogu-turbo", "boogu-image", "boogu")),
    Config(name="anima-turbo", steps=10, guidance=1.0, generate=ANIMA, names=("anima",)),
    Config(name="anima-aesthetic", steps=30, guidance=4.0, generate=ANIMA),
    Config(name="anima-base", steps=30, guidance=4.0, generate=ANIMA),
)

DEFAULTS: Mapping[Task, str] = {"image-generation": "flux-schnell", "image-edit": "flux-kontext-dev"}

# Names that say which of its two tasks a model is for.
EDIT_NAMES: Mapping[str, str] = {
    "flux2-klein-edit": "flux2-klein-4b",
    "flux2-klein-edit-4b": "flux2-klein-4b",
    "flux2-klein-edit-9b": "flux2-klein-9b",
    "flux3-klein-edit": "flux3-image-klein",
    "qwen-image-2.1-edit": "qwen-image-2.1",
    "fibo2-edit": "fibo2",
}

BY_NAME: Mapping[str, Config] = {
    name: config for config in CONFIGS for name in (config.name, config.key, *config.names)
}


def choose(name: str | None, task: Task | None) -> tuple[Config, Task]:
    """Find a config and its task; ValueError says which names and tasks there are.

    A model for both tasks generates, unless its name or `task` says otherwise.
    """
    if name is None:
        name = DEFAULTS[task or "image-generation"]
    # mflux has some names in two spellings, such as klein-9B.
    name = name.lower()
    if name in EDIT_NAMES:
        if task == "image-generation":
            raise ValueError(f"{name!r} edits; for task 'image-generation' it is called {EDIT_NAMES[name]!r}")
        name, task = EDIT_NAMES[name], "image-edit"
    if name not in BY_NAME:
        close = difflib.get_close_matches(name, [*BY_NAME, *EDIT_NAMES], n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        known = ", ".join([*(config.name for config in CONFIGS), *EDIT_NAMES])
        raise ValueError(f"there is no config {name!r}{hint}; there is: {known}")
    config = BY_NAME[name]
    chosen = task or config.tasks[0]
    if chosen not in config.tasks:
        others = ", ".join(each.name for each in CONFIGS if chosen in each.tasks)
        raise ValueError(f"{config.name!r} is not for task {chosen!r}; these are: {others}")
    return config, chosen
