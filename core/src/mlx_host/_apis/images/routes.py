"""POST /v1/images/generations and /v1/images/edits, and the endpoints of stored images and jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.images.examples import EDIT, EDIT_STREAM, JOB, REQUEST, RESPONSE, STREAM
from mlx_host._apis.images.request import edit_request, generation_request
from mlx_host._apis.images.schema import ImageBody, edit_schema
from mlx_host._apis.images.service import FILES, JOBS, ImageService
from mlx_host._apis.images.settings import ImageSettings
from mlx_host.api import Endpoints, Service
from mlx_host.api.http import RouteNotFoundError, caller, examples, new_router, read_form
from mlx_host.api.responding import WARNING_HEADER, header_value

FORM = "multipart/form-data"


class ImageEndpoints(Endpoints):
    """The endpoints of the Images API."""

    def __init__(self, service: Service, settings: ImageSettings) -> None:
        self._images = ImageService(service, settings)

    def router(self) -> APIRouter:
        router = new_router()
        edit = examples(EDIT, RESPONSE, request_type=FORM, request_schema=edit_schema(), stream=EDIT_STREAM)
        generate = examples(REQUEST, RESPONSE, stream=STREAM)
        router.post("/v1/images/generations", response_model=None, **generate)(self.generate)
        router.post("/v1/images/edits", response_model=None, **edit)(self.edit)
        router.post("/v1/images/variations", response_model=None, deprecated=True)(self.vary)
        image = examples(response="(the image)", response_type="image/png")
        router.get(FILES + "/{name}", response_class=Response, **image)(self.get_image)
        router.get(JOBS + "/{id}", **examples(response=JOB))(self.get_job)
        router.delete(JOBS + "/{id}", **examples(response={**JOB, "status": "cancelled"}))(self.delete_job)
        return router

    async def generate(self, body: ImageBody, http: Request) -> Response:
        """Generate images from a prompt."""
        return await self._images.respond(http, body, generation_request(body))

    async def edit(self, http: Request) -> Response:
        """Edit images according to a prompt."""
        body, request = edit_request(await read_form(http))
        return await self._images.respond(http, body, request)

    async def vary(self) -> Response:
        """Reject variations, which OpenAI has deprecated."""
        raise RouteNotFoundError(
            "Image variations are not supported; use /v1/images/edits and describe the variation in the prompt."
        )

    async def get_image(self, name: str) -> Response:
        """Fetch a generated image."""
        image = self._images.store.get(name)
        # Names are unguessable and never reused.
        return Response(image.content, media_type=image.media_type, headers={"cache-control": "private, immutable"})

    async def get_job(self, id: str, http: Request, response: Response) -> dict[str, Any]:
        """Get an image job, with its images once it is completed."""
        job = self._images.jobs.get(id, caller(http))
        started = job.results.started
        if started is not None and started.warning is not None:
            response.headers[WARNING_HEADER] = header_value(started.warning)
        return self._images.job_body(http, job)

    async def delete_job(self, id: str, http: Request) -> dict[str, Any]:
        """Cancel an image job, or delete it if it has ended."""
        job = self._images.jobs.get(id, caller(http))
        await self._images.delete_job(job)
        return job.body()
