"""Validates image requests against what the model supports; unsupported parameters raise InvalidRequestError."""

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

from mlx_host_flux.configs import Config
from mlx_host_flux.image_io import ImageReader
from mlx_host_flux.options import FluxOptions
from mlx_host_flux.pipelines import MIN_SIDE, EditInputs, PipelineSpec

# The default size, and the maximum if the size is derived from an input image: the resolution of the training data.
DEFAULT_SIDE = 1024
DEFAULT_PIXELS = DEFAULT_SIDE * DEFAULT_SIDE
# mflux scales input images to the area of the training data; beyond this ratio the shorter side would become 0.
MAX_ASPECT_RATIO = 64


@dataclass(frozen=True, kw_only=True)
class RequestPlan:
    """How the images of a request are generated.

    Args:
        size: Width and height in pixels.
        steps: Denoising steps per image.
        arguments: Arguments of `generate_image`, without the input files.
        partial_steps: Steps after which a partial image is emitted.
        images: The decoded images to edit.
        mask: The decoded mask, white where the image may change.
    """

    size: Size
    steps: int
    arguments: Mapping[str, Any]
    partial_steps: frozenset[int] = frozenset()
    images: tuple[Image.Image, ...] = ()
    mask: Image.Image | None = None


class RequestPlanner:
    """Plans the requests of one model."""

    def __init__(self, config: Config, pipeline: PipelineSpec, options: FluxOptions) -> None:
        self.config = config
        self.pipeline = pipeline
        self._options = options
        self._reader = ImageReader(max_megabytes=options.max_image_mb, scale_to=options.max_pixels)

    def close(self) -> None:
        self._reader.close()

    def plan(self, request: ImageRequest) -> Generator[None, None, RequestPlan]:
        """Validate a request and decode its images, yielding None meanwhile. Raises InvalidRequestError."""
        self._check_prompts(request)
        steps, guidance = self._steps(request), self._guidance(request)
        arguments: dict[str, Any] = {"num_inference_steps": steps}
        if guidance is not None:
            arguments["guidance"] = guidance
        if (negative := self._negative_prompt(request, guidance)) is not None:
            arguments["negative_prompt"] = negative
        if self.config.uses_model_schedule and request.steps is None and request.guidance is None:
            arguments = {"num_inference_steps": None}
        images, mask = yield from self._decode_images(request)
        size = self._size(request.size, images)
        return RequestPlan(
            size=size,
            steps=steps,
            arguments=arguments,
            partial_steps=partial_steps(steps, request.partial_images),
            images=images,
            mask=mask,
        )

    def _check_prompts(self, request: ImageRequest) -> None:
        limit = self._options.max_prompt_chars
        for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
            if len(text) > limit:
                raise InvalidRequestError(
                    f"{name} has {len(text)} characters; the maximum is {limit} (--max-prompt-chars).", param=name
                )

    def _steps(self, request: ImageRequest) -> int:
        default, requested, minimum = self.config.steps, request.steps, self.config.min_steps
        if requested is None or requested == default:
            return default
        if self.config.fixed_steps:
            raise InvalidRequestError(
                f"steps must be {default} for {self.config.name}, not {requested}; omit it.", param="steps"
            )
        if requested < minimum:
            raise InvalidRequestError(
                f"steps must be at least {minimum} for {self.config.name}, not {requested}.", param="steps"
            )
        return requested

    def _guidance(self, request: ImageRequest) -> float | None:
        name, default, requested = self.config.name, self.config.guidance, request.guidance
        if default is None:
            # Both 0 and 1 mean "no guidance", depending on the formula.
            if requested not in (None, 0, 1):
                raise InvalidRequestError(
                    f"{name} does not support guidance_scale; omit it (got {requested:g}).", param="guidance_scale"
                )
            return None
        guidance = default if requested is None else requested
        if guidance < 1 and self.config.guidance_needs_negative:
            raise InvalidRequestError(
                f"guidance_scale must be at least 1 for {name}, not {guidance:g}; 1 disables guidance.",
                param="guidance_scale",
            )
        return guidance

    def _negative_prompt(self, request: ImageRequest, guidance: float | None) -> str | None:
        name, negative = self.config.name, request.negative_prompt or None
        support = self.pipeline.negative if self.config.negative else None
        guided = guidance is not None and guidance > 1
        problem = None
        if negative is None:
            if guided and self.config.guidance_needs_negative:
                problem = f"{name} requires a negative_prompt if guidance_scale is above 1 (got {guidance:g})"
        elif support is None:
            problem = f"{name} does not support negative_prompt; omit it"
        elif support == "guided" and not guided:
            problem = f"{name} supports negative_prompt only if guidance_scale is above 1 (got {guidance or 0:g})"
        if problem is not None:
            raise InvalidRequestError(f"{problem}.", param="negative_prompt")
        return negative

    def _decode_images(
        self, request: ImageRequest
    ) -> Generator[None, None, tuple[tuple[Image.Image, ...], Image.Image | None]]:
        inputs = self.pipeline.inputs
        if not isinstance(request, ImageEditRequest):
            return (), None
        assert inputs is not None
        if len(request.images) > inputs.max_images:
            raise InvalidRequestError(
                f"{self.config.name} accepts at most {inputs.max_images} image{'s' * (inputs.max_images > 1)}; "
                f"the request has {len(request.images)}.",
                param="image",
            )
        self._check_mask(request, inputs)
        images: list[DecodedImage] = []
        for file in request.images:
            image = yield from self._reader.read(file, "image", alpha=inputs.alpha)
            self._check_dimensions(image)
            images.append(image)
        mask = None
        if request.mask is not None:
            mask = yield from self._reader.read_mask(request.mask, images[0].original_size)
        return tuple(image.to_pil() for image in images), mask

    def _check_dimensions(self, image: DecodedImage) -> None:
        shorter, longer = sorted(image.size)
        if shorter < MIN_SIDE or longer > MAX_ASPECT_RATIO * shorter:
            width, height = image.original_size
            raise InvalidRequestError(
                f"image: unsupported dimensions {width}x{height}; width and height must be at least {MIN_SIDE} pixels "
                f"and the aspect ratio at most {MAX_ASPECT_RATIO}:1.",
                param="image",
            )

    def _check_mask(self, request: ImageEditRequest, inputs: EditInputs) -> None:
        name = self.config.name
        if request.mask is None:
            if inputs.needs_mask:
                raise InvalidRequestError(f"{name} requires a mask of the area to fill.", param="mask")
        elif inputs.mask is None:
            raise InvalidRequestError(f"{name} does not support mask; describe the change in the prompt.", param="mask")
        elif len(request.images) > 1:
            raise InvalidRequestError(
                f"mask requires exactly one image; the request has {len(request.images)}.", param="mask"
            )

    def _size(self, requested: Size | None, images: tuple[Image.Image, ...]) -> Size:
        max_pixels, multiple = self._options.max_pixels, self.pipeline.multiple
        min_side, max_side = self.pipeline.sides
        if requested is None:
            reference = images[0].size if images else (DEFAULT_SIDE, DEFAULT_SIDE)
            return self._nearest_size(fit_size(reference, min(max_pixels, DEFAULT_PIXELS)))
        width, height = requested
        problem = None
        if width % multiple or height % multiple:
            nearest = "x".join(map(str, self._nearest_size(requested)))
            problem = f"width and height must be multiples of {multiple} for {self.config.name}, such as {nearest}"
        elif min(requested) < min_side or max(requested) > max_side:
            problem = f"width and height must be {min_side} to {max_side} pixels for {self.config.name}"
        elif width * height > max_pixels:
            problem = f"{width * height:,} pixels; the maximum is {max_pixels:,} (--max-pixels)"
        if problem is not None:
            raise InvalidRequestError(f"size: {width}x{height} is not supported: {problem}.", param="size")
        return requested

    def _nearest_size(self, size: Size) -> Size:
        """Round a size down to one that the pipeline supports."""
        multiple = self.pipeline.multiple
        min_side, max_side = self.pipeline.sides
        width, height = (min(max(side, min_side), max_side) // multiple * multiple for side in size)
        return width, height


def partial_steps(steps: int, count: int) -> frozenset[int]:
    """Spread `count` partial images evenly over the steps, excluding the last step, whose image is complete."""
    spread = (round(steps * (index + 1) / (count + 1)) for index in range(count))
    return frozenset(step for step in spread if 0 < step < steps)


@contextmanager
def input_files(plan: RequestPlan, inputs: EditInputs | None) -> Iterator[dict[str, Any]]:
    """Write images and mask of a plan to temporary files; returns the arguments of `generate_image` for them."""
    if inputs is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix=f"mlx-host-flux-{os.getpid()}-") as name:
        folder = Path(name)
        paths = [str(folder / f"image-{index}.png") for index in range(len(plan.images))]
        for path, image in zip(paths, plan.images, strict=True):
            image.save(path)
        arguments: dict[str, Any] = {inputs.argument: paths[0] if inputs.argument == "image_path" else paths}
        if plan.mask is not None:
            assert inputs.mask is not None
            arguments[inputs.mask] = str(folder / "mask.png")
            plan.mask.save(arguments[inputs.mask])
        yield arguments
