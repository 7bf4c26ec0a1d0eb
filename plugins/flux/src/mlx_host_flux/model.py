"""The model of the backend `flux`: generates images from a prompt, or edits images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from mlx_host.backend import LoadContext, Model
from mlx_host.errors import LoadError
from mlx_host.events import Event, EventBatch, Finished, ImageCompleted, ImagesStarted, PartialImage, Progress
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, ImageRequest, Request
from PIL import Image

from mlx_host_flux import configs
from mlx_host_flux.configs import Config, Pipeline, Task
from mlx_host_flux.image_io import encode, is_transparent
from mlx_host_flux.mflux_api import Painter, Shot, end_streams, image_tokens, key_of
from mlx_host_flux.options import FluxOptions
from mlx_host_flux.plan import Plan, Planner, files
from mlx_host_flux.workbench import Workbench

log = logging.getLogger(__name__)

# Log lines about the progress of an image.
LOG_LINES = 10

Emit = Callable[[Event], None]


class FluxModel(Model):
    """Generates the images of one request at a time, yielding after each step."""

    concurrency = 1

    def __init__(self, painter: Painter, workbench: Workbench, planner: Planner) -> None:
        self._painter = painter
        self._workbench = workbench
        self._planner = planner

    def generate(self, request: ImageRequest) -> Iterator[Event | None]:
        plan = yield from self._planner.plan(request)
        try:
            with files(plan, self._planner.pipeline.inputs) as images:
                yield from self._answer(request, plan, {**plan.arguments, **images})
        finally:
            self._workbench.do(self._painter.release)

    def _answer(self, request: ImageRequest, plan: Plan, arguments: Mapping[str, Any]) -> Iterator[Event | None]:
        first = plan.images[0] if plan.images else None
        prompt = self._workbench.do(lambda: self._painter.caption(request.prompt, first, plan.mask))
        tokens = self._workbench.do(lambda: self._painter.text_tokens(request.prompt))
        if tokens > self._painter.most_text_tokens:
            log.warning("%s: the model reads %d of %d tokens", request.id, self._painter.most_text_tokens, tokens)
        given = sum(image_tokens(image.size) for image in plan.images)
        width, height = plan.size
        yield ImagesStarted(
            prompt_tokens=tokens + given, image_tokens=given, width=width, height=height, steps=plan.steps
        )
        for number in range(request.n):
            shot = Shot(prompt=prompt, seed=request.seed + number, size=plan.size, arguments=arguments)
            task = ImageTask(request, number, shot, plan, self._painter)
            finished = yield from self._workbench.steps(task.run)
            if number + 1 < request.n:
                yield finished
            else:
                tokens = request.n * image_tokens(plan.size)
                yield EventBatch((finished, Finished(completion_tokens=tokens)))

    def close(self) -> None:
        self._workbench.do(end_streams)
        self._workbench.close()
        self._planner.close()


class Generator(FluxModel):
    """A model that generates images from a prompt."""

    supported_requests: ClassVar[tuple[type[Request], ...]] = (ImageGenerationRequest,)


class Editor(FluxModel):
    """A model that edits images."""

    supported_requests: ClassVar[tuple[type[Request], ...]] = (ImageEditRequest,)


class ImageTask:
    """Generates image number `number` of a request."""

    def __init__(self, request: ImageRequest, number: int, shot: Shot, plan: Plan, painter: Painter) -> None:
        self._request = request
        self._number = number
        self._shot = shot
        self._plan = plan
        self._painter = painter
        self._shown = 0

    def run(self, emit: Emit) -> ImageCompleted:
        """Generate the image, emitting an event for each step."""

        def on_step(step: int, show: Callable[[], Image.Image]) -> None:
            self._log(step)
            emit(Progress("image", step, self._plan.steps, self._number))
            if step in self._plan.show_at and self._painter.shows_steps:
                content, transparent = self._encode(show())
                emit(PartialImage(self._number, self._shown, content, transparent))
                self._shown += 1

        content, transparent = self._encode(self._painter.paint(self._shot, on_step))
        return ImageCompleted(self._number, self._shot.seed, image_tokens(self._plan.size), content, transparent)

    def _encode(self, image: Image.Image) -> tuple[bytes, bool]:
        format = self._request.format
        content = encode(image, format, self._request.compression)
        return content, is_transparent(image) and format != "jpeg"

    def _log(self, step: int) -> None:
        steps = self._plan.steps
        if step == 1 or LOG_LINES * step // steps > LOG_LINES * (step - 1) // steps:
            number, n = self._number + 1, self._request.n
            log.info("%s: image %d of %d, step %d of %d", self._request.id, number, n, step, steps)


def load_model(load: LoadContext[FluxOptions]) -> Model:
    """Load a folder that mflux saved, or have mflux fetch the model that the config names."""
    config, task, pipeline = _choose(load)
    options = load.options
    note = str(load.path) if load.path is not None else f"{config.name}, which mflux fetches if it must"
    load.progress("load", 0, 1, note)
    loras = list(zip(options.lora_paths, options.lora_scales or [1.0] * len(options.lora_paths), strict=True))
    workbench = Workbench()
    try:
        painter = workbench.do(
            lambda: Painter(
                config,
                pipeline,
                load.path,
                bits=options.quantize,
                loras=[(path.expanduser().resolve(), scale) for path, scale in loras],
                dtype=options.dtype,
            )
        )
    except BaseException:
        workbench.do(end_streams)
        workbench.close()
        raise
    load.progress("load", 1, 1, note)
    log.info("%s is loaded for %s", config.name, task)
    kind = Editor if task == "image-edit" else Generator
    return kind(painter, workbench, Planner(config, pipeline, options))


def _choose(load: LoadContext[FluxOptions]) -> tuple[Config, Task, Pipeline]:
    name = load.options.config_name
    if load.path is not None and name is None:
        name = key_of(load.path, load.ref or load.path.name)
        if name is None:
            raise LoadError(f"What {load.ref!r} is cannot be told from it; say it with --config-name.")
    try:
        config, task = configs.choose(name, load.options.task)
    except ValueError as error:
        raise LoadError(f"{load.ref!r}: {error}.") from error
    pipeline = config.pipeline(task)
    assert pipeline is not None
    if load.options.lora_paths and not pipeline.loras:
        raise LoadError(f"--lora-paths: mflux has no LoRA support for {config.name!r}.")
    return config, task, pipeline
