"""Submits image requests, and holds the images and jobs that can be fetched later."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from mlx_host._apis.images.jobs import ImageJob, ImageJobs, JobNotFoundError
from mlx_host._apis.images.progress import ProgressBars, ProgressContext
from mlx_host._apis.images.response import (
    ImageCollector,
    ImageEncoder,
    ImageFields,
    ImageResults,
    base64_fields,
    base64_text,
)
from mlx_host._apis.images.schema import ImageBody
from mlx_host._apis.images.settings import ImageSettings
from mlx_host._apis.images.store import ImageNotFoundError, ImageStore
from mlx_host.api import Deadline, Reply, Service
from mlx_host.api.http import JsonResponse, caller, collect, ignored_header, respond
from mlx_host.events import Event, ImageCompleted
from mlx_host.requests import ImageRequest

MEGABYTE = 1_000_000
FILES, JOBS = "/v1/images/files", "/v1/images/jobs"


class ImageService:
    """The state of the Images API in one server: stored images, jobs and progress bars."""

    def __init__(self, service: Service, settings: ImageSettings) -> None:
        self._service = service
        self.store = ImageStore(int(settings.store_mb * MEGABYTE), settings.store_ttl)
        self.jobs = ImageJobs(service, settings.jobs, settings.store_ttl)
        self._bars = ProgressBars()

    async def respond(self, http: Request, body: ImageBody, request: ImageRequest) -> Response:
        """Return the requested type of response: plain, a stream, or a started job."""
        if body.async_mode:
            return await self._start_job(http, body, request)
        reply = self._submit(http, request, Deadline.of(stream=bool(body.stream)))
        results, progress = self._results(reply)
        fields = self._stored_fields(http, results) if body.by_url else base64_fields
        output = ImageEncoder(results) if body.stream else ImageCollector(results, fields)
        return await respond(http, reply, output, ignored_header(body.ignored()), progress)

    def _submit(self, http: Request, request: ImageRequest, deadline: Deadline) -> Reply[Event]:
        return self._service.submit(request, caller=caller(http), deadline=deadline)

    def _results(self, reply: Reply[Event]) -> tuple[ImageResults, ProgressContext]:
        assert isinstance(reply.request, ImageRequest)
        progress = ProgressContext(self._bars, reply.model.name, reply.request.n)
        return ImageResults(reply.model, reply.request, progress.update), progress

    def _stored_fields(self, http: Request, results: ImageResults) -> ImageFields:
        def fields(image: ImageCompleted) -> dict[str, Any]:
            return {"url": _url(http, self.store.add(image.content, results.format))}

        return fields

    async def _start_job(self, http: Request, body: ImageBody, request: ImageRequest) -> Response:
        reply = self._submit(http, request, Deadline.NONE)
        results, progress = self._results(reply)
        job = ImageJob(caller(http), results, by_url=body.by_url)
        await self.jobs.start(job, self._run_job(job, reply, progress))
        headers = {**ignored_header(body.ignored()), "location": f"{JOBS}/{job.id}"}
        return JsonResponse(job.body(), 202, headers)

    async def _run_job(self, job: ImageJob, reply: Reply[Event], progress: ProgressContext) -> None:
        with progress:
            await collect(reply, ImageCollector(job.results))
        job.image_names = job.results.move_to(self.store.add)

    def job_body(self, http: Request, job: ImageJob) -> dict[str, Any]:
        """Return a job with its result, if it has one; JobNotFoundError if its images were evicted."""
        if job.status != "completed":
            return job.body()
        try:
            contents = [self.store.get(name).content for name in job.image_names]
        except ImageNotFoundError:
            self.jobs.remove(job)
            raise JobNotFoundError(job.id) from None
        images = iter(zip(job.image_names, contents, strict=True))

        def fields(image: ImageCompleted) -> dict[str, Any]:
            name, content = next(images)
            return {"url": _url(http, name)} if job.by_url else {"b64_json": base64_text(content)}

        return job.body(job.results.body(fields))

    async def delete_job(self, job: ImageJob) -> None:
        """Cancel a job that is queued or running; delete one that has ended, with its images."""
        if not job.ended:
            await job.cancel()
            return
        self.jobs.remove(job)
        for name in job.image_names:
            self.store.delete(name)


def _url(http: Request, name: str) -> str:
    return f"{str(http.base_url).rstrip('/')}{FILES}/{name}"
