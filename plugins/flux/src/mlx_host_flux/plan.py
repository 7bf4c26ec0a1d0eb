"""Validates a request against what the model supports; anything else is a 400 that names it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ImageEditRequest, ImageRequest
from mlx_host_media.images import DecodedImage, Size, fit_size
from PIL import Image

from mlx_host_flux.configs import MIN_SIDE, Config, Inputs, Pipeline
from mlx_host_flux.image_io import ImageReader
from mlx_host_flux.options import FluxOptions

# The default size, and the largest that is derived from an image: what the models are trained for.
DEFAULT_SIDE = 1024
DEFAULT_PIXELS = DEFAULT_SIDE * DEFAULT_SIDE
# mflux scales images to the areas that its models are trained for; a more elongated one would lose one side.
MAX_ASPECT_RATIO = 64


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the images of a request are generated; `arguments` are those of `generate_image` that are not files.

    `show_at` are the steps after which a partial image is sent.
    """

    size: Size
    steps: int
    arguments: Mapping[str, Any]
    show_at: frozenset[int] = frozenset()
    images: tuple[Image.Image, ...] = ()
    mask: Image.Image | None = None


class Planner:
    """Plans requests for one model."""

    def __init__(self, config: Config, pipeline: Pipeline, options: FluxOptions) -> None:
        self.config = config
        self.pipeline = pipeline
        self._options = options
        self._reader = ImageReader(max_megabytes=options.max_image_mb, scale_to=options.max_pixels)

    def close(self) -> None:
        self._reader.close()

    def plan(self, request: ImageRequest) -> Generator[None, None, Plan]:
        """Validate a request, yielding None while its images are decoded; InvalidRequestError names what is unsupported."""
        most = self._options.max_prompt_chars
        for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
            if len(text) > most:
                raise InvalidRequestError(
                    f"{name} has {len(text)} characters; this model takes {most} (--max-prompt-chars).", param=name
                )
        steps, guidance = self._steps(request), self._guidance(request)
        arguments: dict[str, Any] = {"num_inference_steps": steps}
        if guidance is not None:
            arguments["guidance"] = guidance
        if (negative := self._negative(request, guidance)) is not None:
            arguments["negative_prompt"] = negative
        if self.config.own_schedule and request.steps is None and request.guidance is None:
            arguments = {"num_inference_steps": None}
        images, mask = yield from self._images(request)
        size = self._size(request.size, images)
        return Plan(
            size=size,
            steps=steps,
            arguments=arguments,
            show_at=show_at(steps, request.partials),
            images=images,
            mask=mask,
        )

    def _steps(self, request: ImageRequest) -> int:
        own, asked = self.config.steps, request.steps
        if asked is None or asked == own:
            return own
        if self.config.fixed_steps:
            raise InvalidRequestError(f"{self.config.name} always takes {own} steps, not {asked}.", param="steps")
        if asked < self.config.fewest_steps:
            raise InvalidRequestError(
                f"{self.config.name} takes {self.config.fewest_steps} steps or more.", param="steps"
            )
        return asked

    def _guidance(self, request: ImageRequest) -> float | None:
        name, own, asked = self.config.name, self.config.guidance, request.guidance
        if own is None:
            # With 0 and with 1, the two ways to count, there is no guidance.
            if asked not in (None, 0, 1):
                raise InvalidRequestError(
                    f"{name} works without guidance; leave guidance_scale out.", param="guidance_scale"
                )
            return None
        guidance = own if asked is None else asked
        if guidance < 1 and self.config.guidance_needs_negative:
            raise InvalidRequestError(
                f"{name} takes a guidance_scale of 1, which is none, or more.", param="guidance_scale"
            )
        return guidance

    def _negative(self, request: ImageRequest, guidance: float | None) -> str | None:
        name, negative = self.config.name, request.negative_prompt or None
        takes = self.pipeline.negative if self.config.negative else None
        guided = guidance is not None and guidance > 1
        refusal = None
        if negative is None:
            if guided and self.config.guidance_needs_negative:
                refusal = "is guided away from a negative prompt; give negative_prompt with guidance_scale above 1"
        elif takes is None:
            refusal = "takes no negative_prompt"
        elif takes == "guided" and not guided:
            refusal = f"heeds a negative_prompt only with a guidance_scale above 1; it is {guidance or 0:g}"
        if refusal is not None:
            raise InvalidRequestError(f"{name} {refusal}.", param="negative_prompt")
        return negative

    def _images(
        self, request: ImageRequest
    ) -> Generator[None, None, tuple[tuple[Image.Image, ...], Image.Image | None]]:
        inputs = self.pipeline.inputs
        if not isinstance(request, ImageEditRequest):
            return (), None
        assert inputs is not None
        if len(request.images) > inputs.max_images:
            raise InvalidRequestError(
                f"{self.config.name} takes {_count(inputs.max_images)}; the request has {len(request.images)}.",
                param="image",
            )
        self._check_mask(request, inputs)
        images: list[DecodedImage] = []
        for file in request.images:
            image = yield from self._reader.read(file, "image", alpha=inputs.alpha)
            self._check_shape(image)
            images.append(image)
        mask = None
        if request.mask is not None:
            mask = yield from self._reader.read_mask(request.mask, images[0].original_size)
        return tuple(image.to_pil() for image in images), mask

    def _check_shape(self, image: DecodedImage) -> None:
        shorter, longer = sorted(image.size)
        if shorter < MIN_SIDE or longer > MAX_ASPECT_RATIO * shorter:
            width, height = image.original_size
            raise InvalidRequestError(
                f"image: {width}x{height} pixels are too few or too elongated: each side needs at least {MIN_SIDE} "
                f"pixels, and the longer may be up to {MAX_ASPECT_RATIO} times the shorter.",
                param="image",
            )

    def _check_mask(self, request: ImageEditRequest, inputs: Inputs) -> None:
        name = self.config.name
        if request.mask is None:
            if inputs.needs_mask:
                raise InvalidRequestError(f"{name} fills in what a mask leaves out; send one as mask.", param="mask")
        elif inputs.mask is None:
            raise InvalidRequestError(f"{name} takes no mask; say in the prompt what is to change.", param="mask")
        elif len(request.images) > 1:
            raise InvalidRequestError("A mask goes with one image; the request has several.", param="mask")

    def _size(self, asked: Size | None, images: tuple[Image.Image, ...]) -> Size:
        most, multiple = self._options.max_pixels, self.pipeline.multiple
        shortest, longest = self.pipeline.sides
        if asked is None:
            like = images[0].size if images else (DEFAULT_SIDE, DEFAULT_SIDE)
            return self._near(fit_size(like, min(most, DEFAULT_PIXELS)))
        width, height = asked
        if width % multiple or height % multiple:
            near = "x".join(map(str, self._near(asked)))
            raise InvalidRequestError(
                f"size: {self.config.name} makes images whose sides are multiples of {multiple}, such as {near}.",
                param="size",
            )
        if min(asked) < shortest or max(asked) > longest:
            raise InvalidRequestError(
                f"size: the sides of an image of {self.config.name} have {shortest} to {longest} pixels.", param="size"
            )
        if width * height > most:
            raise InvalidRequestError(
                f"size: {width}x{height} are {width * height:,} pixels; {most:,} are the most (--max-pixels).",
                param="size",
            )
        return asked

    def _near(self, size: Size) -> Size:
        multiple = self.pipeline.multiple
        shortest, longest = self.pipeline.sides
        width, height = (min(max(side, shortest), longest) // multiple * multiple for side in size)
        return width, height


def show_at(steps: int, partials: int) -> frozenset[int]:
    """Spread the partial images over the steps; after the last step, the image is complete."""
    spread = (round(steps * (number + 1) / (partials + 1)) for number in range(partials))
    return frozenset(step for step in spread if 0 < step < steps)


@contextmanager
def files(plan: Plan, inputs: Inputs | None) -> Iterator[dict[str, Any]]:
    """Write a plan's images and mask to files, which `generate_image` takes by these arguments, for the time being."""
    if inputs is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix=f"mlx-host-flux-{os.getpid()}-") as name:
        folder = Path(name)
        paths = [str(folder / f"image-{number}.png") for number in range(len(plan.images))]
        for path, image in zip(paths, plan.images, strict=True):
            image.save(path)
        given: dict[str, Any] = {inputs.argument: paths[0] if inputs.argument == "image_path" else paths}
        if plan.mask is not None:
            assert inputs.mask is not None
            given[inputs.mask] = str(folder / "mask.png")
            plan.mask.save(given[inputs.mask])
        yield given


def _count(images: int) -> str:
    return "one image" if images == 1 else f"{images} images at most"
