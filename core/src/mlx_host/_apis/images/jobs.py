"""Pictures made while nobody waits: a job is begun, asked for, and forgotten some time after it is over."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from mlx_host._apis.images.response import Album
from mlx_host.api import errors
from mlx_host.errors import AtCapacity, InvalidRequest, RequestError

log = logging.getLogger(__name__)

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class JobNotFound(InvalidRequest):
    """No job with this id is kept here."""

    status = 404
    code = "job_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no image job {id!r}: it is unknown, deleted or expired.")


class Job:
    """One request on its own; `files` are the names of its pictures once it is over. Times are since the epoch."""

    def __init__(self, album: Album) -> None:
        self.id = f"imgjob_{uuid.uuid4().hex}"
        self.album = album
        self.created_at = int(time.time())
        self.files: list[str] = []
        self.error: RequestError | None = None
        self.expires_at: int | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None], on_end: Callable[[], None]) -> None:
        self._task = asyncio.create_task(self._run(work, on_end), name=self.id)

    async def _run(self, work: Coroutine[Any, Any, None], on_end: Callable[[], None]) -> None:
        try:
            await work
        except RequestError as error:
            self.error = error
        except Exception:
            log.exception("%s failed", self.id)
            self.error = errors.InternalError(errors.FAULT)
        finally:
            on_end()

    async def cancel(self) -> None:
        """End it, unless it is over."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def over(self) -> bool:
        return self._task is not None and self._task.done()

    @property
    def status(self) -> Status:
        if self.over:
            assert self._task is not None
            if self._task.cancelled():
                return "cancelled"
            return "failed" if self.error is not None else "completed"
        return "in_progress" if self.album.started is not None else "queued"

    def described(self, result: dict[str, Any] | None) -> dict[str, Any]:
        """The job as clients see it; steps are those of the picture that it is at."""
        started, request = self.album.started, self.album.request
        return {
            "id": self.id,
            "object": "image.job",
            "status": self.status,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "model": self.album.model,
            "seed": request.seed,
            "n": request.n,
            "completed": len(self.album.finished),
            "step": self.album.step,
            "steps": started.steps if started is not None else None,
            "result": result,
            "error": errors.body(self.error)["error"] if self.error is not None else None,
        }


class Jobs:
    """The jobs by their ids, `most` of them; those that are over are kept for `seconds`, or until room is needed."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._jobs: dict[str, Job] = {}

    async def begin(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """Begin a job; what refuses it at once is raised."""
        try:
            self._make_room()
        except AtCapacity:
            work.close()
            raise
        job.begin(work, lambda: self._ended(job))
        # It runs as far as the queue of its model.
        await asyncio.sleep(0)
        if job.error is not None:
            raise job.error
        self._jobs[job.id] = job

    def _make_room(self) -> None:
        self._expire()
        over = [job for job in self._jobs.values() if job.over]
        for job in over[: max(0, len(self._jobs) + 1 - self._most)]:
            self.forget(job)
        if len(self._jobs) >= self._most:
            raise AtCapacity(f"There are {self._most} image jobs under way (--image-jobs).", retry_after=10)

    def _ended(self, job: Job) -> None:
        job.expires_at = int(self._clock() + self._seconds)

    def _expire(self) -> None:
        for job in list(self._jobs.values()):
            if job.expires_at is not None and job.expires_at <= self._clock():
                self.forget(job)

    def get(self, id: str) -> Job:
        """Return a job; JobNotFound if it is gone."""
        self._expire()
        if id not in self._jobs:
            raise JobNotFound(id)
        return self._jobs[id]

    def forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
