"""The mflux classes that run the models, described without importing mflux."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Used where mflux sets no limit.
MAX_IMAGES = 10
MIN_SIDE, MAX_SIDE = 16, 4096


@dataclass(frozen=True, kw_only=True)
class EditInputs:
    """How a pipeline takes the images to edit.

    Args:
        argument: Argument of `generate_image` for the files.
        max_images: Maximum number of images.
        mask: Argument of `generate_image` for the mask file; None if masks are not supported. A mask needs exactly one
            image.
        needs_mask: Whether a mask is required.
        alpha: Whether the pipeline uses the alpha channel. Otherwise images are composited on white.
    """

    argument: Literal["image_path", "image_paths"]
    max_images: int = MAX_IMAGES
    mask: str | None = None
    needs_mask: bool = False
    alpha: bool = False


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """An mflux class, and what its constructor and `generate_image` accept.

    Args:
        path: The class, as `module:name`.
        latents: The mflux class, as `module:name`, that unpacks unfinished latents for the VAE; None if the pipeline
            cannot decode partial images.
        guidance: Whether `generate_image` takes a guidance scale.
        negative: When a negative prompt has an effect: with guidance above 1, or always; None if never.
        loras: Whether the constructor takes LoRA files.
        inputs: How the images to edit are passed; None for text-to-image.
        multiple: Width and height must be multiples of this number of pixels.
        sides: Minimum and maximum of width and height, in pixels.
        caption: How prompts are converted or checked; see `ImagePipeline.caption`.
        sizes_in_folder: Whether layer sizes are read from the checkpoint's config.json files.
    """

    path: str
    latents: str | None
    guidance: bool = True
    negative: Literal["guided", "always"] | None = None
    loras: bool = True
    inputs: EditInputs | None = None
    multiple: int = 16
    sides: tuple[int, int] = (MIN_SIDE, MAX_SIDE)
    caption: Literal["json", "json-edit", "checked", "checked-edit"] | None = None
    sizes_in_folder: bool = False


def _latent_creator(family: str, name: str) -> str:
    return f"mflux.models.{family}.latent_creator.{name}"


_FLUX_LATENTS = _latent_creator("flux", "flux_latent_creator:FluxLatentCreator")
_FLUX2_LATENTS = _latent_creator("flux2", "flux2_latent_creator:Flux2LatentCreator")
_FLUX3_LATENTS = _latent_creator("flux3", "flux3_latent_creator:Flux3LatentCreator")
_QWEN_LATENTS = _latent_creator("qwen", "qwen_latent_creator:QwenLatentCreator")
_FIBO_LATENTS = _latent_creator("fibo", "fibo_latent_creator:FiboLatentCreator")
_FIBO2_LATENTS = _latent_creator("fibo2", "fibo2_latent_creator:Fibo2LatentCreator")

_ONE_IMAGE = EditInputs(argument="image_path", max_images=1)
_SEVERAL_IMAGES = EditInputs(argument="image_paths")

FLUX = PipelineSpec(path="mflux.models.flux.variants.txt2img.flux:Flux1", latents=_FLUX_LATENTS)
KONTEXT = PipelineSpec(
    path="mflux.models.flux.variants.kontext.flux_kontext:Flux1Kontext", latents=_FLUX_LATENTS, inputs=_ONE_IMAGE
)
FILL = PipelineSpec(
    path="mflux.models.flux.variants.fill.flux_fill:Flux1Fill",
    latents=_FLUX_LATENTS,
    inputs=EditInputs(argument="image_path", max_images=1, mask="masked_image_path", needs_mask=True),
)
FLUX2 = PipelineSpec(
    path="mflux.models.flux2.variants.txt2img.flux2_klein:Flux2Klein",
    latents=_FLUX2_LATENTS,
    sizes_in_folder=True,
)
FLUX2_EDIT = PipelineSpec(
    path="mflux.models.flux2.variants.edit.flux2_klein_edit:Flux2KleinEdit",
    latents=_FLUX2_LATENTS,
    inputs=_SEVERAL_IMAGES,
    sizes_in_folder=True,
)
FLUX3 = PipelineSpec(path="mflux.models.flux3.variants.txt2img.flux3_klein:Flux3Klein", latents=_FLUX3_LATENTS)
FLUX3_EDIT = PipelineSpec(
    path="mflux.models.flux3.variants.edit.flux3_klein_edit:Flux3KleinEdit",
    latents=_FLUX3_LATENTS,
    inputs=_SEVERAL_IMAGES,
)
QWEN = PipelineSpec(
    path="mflux.models.qwen.variants.txt2img.qwen_image:QwenImage", latents=_QWEN_LATENTS, negative="always"
)
QWEN_EDIT = PipelineSpec(
    path="mflux.models.qwen.variants.edit.qwen_image_edit:QwenImageEdit",
    latents=_QWEN_LATENTS,
    negative="always",
    inputs=_SEVERAL_IMAGES,
)
QWEN21 = PipelineSpec(
    path="mflux.models.qwen21.variants.txt2img.qwen_image_21:QwenImage21",
    latents=_latent_creator("qwen21", "qwen21_latent_creator:Qwen21LatentCreator"),
    negative="guided",
    multiple=32,
)
QWEN21_EDIT = PipelineSpec(
    path="mflux.models.qwen21.variants.edit.qwen_image_21_edit:QwenImage21Edit",
    latents=_latent_creator("qwen21", "qwen_image21_latent_creator:QwenImage21LatentCreator"),
    negative="guided",
    multiple=32,
    inputs=EditInputs(argument="image_paths", mask="mask_image", alpha=True),
)
Z_IMAGE = PipelineSpec(
    path="mflux.models.z_image.variants.z_image:ZImage",
    latents=_latent_creator("z_image", "z_image_latent_creator:ZImageLatentCreator"),
    negative="guided",
)
ERNIE = PipelineSpec(
    path="mflux.models.ernie_image.variants.txt2img.ernie_image:ErnieImage",
    latents=_latent_creator("ernie_image", "ernie_latent_creator:ErnieLatentCreator"),
    negative="guided",
)
FIBO = PipelineSpec(
    path="mflux.models.fibo.variants.txt2img.fibo:FIBO",
    latents=_FIBO_LATENTS,
    negative="guided",
    loras=False,
    caption="json",
)
FIBO_EDIT = PipelineSpec(
    path="mflux.models.fibo.variants.edit.fibo_edit:FIBOEdit",
    latents=_FIBO_LATENTS,
    negative="guided",
    loras=False,
    inputs=EditInputs(argument="image_path", max_images=1, mask="mask_path"),
    caption="json-edit",
)
FIBO2 = PipelineSpec(
    path="mflux.models.fibo2.variants.txt2img.fibo2:Fibo2",
    latents=_FIBO2_LATENTS,
    negative="guided",
    caption="checked",
)
FIBO2_EDIT = PipelineSpec(
    path="mflux.models.fibo2.variants.edit.fibo2_edit:Fibo2Edit",
    latents=_FIBO2_LATENTS,
    negative="guided",
    inputs=EditInputs(argument="image_paths", max_images=5, mask="mask_path"),
    caption="checked-edit",
)
ANIMA = PipelineSpec(
    path="mflux.models.anima.variants.txt2img.anima:Anima",
    latents=_latent_creator("anima", "anima_latent_creator:AnimaLatentCreator"),
    negative="guided",
)
# mflux cannot decode partial images of this model.
BOOGU = PipelineSpec(
    path="mflux.models.boogu.variants.txt2img.boogu_image:BooguImage", latents=None, guidance=False, loras=False
)
IDEOGRAM = PipelineSpec(
    path="mflux.models.ideogram4.variants.txt2img.ideogram4:Ideogram4",
    latents=_latent_creator("ideogram4", "ideogram4_latent_creator:Ideogram4LatentCreator"),
    sides=(256, 2048),
)
IRIS = PipelineSpec(
    path="mflux.models.iris.variants.txt2img.iris:Iris",
    latents=_latent_creator("iris", "iris_latent_creator:IrisLatentCreator"),
    negative="guided",
    loras=False,
)
KREA2 = PipelineSpec(
    path="mflux.models.krea2.variants.txt2img.krea2:Krea2",
    latents=_latent_creator("krea2", "krea2_latent_creator:Krea2LatentCreator"),
    negative="guided",
)
LENS = PipelineSpec(
    path="mflux.models.lens.variants.txt2img.lens_image:LensImage",
    latents=_FLUX2_LATENTS,
    guidance=False,
    loras=False,
)
MING = PipelineSpec(
    path="mflux.models.ming_image.variants.ming_image:MingImage",
    latents=_latent_creator("ming_image", "ming_latent_creator:MingLatentCreator"),
    loras=False,
)
MOSS = PipelineSpec(
    path="mflux.models.moss_image.variants.txt2img.moss_image:MOSSImage",
    latents=_latent_creator("moss_image", "moss_image_latent_creator:MOSSImageLatentCreator"),
    negative="guided",
)
