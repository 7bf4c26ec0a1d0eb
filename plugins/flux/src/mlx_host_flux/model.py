"""The models of the backend `flux`: generate images from a prompt, or edit images."""

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
from mlx_host_flux.configs import Config, Task
from mlx_host_flux.image_io import encode, is_transparent
from mlx_host_flux.mflux_api import ImagePipeline, ImageSpec, count_image_tokens, detect_config_name, end_streams
from mlx_host_flux.mlx_thread import MlxThread
from mlx_host_flux.options import FluxOptions
from mlx_host_flux.pipelines import PipelineSpec
from mlx_host_flux.request_plan import RequestPlan, RequestPlanner, input_files

log = logging.getLogger(__name__)

# Number of log lines per image that report its progress.
MAX_PROGRESS_LINES = 10

Emit = Callable[[Event], None]


class FluxModel(Model):
    """Generates the images of one request at a time and yields after each denoising step."""

    concurrency = 1

    def __init__(self, pipeline: ImagePipeline, thread: MlxThread, planner: RequestPlanner) -> None:
        self._pipeline = pipeline
        self._thread = thread
        self._planner = planner

    def generate(self, request: ImageRequest) -> Iterator[Event | None]:
        plan = yield from self._planner.plan(request)
        try:
            with input_files(plan, self._planner.pipeline.inputs) as inputs:
                yield from self._generate(request, plan, {**plan.arguments, **inputs})
        finally:
            self._thread.run(self._pipeline.release)

    def _generate(self, request: ImageRequest, plan: RequestPlan, arguments: Mapping[str, Any]) -> Iterator[Event]:
        pipeline = self._pipeline
        first = plan.images[0] if plan.images else None
        prompt = self._thread.run(lambda: pipeline.caption(request.prompt, first, plan.mask))
        text_tokens = self._thread.run(lambda: pipeline.count_text_tokens(request.prompt))
        warning = None
        if text_tokens > pipeline.max_text_tokens:
            warning = (
                f"The prompt has {text_tokens} tokens, of which the model reads the first {pipeline.max_text_tokens}; "
                "the rest has no effect."
            )
            log.warning("%s: %s", request.id, warning)
        input_tokens = sum(count_image_tokens(image.size) for image in plan.images)
        width, height = plan.size
        yield ImagesStarted(
            prompt_tokens=text_tokens + input_tokens,
            image_tokens=input_tokens,
            width=width,
            height=height,
            steps=plan.steps,
            warning=warning,
        )
        for index in range(request.n):
            spec = ImageSpec(prompt=prompt, seed=request.seed + index, size=plan.size, arguments=arguments)
            task = ImageTask(request, index, spec, plan, pipeline)
            completed = yield from self._thread.stream(task.run)
            if index + 1 < request.n:
                yield completed
            else:
                output_tokens = request.n * count_image_tokens(plan.size)
                yield EventBatch((completed, Finished(completion_tokens=output_tokens)))

    def close(self) -> None:
        self._thread.run(end_streams)
        self._thread.close()
        self._planner.close()


class GenerationModel(FluxModel):
    """A model that generates images from a prompt."""

    supported_requests: ClassVar[tuple[type[Request], ...]] = (ImageGenerationRequest,)


class EditModel(FluxModel):
    """A model that edits images."""

    supported_requests: ClassVar[tuple[type[Request], ...]] = (ImageEditRequest,)


class ImageTask:
    """Generates the image with index `index` of a request."""

    def __init__(
        self, request: ImageRequest, index: int, spec: ImageSpec, plan: RequestPlan, pipeline: ImagePipeline
    ) -> None:
        self._request = request
        self._index = index
        self._spec = spec
        self._plan = plan
        self._pipeline = pipeline
        self._partial_count = 0

    def run(self, emit: Emit) -> ImageCompleted:
        """Generate the image and emit an event after each step; called on the MLX thread."""

        def on_step(step: int, decode: Callable[[], Image.Image]) -> None:
            self._log_progress(step)
            emit(Progress("image", step, self._plan.steps, self._index))
            if step in self._plan.partial_steps and self._pipeline.supports_partial_images:
                content, transparent = self._encode(decode())
                emit(PartialImage(self._index, self._partial_count, content, transparent))
                self._partial_count += 1

        content, transparent = self._encode(self._pipeline.generate(self._spec, on_step))
        return ImageCompleted(self._index, self._spec.seed, count_image_tokens(self._plan.size), content, transparent)

    def _encode(self, image: Image.Image) -> tuple[bytes, bool]:
        """Encode an image; returns the file and whether it has transparency."""
        image_format = self._request.format
        content = encode(image, image_format, self._request.output_compression)
        return content, is_transparent(image) and image_format != "jpeg"

    def _log_progress(self, step: int) -> None:
        steps = self._plan.steps
        if step == 1 or MAX_PROGRESS_LINES * step // steps > MAX_PROGRESS_LINES * (step - 1) // steps:
            number, n = self._index + 1, self._request.n
            log.info("%s: image %d of %d, step %d of %d", self._request.id, number, n, step, steps)


def load_model(context: LoadContext[FluxOptions]) -> Model:
    """Load a folder written by mflux-save, or the published model of the config, which mflux downloads.

    Raises LoadError.
    """
    config, task, pipeline_spec = _choose_config(context)
    options = context.options
    description = str(context.path) if context.path is not None else f"{config.name} (downloaded by mflux if needed)"
    context.progress("load", 0, 1, description)
    loras = list(zip(options.lora_paths, options.lora_scales or [1.0] * len(options.lora_paths), strict=True))
    thread = MlxThread()
    try:
        pipeline = thread.run(
            lambda: ImagePipeline(
                config,
                pipeline_spec,
                context.path,
                bits=options.quantize,
                loras=[(path.expanduser().resolve(), scale) for path, scale in loras],
                dtype=options.dtype,
            )
        )
    except BaseException:
        thread.run(end_streams)
        thread.close()
        raise
    context.progress("load", 1, 1, description)
    log.info("loaded %s for %s", config.name, task)
    model_class = EditModel if task == "image-edit" else GenerationModel
    return model_class(pipeline, thread, RequestPlanner(config, pipeline_spec, options))


def _choose_config(context: LoadContext[FluxOptions]) -> tuple[Config, Task, PipelineSpec]:
    name = context.options.config_name
    if context.path is not None and name is None:
        name = detect_config_name(context.path, context.ref or context.path.name)
        if name is None:
            raise LoadError(f"Cannot detect the config of model {context.ref!r}. Set it with --config-name.")
    try:
        config, task = configs.choose(name, context.options.task)
    except ValueError as error:
        raise LoadError(f"Model {context.ref!r}: {error}.") from error
    pipeline_spec = config.pipeline(task)
    assert pipeline_spec is not None
    if context.options.lora_paths and not pipeline_spec.loras:
        raise LoadError(f"--lora-paths: mflux has no LoRA support for {config.name!r}.")
    return config, task, pipeline_spec
