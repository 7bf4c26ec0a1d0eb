"""POST /v1/images/generations and /v1/images/edits, whole, streamed or as jobs, and the pictures' own addresses."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.images import request as bodies
from mlx_host._apis.images.jobs import Job, JobNotFound, Jobs
from mlx_host._apis.images.progress import Bars
from mlx_host._apis.images.request import ImageBody
from mlx_host._apis.images.response import Album, as_base64, collect, stream
from mlx_host._apis.images.store import FileNotFound, Files
from mlx_host._host import Exchange, Host
from mlx_host.api import json_io, multipart, sse
from mlx_host.api.errors import RouteNotFoundError
from mlx_host.events import FinishedImage
from mlx_host.requests import ImageRequest

MEGABYTE = 1_000_000
FILES, JOBS = "/v1/images/files", "/v1/images/jobs"


class Studio:
    """Answers requests for pictures, and keeps those that are to be fetched later."""

    def __init__(self, host: Host) -> None:
        self._host = host
        settings = host.settings
        self.files = Files(int(settings.image_store_mb * MEGABYTE), settings.image_store_ttl)
        self.jobs = Jobs(settings.image_jobs, settings.image_store_ttl)
        self._bars = Bars()

    async def answer(self, http: Request, body: ImageBody, request: ImageRequest) -> Response:
        """Answer a request as it wants to be answered."""
        headers = json_io.ignored_header(body.ignored())
        exchange = self._host.ask(request, streams=bool(body.stream))
        album = Album(self._host.model(request.model).name, request, body)
        if body.stream:
            return sse.EventStream(stream(exchange, album, self._bars), headers, self._host.settings.keep_alive)
        if body.async_mode:
            job = Job(album)
            await self.jobs.begin(job, self._work(job, exchange))
            headers["location"] = f"{JOBS}/{job.id}"
            return json_io.JsonResponse(job.described(None), 202, headers)
        await sse.while_connected(http.receive, collect(exchange, album, self._bars))

        def link(picture: FinishedImage) -> dict[str, Any]:
            if not body.by_url:
                return {"b64_json": as_base64(picture.content)}
            return {"url": self._url(http, self.files.keep(picture.content, request.format))}

        return json_io.JsonResponse(album.response(link), headers=headers)

    async def _work(self, job: Job, exchange: Exchange) -> None:
        await collect(exchange, job.album, self._bars)
        job.files = job.album.put_away(self.files.keep)

    def _url(self, http: Request, name: str) -> str:
        return f"{str(http.base_url).rstrip('/')}{FILES}/{name}"

    def describe(self, http: Request, job: Job) -> dict[str, Any]:
        """Describe a job, with its result if it has one; JobNotFound if its pictures are gone."""
        if job.status != "completed":
            return job.described(None)
        try:
            contents = {name: self.files.get(name).content for name in job.files}
        except FileNotFound:
            self.jobs.forget(job)
            raise JobNotFound(job.id) from None
        names = iter(job.files)

        def link(picture: FinishedImage) -> dict[str, Any]:
            name = next(names)
            return {"url": self._url(http, name)} if job.album.body.by_url else {"b64_json": as_base64(contents[name])}

        return job.described(job.album.response(link))

    async def delete(self, job: Job) -> None:
        """Cancel a job that is under way; forget one that is over, with its pictures."""
        if not job.over:
            await job.cancel()
            return
        self.jobs.forget(job)
        for name in job.files:
            self.files.drop(name)


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoints."""
    studio = Studio(host)

    @router.post("/v1/images/generations", response_model=None)
    async def generations(body: ImageBody, http: Request) -> Response:
        return await studio.answer(http, body, bodies.generation(body))

    schema = {"multipart/form-data": {"schema": bodies.edit_schema()}}

    @router.post(
        "/v1/images/edits", response_model=None, openapi_extra={"requestBody": {"required": True, "content": schema}}
    )
    async def edits(http: Request) -> Response:
        body, request = bodies.edit(await multipart.read(http))
        return await studio.answer(http, body, request)

    @router.post("/v1/images/variations", response_model=None)
    async def variations() -> Response:
        raise RouteNotFoundError(
            "Variations are not made here: use /v1/images/edits, and say in the prompt what may differ."
        )

    @router.get(FILES + "/{name}", response_model=None)
    async def file(name: str) -> Response:
        kept = studio.files.get(name)
        # Nobody else has the name, and nothing else will ever have it.
        return Response(kept.content, media_type=kept.media_type, headers={"cache-control": "private, immutable"})

    @router.get(JOBS + "/{id}")
    async def job(id: str, http: Request) -> dict[str, Any]:
        return studio.describe(http, studio.jobs.get(id))

    @router.delete(JOBS + "/{id}")
    async def delete(id: str) -> dict[str, Any]:
        job = studio.jobs.get(id)
        await studio.delete(job)
        return job.described(None)
